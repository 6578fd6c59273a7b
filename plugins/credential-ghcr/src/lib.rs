//! The token of a GitHub job, for `ghcr.io`: `GITHUB_TOKEN`, with `GITHUB_ACTOR` as the user.

use cofferdam_plugin_sdk::{
    CredentialHelper,
    credentials::{Answer, Basic, Error, Request, Sources, Web, basic},
};

/// The helper.
pub struct Ghcr;

cofferdam_plugin_sdk::export_credentials!(crate::Ghcr);

/// GitHub looks at the token alone, but a user name there must be.
const ANY_USER: &str = "unset";

impl CredentialHelper for Ghcr {
    // The manifest names the one host, and the host program asks for no other.
    fn get(_: &Request, sources: &dyn Sources, _web: &dyn Web) -> Result<Option<Answer>, Error> {
        let Some(password) = sources.value("GITHUB_TOKEN")? else { return Ok(None) };
        let username = sources.value("GITHUB_ACTOR")?.unwrap_or_else(|| ANY_USER.to_owned());
        Ok(Some(basic(Basic { username, password })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{MemorySources, basic_of};

    fn get(variables: &[(&str, &str)]) -> Option<String> {
        basic_of::<Ghcr>("ghcr.io", &MemorySources::of(variables))
    }

    #[test]
    fn the_token_is_the_password() {
        assert_eq!(get(&[("GITHUB_ACTOR", "octo"), ("GITHUB_TOKEN", "t")]).as_deref(), Some("octo t"));
        assert_eq!(get(&[("GITHUB_TOKEN", "t")]).as_deref(), Some("unset t"));
        assert_eq!(get(&[("GITHUB_ACTOR", "octo"), ("GITHUB_TOKEN", "")]), None);
        assert_eq!(get(&[]), None);
    }
}
