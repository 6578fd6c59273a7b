//! EXPOSE.

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::error,
    instruction::{ConfigChange, Step},
};

use crate::{Reading, missing};

pub fn read(step: &Step, reading: &mut Reading) {
    if step.arguments.words.is_empty() {
        reading.findings.push(missing(step, "at least one port"));
    }
    // BuildKit sorts them as texts, which the history shows.
    let mut words: Vec<&String> = step.arguments.words.iter().collect();
    words.sort();
    for word in words {
        match ports(word) {
            Ok(ports) => reading.changes.extend(ports.into_iter().map(ConfigChange::Expose)),
            Err(finding) => reading.findings.push(finding),
        }
    }
}

/// `80` is `80/tcp`; `8000-8002/udp` is three ports.
fn ports(word: &str) -> Result<Vec<String>, Diagnostic> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, ""));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => {
            let message = format!("`{protocol}` of `{word}` is not a protocol of ports");
            return Err(error("InvalidProtocol", message).help("there are `tcp`, `udp` and `sctp`"));
        }
    };
    // Docker takes `address:host:container` and keeps the last part: where a port is published is not the image's choice.
    // That the rest has no effect is told by the language's own rules (ExposeInvalidFormat).
    let range = range.rsplit_once(':').map_or(range, |(_, container)| container);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (port(first, word)?, port(last, word)?);
    if last < first {
        return Err(error("InvalidPort", format!("the range `{word}` ends before it begins")));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn port(digits: &str, word: &str) -> Result<u16, Diagnostic> {
    let problem = || {
        error("InvalidPort", format!("`{word}` is not a port")).help(
            "write a number from 0 to 65535, a range such as `8000-8010`, and `/udp` or `/sctp` where it is not TCP",
        )
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().map_err(|_| problem()) } else { Err(problem()) }
}

#[cfg(test)]
mod tests {
    use crate::read;
    use cofferdam_plugin_sdk::{instruction::ConfigChange, testing::step};

    fn exposed(text: &str) -> Vec<String> {
        let changes = read(&step("EXPOSE", text).build()).changes;
        changes
            .into_iter()
            .map(|change| if let ConfigChange::Expose(port) = change { port } else { panic!() })
            .collect()
    }

    #[test]
    fn ports_are_normalised() {
        assert_eq!(exposed("80 53/UDP 90/"), ["53/udp", "80/tcp", "90/tcp"]);
        assert_eq!(exposed("8000-8002/udp"), ["8000/udp", "8001/udp", "8002/udp"]);
    }

    #[test]
    fn what_is_not_a_port_is_an_error() {
        for text in ["x", "80/icmp", "65536", "-1", "9-8", "+80", "8-", "80/tcp/udp", ""] {
            assert!(!read(&step("EXPOSE", text).build()).findings.is_empty(), "{text}");
        }
    }

    #[test]
    fn where_a_port_is_published_is_passed_over() {
        let reading = read(&step("EXPOSE", "127.0.0.1:8080:80").build());
        assert_eq!(reading.changes, [ConfigChange::Expose("80/tcp".into())]);
        assert!(reading.findings.is_empty());
    }
}
