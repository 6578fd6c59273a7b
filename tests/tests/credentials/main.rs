//! Credential helpers that ask servers: Amazon's against moto and Debian's registry, the others against servers that look at every
//! field.

mod amazon;
mod azure;
mod google;
mod metadata;
mod policy;

use cofferdam_tests::{Cloud, Finished, Program, Site};

/// `cofferdam plugin run NAME …` with the cloud in sight and these variables.
#[track_caller]
fn helper(site: &Site, cloud: &Cloud, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let program = cloud.seen_by(Program::new(&site.store()).natively()).current_dir(site.path());
    let program = variables.iter().fold(program, |program, (name, value)| program.env(name, value));
    program.args(["plugin", "run"]).args(arguments).run()
}

/// The fields of a form, decoded.
fn fields(body: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            let digits: Vec<u8> = if byte == b'%' { rest.by_ref().take(2).collect() } else { Vec::new() };
            let digits = std::str::from_utf8(&digits).expect("ASCII");
            bytes.push(u8::from_str_radix(digits, 16).unwrap_or(byte));
        }
        String::from_utf8(bytes).expect("UTF-8")
    };
    let pairs = body.split('&').filter_map(|field| field.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
