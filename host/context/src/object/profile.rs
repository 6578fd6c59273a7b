//! The files that `aws configure` writes ("Shared config and credentials files" of the AWS SDKs reference).

use object_store::aws::AwsCredential;

use super::{CloudAccess, access::text_of};
use crate::FetchError;

/// What a profile says.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) keys: Option<Keys>,
    pub(super) region: Option<String>,
    /// A setting that means credentials from elsewhere, which are not fetched.
    pub(super) elsewhere: Option<&'static str>,
}

/// A pair of keys, with the session's token where they are temporary.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl Keys {
    /// As the library takes them; it ends the program for what a header can't hold.
    pub(super) fn credential(self) -> Result<AwsCredential, &'static str> {
        let fits = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        match fits(&self.id) && self.token.as_ref().is_none_or(fits) {
            true => Ok(AwsCredential { key_id: self.id, secret_key: self.secret, token: self.token }),
            false => Err("the access key or the session token has characters that none has"),
        }
    }
}

const ELSEWHERE: [&str; 6] =
    ["credential_process", "credential_source", "role_arn", "sso_account_id", "sso_session", "web_identity_token_file"];

impl Profile {
    /// The profile of a name, from the files that are there: `[NAME]`, or `[profile NAME]` as in the configuration.
    pub(super) fn read(name: &str, access: &CloudAccess) -> Result<Self, FetchError> {
        let mut found = Self::default();
        for path in &access.aws_files {
            let Some(content) = text_of(path)? else { continue };
            found.take(&content, name);
        }
        Ok(found)
    }

    /// Adds what a file says and no earlier one said.
    fn take(&mut self, content: &str, name: &str) {
        let setting = |key: &str| setting(content, name, key).filter(|value| !value.is_empty()).map(str::to_owned);
        if let (None, Some(id), Some(secret)) =
            (&self.keys, setting("aws_access_key_id"), setting("aws_secret_access_key"))
        {
            self.keys = Some(Keys { id, secret, token: setting("aws_session_token") });
        }
        if self.region.is_none() {
            self.region = setting("region");
        }
        if self.elsewhere.is_none() {
            self.elsewhere = ELSEWHERE.into_iter().find(|key| setting(key).is_some());
        }
    }
}

/// The value of a key in the profile's section. Indented lines belong to nested settings.
fn setting<'a>(content: &'a str, profile: &str, key: &str) -> Option<&'a str> {
    let mut inside = false;
    for line in content.lines() {
        if let Some(section) = line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let section = section.trim();
            inside = section.strip_prefix("profile ").unwrap_or(section).trim() == profile;
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

    #[test]
    fn the_first_file_that_says_something_counts() {
        let credentials = "[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n[ci]\n# aws_access_key_id = no\n\
                           aws_access_key_id=C\naws_secret_access_key = d\naws_session_token = t\n";
        let config = "[default]\nregion = eu-west-3\ns3 =\n  region = nested\n[profile other]\nsso_session = s\n";
        let profile = |name: &str| {
            let mut profile = Profile::default();
            profile.take(credentials, name);
            profile.take(config, name);
            profile
        };
        let default = profile("default");
        assert!(default.keys.is_some_and(|keys| (keys.id.as_str(), keys.secret.as_str()) == ("A", "b=c")));
        assert_eq!(default.region.as_deref(), Some("eu-west-3"));
        assert!(profile("ci").keys.is_some_and(|keys| keys.token.as_deref() == Some("t")));
        assert!(profile("other").keys.is_none() && profile("other").elsewhere == Some("sso_session"));
        assert!(profile("none") == Profile::default());
    }
}
