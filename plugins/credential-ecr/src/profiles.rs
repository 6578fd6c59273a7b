//! The files that `aws configure` writes ("Shared config and credentials files" of the AWS SDKs reference).

use cofferdam_plugin_sdk::credentials::{Error, Sources};

use crate::{problem, signature::Keys};

/// Settings of a profile that mean credentials from elsewhere, which this helper does not fetch.
const ELSEWHERE: [&str; 6] =
    ["credential_process", "credential_source", "role_arn", "sso_account_id", "sso_session", "web_identity_token_file"];

/// The keys of a profile, if either file has them. `chosen` is whether somebody asked for this profile: then it must have some.
pub fn find(name: &str, chosen: bool, sources: &dyn Sources) -> Result<Option<Keys>, Error> {
    let mut elsewhere = None;
    for (file, section) in [("aws-credentials", name.to_owned()), ("aws-config", section_of_config(name))] {
        let Some(content) = sources.file(file)? else { continue };
        let content = String::from_utf8_lossy(&content);
        let value = |key: &str| setting(&content, &section, key).filter(|value| !value.is_empty());
        if let (Some(id), Some(secret)) = (value("aws_access_key_id"), value("aws_secret_access_key")) {
            let token = value("aws_session_token").map(str::to_owned);
            return Ok(Some(Keys { id: id.to_owned(), secret: secret.to_owned(), token }));
        }
        elsewhere = elsewhere.or_else(|| ELSEWHERE.into_iter().find(|key| value(key).is_some()));
    }
    match elsewhere {
        Some(key) => Err(Error::Unsupported(problem(format!(
            "the AWS profile `{name}` gets its credentials by `{key}`, which this helper does not do: set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE"
        )))),
        None if chosen => {
            Err(Error::Invalid(problem(format!("no file of AWS's has keys for the profile `{name}` (AWS_PROFILE)"))))
        }
        None => Ok(None),
    }
}

fn section_of_config(name: &str) -> String {
    if name == "default" { name.to_owned() } else { format!("profile {name}") }
}

/// The value of a key in a section. Indented lines belong to nested settings.
fn setting<'a>(content: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut inside = false;
    for line in content.lines() {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = name.split_whitespace().eq(section.split_whitespace());
        } else if inside
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(value.trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::MemorySources;

    fn sources(files: &[(&str, &str)]) -> MemorySources {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
        MemorySources { files: files.collect(), ..MemorySources::default() }
    }

    #[test]
    fn a_profile_has_its_own_keys() {
        let credentials = "[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n[ci]\n# aws_access_key_id = no\n\
                           aws_access_key_id=C\naws_secret_access_key = d\naws_session_token = t\n";
        let config = "[default]\nregion = x\ns3 =\n  aws_access_key_id = nested\n[profile other]\n\
                      aws_access_key_id = E\naws_secret_access_key = f\n";
        let sources = sources(&[("aws-credentials", credentials), ("aws-config", config)]);
        let found = |name| find(name, true, &sources).ok().flatten().map(|keys| (keys.id, keys.secret, keys.token));
        assert_eq!(found("default"), Some(("A".into(), "b=c".into(), None)));
        assert_eq!(found("ci"), Some(("C".into(), "d".into(), Some("t".into()))));
        assert_eq!(found("other"), Some(("E".into(), "f".into(), None)));
        assert_eq!(found("none"), None);
    }

    #[test]
    fn credentials_from_elsewhere_are_named() {
        let sources = sources(&[("aws-config", "[default]\ncredential_process = /bin/evil\n")]);
        let Err(Error::Unsupported(found)) = find("default", false, &sources) else { panic!("not unsupported") };
        assert!(found.message.contains("`credential_process`"), "{}", found.message);
        assert!(find("default", false, &MemorySources::default()).is_ok_and(|keys| keys.is_none()));
        assert!(find("default", true, &MemorySources::default()).is_err());
    }
}
