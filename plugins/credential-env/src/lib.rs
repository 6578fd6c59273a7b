//! Credentials from `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`.
//!
//! `<HOST>` is the registry's host in upper case with `_` for everything that is no letter or digit. Labels may be left out
//! at its front, but not down to a single one: `KANIKO_COM_USER` would be every company's.

use cofferdam_plugin_sdk::{
    CredentialHelper,
    credentials::{Answer, Error, Request, Sources, Web, basic},
};

/// The helper.
pub struct Variables;

cofferdam_plugin_sdk::export_credentials!(crate::Variables);

/// Docker Hub under the name that its configuration has, which Kaniko asks for, and under the one in references.
const DOCKER_HUB: [&str; 2] = ["index.docker.io", "docker.io"];

impl CredentialHelper for Variables {
    fn get(request: &Request, sources: &dyn Sources, _web: &dyn Web) -> Result<Option<Answer>, Error> {
        let hosts = if request.host == DOCKER_HUB[1] { &DOCKER_HUB[..] } else { &[request.host.as_str()][..] };
        for name in hosts.iter().flat_map(|host| names(host)) {
            let found = sources.pair(&format!("KANIKO_{name}_USER"), &format!("KANIKO_{name}_PASSWORD"))?;
            if found.is_some() {
                return Ok(found.map(basic));
            }
        }
        Ok(None)
    }
}

/// What may stand for a host in a variable's name, the longest first.
fn names(host: &str) -> Vec<String> {
    let in_variable = |text: &str| {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect::<String>()
    };
    let mut names = vec![in_variable(host)];
    // An address has no labels.
    let is_name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.starts_with('[');
    let mut rest = host;
    while let Some((_, shorter)) = rest.split_once('.').filter(|(_, shorter)| is_name && shorter.contains('.')) {
        names.push(in_variable(shorter));
        rest = shorter;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{MemorySources, basic_of};

    fn get(prefix: &str, host: &str) -> Option<String> {
        let (user, password) = (format!("KANIKO_{prefix}_USER"), format!("KANIKO_{prefix}_PASSWORD"));
        basic_of::<Variables>(host, &MemorySources::of(&[(&user, "u"), (&password, "p")]))
    }

    #[test]
    fn the_name_of_the_variable_is_the_host_s() {
        for (prefix, host) in [
            ("REGISTRY_EXAMPLE", "registry.example"),
            ("MY_REG_EXAMPLE_COM_5000", "my-reg.example.com:5000"),
            ("EXAMPLE_COM", "reg.example.com"),
            ("EXAMPLE_COM", "a.reg.example.com"),
            ("LOCALHOST_5000", "localhost:5000"),
            ("127_0_0_1_5000", "127.0.0.1:5000"),
            ("DOCKER_IO", "docker.io"),
            ("INDEX_DOCKER_IO", "docker.io"),
        ] {
            assert_eq!(get(prefix, host).as_deref(), Some("u p"), "{prefix} {host}");
        }
    }

    #[test]
    fn other_hosts_have_other_names() {
        for (prefix, host) in [
            ("REGISTRY_EXAMPLE", "registry.example.evil.example"),
            ("REGISTRY_EXAMPLE", "xregistry.example"),
            ("REGISTRY_EXAMPLE", "registry.example:5000"),
            ("COM", "reg.example.com"),
            ("1_5000", "127.0.0.1:5000"),
            ("0_0_1_5000", "127.0.0.1:5000"),
        ] {
            assert_eq!(get(prefix, host), None, "{prefix} {host}");
        }
    }

    #[test]
    fn the_longest_name_counts_and_half_a_credential_is_none() {
        let variables = [
            ("KANIKO_A_EXAMPLE_COM_USER", "long"),
            ("KANIKO_A_EXAMPLE_COM_PASSWORD", ""),
            ("KANIKO_EXAMPLE_COM_USER", "short"),
            ("KANIKO_EXAMPLE_COM_PASSWORD", "s"),
        ];
        let get = |variables| basic_of::<Variables>("a.example.com", &MemorySources::of(variables));
        assert_eq!(get(&variables).as_deref(), Some("short s"));
        let whole = [variables[0], ("KANIKO_A_EXAMPLE_COM_PASSWORD", "l"), variables[2], variables[3]];
        assert_eq!(get(&whole).as_deref(), Some("long l"));
        assert_eq!(get(&variables[..2]), None);
    }
}
