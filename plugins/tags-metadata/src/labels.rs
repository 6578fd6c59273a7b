//! What the image says of itself (OCI image specification, annotations.md, "Pre-Defined Annotation Keys").

use cofferdam_plugin_sdk::{Diagnostic, diagnostics::KeyValue, source::variable};
use jiff::Timestamp;

use crate::{expression::Surroundings, invalid};

/// `KEY=VALUE` as the user wrote it.
///
/// # Errors
/// It has no key, or no `=`.
pub fn pair(line: &str) -> Result<KeyValue, Diagnostic> {
    match line.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok(KeyValue { key: key.trim().to_owned(), value: value.trim().to_owned() })
        }
        _ => Err(invalid(format!("`{line}` is not KEY=VALUE"))),
    }
}

/// What follows from the facts; what they do not say is left out.
pub fn own(surroundings: &Surroundings<'_>, version: Option<&str>) -> Vec<KeyValue> {
    let facts = surroundings.facts;
    let either = |names: &[&str]| names.iter().find_map(|name| variable(facts, name));
    let url = either(&["event.repository.html_url", "CI_PROJECT_URL"]).or_else(|| {
        Some(format!("{}/{}", variable(facts, "GITHUB_SERVER_URL")?, variable(facts, "GITHUB_REPOSITORY")?))
    });
    let title = either(&["event.repository.name", "CI_PROJECT_TITLE", "CI_PROJECT_NAME"])
        .or_else(|| Some(variable(facts, "GITHUB_REPOSITORY")?.rsplit('/').next()?.to_owned()));
    let created = Timestamp::from_second(facts.date.seconds).ok();
    let labels = [
        ("created", created.map(|moment| moment.to_string())),
        ("description", either(&["event.repository.description", "CI_PROJECT_DESCRIPTION"])),
        ("licenses", either(&["event.repository.license.spdx_id"])),
        ("revision", surroundings.source.commit.clone()),
        ("source", url.clone()),
        ("title", title),
        ("url", url),
        ("version", version.map(str::to_owned)),
    ];
    let pair = |(name, value): (&str, Option<String>)| {
        Some(KeyValue { key: format!("org.opencontainers.image.{name}"), value: value? })
    };
    labels.into_iter().filter_map(pair).collect()
}

/// Ours, with the user's over them; sorted by key.
///
/// # Errors
/// A value has an expression that is none.
pub fn with(
    own: &[KeyValue],
    users: &[KeyValue],
    surroundings: &Surroundings<'_>,
) -> Result<Vec<KeyValue>, Diagnostic> {
    let mut all = own.to_vec();
    for user in users {
        let value = surroundings.fill(&user.value)?;
        all.retain(|known| known.key != user.key);
        all.push(KeyValue { key: user.key.clone(), value });
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(all)
}
