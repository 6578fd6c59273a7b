//! Tagging policies.

use std::marker::PhantomData;

use crate::bindings::tags::exports::cofferdam::tags::policy::Guest;
pub use crate::bindings::{
    instruction::cofferdam::types::diagnostics::Error,
    tags::exports::cofferdam::tags::policy::{
        CiFacts, Decision, Facts, GitFacts, Naming, PublishedTag, Refusal, Requested,
    },
};
use crate::{DiagnosticExt, diagnostics::error};

impl From<crate::Diagnostic> for Error {
    fn from(finding: crate::Diagnostic) -> Self {
        Self::Invalid(finding)
    }
}

/// The longest tag (OCI Distribution Specification 1.1, "Pulling manifests": a tag matches
/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
pub const TAG_LIMIT_BYTES: usize = 128;

/// Decides tags.
pub trait TagPolicy: 'static {
    /// Decides: the same answer for the same facts, always. Called before the build without a digest, and again with it.
    ///
    /// # Errors
    /// The request or an option can't be understood; a reason not to push is [`Decision::Refused`] instead.
    fn decide(facts: &Facts, requested: &Requested) -> Result<Decision, Error>;
}

/// Exports a type that implements [`TagPolicy`] as this component's policy.
#[macro_export]
macro_rules! export_tags {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod exported {
            type Exported = $crate::tags::Adapter<$policy>;
            $crate::bindings::tags::export_policy!(Exported with_types_in $crate::bindings::tags);
        }
    };
}

/// Puts a [`TagPolicy`] behind the generated trait; [`export_tags!`] uses it.
pub struct Adapter<T>(PhantomData<T>);

impl<T: TagPolicy> Guest for Adapter<T> {
    fn decide(facts: Facts, requested: Requested) -> Result<Decision, Error> {
        T::decide(&facts, &requested)
    }
}

/// A decision with tags alone.
pub fn push(tags: Vec<String>) -> Decision {
    Decision::Push(Naming { tags, labels: Vec::new(), annotations: Vec::new() })
}

/// A decision not to push.
pub fn refused(reason: impl Into<String>, help: impl Into<String>) -> Decision {
    Decision::Refused(Refusal { reason: reason.into(), help: Some(help.into()) })
}

/// Adds tags that are not among them yet.
///
/// # Errors
/// One is not a tag.
pub fn add(tags: &mut Vec<String>, more: impl IntoIterator<Item = String>) -> Result<(), Error> {
    for tag in more {
        if !is_valid_tag(&tag) {
            let help = format!(
                "a tag has letters, digits, `_`, `.` and `-`, does not begin with `.` or `-`, and is at most \
                 {TAG_LIMIT_BYTES} bytes long"
            );
            return Err(Error::Invalid(error("InvalidTag", format!("`{tag}` is not a tag")).help(help)));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(())
}

/// An option that a policy does not know.
pub fn unknown_option(policy: &str, key: &str, known: &str) -> Error {
    Error::Invalid(error("UnknownOption", format!("the policy `{policy}` has no option `{key}`")).help(known))
}

/// An option that is `true` or `false`.
///
/// # Errors
/// It is neither.
pub fn boolean(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        other => {
            let message = format!("the option `{key}` is `true` or `false`, not `{other}`");
            Err(Error::Invalid(error("InvalidOption", message)))
        }
    }
}

/// Whether a registry takes this text as a tag.
pub fn is_valid_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_LIMIT_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// A branch's name as a tag: lower case, every run of other characters one `-`, none at either end, at most 63 bytes
/// (GitLab's `CI_COMMIT_REF_SLUG`). Empty if nothing of the name remains.
pub fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for character in name.chars() {
        let lower = character.to_ascii_lowercase();
        if lower.is_ascii_alphanumeric() {
            slug.push(lower);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(63);
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_what_the_distribution_specification_allows() {
        for tag in ["latest", "1.2.3", "_x", "A-b_c.d", &"a".repeat(128)] {
            assert!(is_valid_tag(tag), "{tag}");
        }
        for tag in ["", ".a", "-a", "a/b", "a b", "ä", "a:b", &"a".repeat(129)] {
            assert!(!is_valid_tag(tag), "{tag}");
        }
    }

    #[test]
    fn slugs_are_what_gitlab_makes_of_a_branch() {
        assert_eq!(slug("feature/Über-Größe_2"), "feature-ber-gr-e-2");
        assert_eq!(slug("main"), "main");
        assert_eq!(slug("--x--"), "x");
        assert_eq!(slug("日本"), "");
        assert_eq!(slug(&format!("{}-/-{}", "a".repeat(62), "b".repeat(9))), "a".repeat(62));
    }
}
