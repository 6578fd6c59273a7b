//! The rules, applied: the main tag, further ones, and whether there is `latest`.

use cofferdam_plugin_sdk::{Diagnostic, source::Reference, tags::TAG_LIMIT_BYTES};

use crate::{
    expression::{Surroundings, fill},
    flavor::Flavor,
    invalid,
    rule::{Event, Kind, Rule},
    version::Version,
};

/// The names of an image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The tag of the rule with the highest priority: the version.
    pub main: Option<String>,
    further: Vec<String>,
    latest: Option<bool>,
}

/// Applies the rules, the highest priority first.
///
/// # Errors
/// An expression is none.
pub fn image(mut rules: Vec<Rule>, flavor: &Flavor, surroundings: &Surroundings<'_>) -> Result<Image, Diagnostic> {
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
    let mut image = Image::default();
    for rule in &rules {
        let enabled = surroundings.fill(&rule.enable)?;
        match enabled.as_str() {
            "true" => {}
            "false" => continue,
            other => return Err(invalid(format!("`enable` is `true` or `false`, not `{other}`"))),
        }
        let Some((value, latest)) = made(rule, surroundings)? else { continue };
        let value = sanitized(&around(&value, rule, flavor, surroundings)?);
        if value.is_empty() {
            continue;
        }
        match &image.main {
            None => image.main = Some(value),
            Some(main) if *main == value || image.further.contains(&value) => {}
            Some(_) => image.further.push(value),
        }
        image.latest.get_or_insert(flavor.latest.unwrap_or(latest));
    }
    Ok(image)
}

impl Image {
    /// All tags, `latest` last.
    ///
    /// # Errors
    /// The flavor has an expression that is none.
    pub fn tags(&self, flavor: &Flavor, surroundings: &Surroundings<'_>) -> Result<Vec<String>, Diagnostic> {
        let mut tags: Vec<String> = self.main.iter().chain(&self.further).cloned().collect();
        if self.main.is_some() && self.latest == Some(true) {
            let part = |affix: &crate::flavor::Affix| match affix.on_latest {
                true => surroundings.fill(&affix.text),
                false => Ok(String::new()),
            };
            let latest = sanitized(&format!("{}latest{}", part(&flavor.prefix)?, part(&flavor.suffix)?));
            if !tags.contains(&latest) {
                tags.push(latest);
            }
        }
        Ok(tags)
    }
}

/// What a rule makes of the source, if it is about it, and whether it asks for `latest`.
fn made(rule: &Rule, surroundings: &Surroundings<'_>) -> Result<Option<(String, bool)>, Diagnostic> {
    let source = surroundings.source;
    // A value that was given, or the git tag.
    let subject = |value: &str| match value.is_empty() {
        false => surroundings.fill(value).map(Some),
        true => Ok(source.tag().map(str::to_owned)),
    };
    Ok(match &rule.kind {
        Kind::Schedule { .. } if !source.scheduled => None,
        Kind::Schedule { pattern } => Some((fill(pattern, |expression| surroundings.date(expression))?, false)),
        Kind::Version { scheme, pattern, value, part } => {
            let Some(mut text) = subject(value)? else { return Ok(None) };
            if let Some(part) = part {
                let Some(found) = part.captures(&text) else { return Ok(None) };
                let Some(found) = found.get(1).or_else(|| found.get(0)) else { return Ok(None) };
                text = found.as_str().to_owned();
            }
            let version = Version::parse(*scheme, &text.replace('/', "-"));
            version.map(|version| version.fill(pattern)).transpose()?
        }
        Kind::Match { part, group, value, .. } => {
            let Some(text) = subject(value)? else { return Ok(None) };
            let found = part.captures(&text);
            found.and_then(|found| Some((found.get(*group)?.as_str().to_owned(), true)))
        }
        Kind::Edge { branch } => {
            let is_it = match branch {
                Some(branch) => source.branch() == Some(branch),
                None => source.is_default_branch(),
            };
            is_it.then(|| ("edge".to_owned(), false))
        }
        Kind::Ref(event) => match (event, &source.reference) {
            (Event::Branch, Some(Reference::Branch(name))) => Some((name.clone(), false)),
            (Event::Tag, Some(Reference::Tag(name))) => Some((name.clone(), true)),
            (Event::Proposal, Some(Reference::Proposal(number))) => Some((number.clone(), false)),
            _ => None,
        },
        Kind::Raw { value } => Some((surroundings.fill(value)?, false)),
        Kind::Sha { long: true } => source.commit.clone().map(|commit| (commit, false)),
        Kind::Sha { long: false } => source.commit.is_some().then(|| (surroundings.short_commit(), false)),
    })
}

/// Prefix and suffix: the rule's, or else the flavor's.
fn around(value: &str, rule: &Rule, flavor: &Flavor, surroundings: &Surroundings<'_>) -> Result<String, Diagnostic> {
    let prefix = surroundings.fill(rule.prefix.as_ref().unwrap_or(&flavor.prefix.text))?;
    let suffix = surroundings.fill(rule.suffix.as_ref().unwrap_or(&flavor.suffix.text))?;
    Ok(format!("{prefix}{value}{suffix}"))
}

/// What no tag may have becomes `-`; none begins with `.` or `-`, or is too long.
fn sanitized(text: &str) -> String {
    let mut tag = String::new();
    let mut replaced = false;
    for character in text.chars() {
        let fine = character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
        match (fine, replaced) {
            (true, _) => tag.push(character),
            (false, false) => tag.push('-'),
            (false, true) => {}
        }
        replaced = !fine;
    }
    tag.trim_start_matches(['.', '-']).chars().take(TAG_LIMIT_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_tag_may_have_is_replaced() {
        assert_eq!(sanitized("feature/#1 ü_x"), "feature-1-_x");
        assert_eq!(sanitized(".-x"), "x");
        assert_eq!(sanitized("///"), "");
        assert_eq!(sanitized(&"a".repeat(200)).len(), 128);
    }
}
