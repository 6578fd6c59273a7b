//! Credentials from a docker `config.json`, whose path the operator grants as `file:docker-config`.
//!
//! Only `auths` counts: `credsStore` and `credHelpers` name native programs, which this builder does not run. No message
//! quotes the file: it is full of secrets.

mod keys;

use cofferdam_plugin_sdk::{
    CredentialHelper, Diagnostic, DiagnosticExt, base64,
    credentials::{Answer, Basic, Credential, Error, Request, Sources, Web},
    diagnostics::error,
    json::{self, Value},
};

/// The helper.
pub struct DockerConfig;

cofferdam_plugin_sdk::export_credentials!(crate::DockerConfig);

/// The user name that marks a password as an identity token, as `docker login` writes it.
const TOKEN_USER: &str = "<token>";

impl CredentialHelper for DockerConfig {
    fn get(request: &Request, sources: &dyn Sources, _web: &dyn Web) -> Result<Option<Answer>, Error> {
        let Some(content) = sources.file("docker-config")? else { return Ok(None) };
        find(request, &content).map_err(Error::Invalid)
    }
}

fn find(request: &Request, content: &[u8]) -> Result<Option<Answer>, Diagnostic> {
    let text = std::str::from_utf8(content).map_err(|_| malformed("it is not UTF-8"))?;
    let config = json::parse(text).map_err(|at| malformed(&format!("it is not JSON at byte {}", at.offset)))?;
    let auths = match config.get("auths") {
        Some(Value::Object(auths)) => auths,
        None if matches!(config, Value::Object(_)) => return Ok(None),
        _ => return Err(malformed("`auths` is not an object")),
    };
    // Most specific first; an entry without a credential (left behind by a credential store) hides nothing.
    for key in keys::best_first(auths.keys(), request) {
        if let Some(credential) = credential(key, &auths[key])? {
            return Ok(Some(Answer { credential, expires_at: None }));
        }
    }
    Ok(None)
}

fn credential(key: &str, entry: &Value) -> Result<Option<Credential>, Diagnostic> {
    let Value::Object(_) = entry else {
        return Err(malformed(&format!("the entry `{}` is not an object", shown(key))));
    };
    // A credential of another type is a mistake that the registry would only call "unauthorized".
    let field = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
        Some(_) => Err(malformed(&format!("`{name}` of the entry `{}` is not a text", shown(key)))),
    };
    if let Some(token) = field("identitytoken")? {
        return Ok(Some(Credential::IdentityToken(token.to_owned())));
    }
    if let Some(token) = field("registrytoken")? {
        return Ok(Some(Credential::Bearer(token.to_owned())));
    }
    let (username, password) = match field("auth")? {
        Some(encoded) => decode(key, encoded)?,
        None => match (field("username")?, field("password")?) {
            (Some(username), Some(password)) => (username.to_owned(), password.to_owned()),
            _ => return Ok(None),
        },
    };
    Ok(Some(match username == TOKEN_USER {
        true => Credential::IdentityToken(password),
        false => Credential::Basic(Basic { username, password }),
    }))
}

/// `auth` is `username:password` in base64; the password may hold colons, and docker pads with zero bytes.
fn decode(key: &str, encoded: &str) -> Result<(String, String), Diagnostic> {
    let problem = || {
        malformed(&format!("`auth` of the entry `{}` is not `username:password` in base64", shown(key)))
            .help("run `docker login` again, or write `printf '%s' \"$USER:$PASSWORD\" | base64`")
    };
    let decoded = base64::decode(encoded.trim()).ok_or_else(problem)?;
    let decoded = String::from_utf8(decoded).map_err(|_| problem())?;
    let (username, password) = decoded.split_once(':').ok_or_else(problem)?;
    if username.is_empty() {
        return Err(problem());
    }
    Ok((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// A key for a message: what stands before an `@` might be a password that somebody pasted into the URL.
fn shown(key: &str) -> &str {
    key.rsplit_once('@').map_or(key, |(_, host)| host)
}

fn malformed(what: &str) -> Diagnostic {
    error("MalformedDockerConfig", format!("the docker configuration can't be used: {what}"))
        .help("correct it, or log in again, which writes it anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{MemorySources, Servers, push_to};

    fn get(config: &str, host: &str, repository: Option<&str>) -> Result<Option<Credential>, Error> {
        let mut sources = MemorySources::default();
        sources.files.insert("docker-config".into(), config.into());
        let request = Request { repository: repository.map(str::to_owned), ..push_to(host) };
        Ok(DockerConfig::get(&request, &sources, &Servers::default())?.map(|answer| answer.credential))
    }

    fn shape(credential: Option<Credential>) -> String {
        match credential {
            None => "none".into(),
            Some(Credential::Basic(basic)) => format!("basic {} {}", basic.username, basic.password),
            Some(Credential::Bearer(token)) => format!("bearer {token}"),
            Some(Credential::IdentityToken(token)) => format!("identity {token}"),
        }
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        for (entry, expected) in [
            (r#"{"auth": "dXNlcjpwYTpzcw=="}"#, "basic user pa:ss"),
            (r#"{"auth": "dXNlcjpwYTpzcw=="  , "username": "x", "password": "y"}"#, "basic user pa:ss"),
            (r#"{"username": "u", "password": "p"}"#, "basic u p"),
            (r#"{"auth": "dXNlcjpwYTpzcw==", "identitytoken": "t"}"#, "identity t"),
            (r#"{"registrytoken": "r"}"#, "bearer r"),
            (r#"{"auth": "PHRva2VuPjp0"}"#, "identity t"),
            (r#"{"auth": "dTpwAAA="}"#, "basic u p"),
            ("{}", "none"),
            (r#"{"auth": ""}"#, "none"),
            (r#"{"auth": null}"#, "none"),
        ] {
            let config = format!(r#"{{"auths": {{"registry.example": {entry}}}}}"#);
            assert_eq!(shape(get(&config, "registry.example", None).unwrap()), expected, "{entry}");
        }
    }

    #[test]
    fn docker_hub_has_its_own_key() {
        let config = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
        assert_eq!(shape(get(config, "docker.io", Some("library/busybox")).unwrap()), "basic u p");
        assert_eq!(shape(get(config, "ghcr.io", None).unwrap()), "none");
    }

    #[test]
    fn the_most_specific_entry_with_a_credential_wins() {
        let config = r#"{"auths": {
            "r.example/a/b": {}, "r.example/a": {"auth": "YTph"}, "r.example": {"auth": "aDpo"}}}"#;
        assert_eq!(shape(get(config, "r.example", Some("a/b/c")).unwrap()), "basic a a");
        assert_eq!(shape(get(config, "r.example", Some("ab/c")).unwrap()), "basic h h");
        assert_eq!(shape(get(config, "r.example", None).unwrap()), "basic h h");
    }

    #[test]
    fn malformed_files_are_errors_that_do_not_quote_them() {
        for config in [
            r#"{"auths": {"registry.example": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": {"registry.example": {"auth": "s3cret!!"}}}"#,
            r#"{"auths": {"registry.example": "s3cret"}}"#,
            r#"{"auths": {"registry.example": {"auth": ["s3cret"]}}}"#,
            r#"{"auths": {"registry.example": {"auth": {"s3cret": 1}}}}"#,
            r#"{"auths": {"registry.example": {"auth": 7}}}"#,
            r#"{"auths": {"registry.example": {"identitytoken": true, "auth": "dTpw"}}}"#,
            r#"{"auths": {"registry.example": {"username": "s3cret", "password": 7}}}"#,
            r#"{"auths": ["s3cret"]}"#,
            r#"{"auths": s3cret"#,
            "s3cret",
        ] {
            let Err(Error::Invalid(finding)) = get(config, "registry.example", None) else { panic!("{config}") };
            let text = format!("{} {:?}", finding.message, finding.help);
            assert!(!text.contains("s3cret") && !text.contains("c2VjcmV0") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_broken_entry_of_another_host_does_no_harm() {
        let config = r#"{"auths": {"other.example": {"auth": "!"}, "registry.example": {"auth": "dTpw"}}}"#;
        assert_eq!(shape(get(config, "registry.example", None).unwrap()), "basic u p");
    }

    #[test]
    fn without_a_file_or_auths_there_is_nothing() {
        let found = DockerConfig::get(&push_to("r.example"), &MemorySources::default(), &Servers::default());
        assert!(found.unwrap().is_none());
        assert_eq!(shape(get(r#"{"credsStore": "desktop"}"#, "r.example", None).unwrap()), "none");
    }
}
