//! What stands between `{{` and `}}`.

use cofferdam_plugin_sdk::{
    Diagnostic,
    source::{Reference, Source},
    tags::Facts,
};

use crate::{invalid, moment};

/// What expressions are about.
pub struct Surroundings<'f> {
    /// As the host has them.
    pub facts: &'f Facts,
    /// What is built.
    pub source: &'f Source,
    /// Digits of a commit that is written short.
    pub short_digits: usize,
}

impl Surroundings<'_> {
    /// The commit, written short.
    pub fn short_commit(&self) -> String {
        self.source.commit.iter().flat_map(|commit| commit.chars().take(self.short_digits)).collect()
    }

    /// Fills in the nine expressions that stand anywhere.
    ///
    /// # Errors
    /// There is no such expression.
    pub fn fill(&self, text: &str) -> Result<String, Diagnostic> {
        fill(text, |expression| self.global(expression))
    }

    fn global(&self, expression: &Expression) -> Result<Option<String>, Diagnostic> {
        let source = self.source;
        if let Some(date) = self.date(expression)? {
            return Ok(Some(date));
        }
        Ok(Some(match expression.name.as_str() {
            "branch" => source.branch().unwrap_or_default().to_owned(),
            "tag" => source.tag().unwrap_or_default().to_owned(),
            "sha" => self.short_commit(),
            "base_ref" => match &source.reference {
                Some(Reference::Proposal(_)) => source.base.clone().unwrap_or_default(),
                _ => String::new(),
            },
            "is_default_branch" => self.is_default_branch().to_string(),
            "is_not_default_branch" => (!self.is_default_branch()).to_string(),
            _ => return Ok(None),
        }))
    }

    /// `date 'FORMAT' tz='ZONE'` and `commit_date`, or something else.
    ///
    /// # Errors
    /// The format or the zone is none.
    pub fn date(&self, expression: &Expression) -> Result<Option<String>, Diagnostic> {
        let moment = match expression.name.as_str() {
            "date" => self.facts.date,
            "commit_date" => self.facts.git.as_ref().map_or(self.facts.date, |git| git.commit_time),
            _ => return Ok(None),
        };
        moment::format(moment.seconds, expression).map(Some)
    }

    /// Schedules run on the default branch's last commit.
    fn is_default_branch(&self) -> bool {
        self.source.is_default_branch() || self.source.scheduled
    }
}

/// `name 'argument' key='value'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The first word.
    pub name: String,
    /// The text after it.
    pub argument: Option<String>,
    /// Named texts.
    pub named: Vec<(String, String)>,
}

impl Expression {
    fn parse(text: &str) -> Result<Self, Diagnostic> {
        let wrong = || invalid(format!("`{{{{{text}}}}}` is no expression"));
        let mut rest = text.trim();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = rest[end..].trim_start();
        let mut expression = Self { name, argument: None, named: Vec::new() };
        while !rest.is_empty() {
            let (key, quoted) = match rest.starts_with(['\'', '"']) {
                true => (None, rest),
                false => rest.split_once('=').map(|(key, value)| (Some(key), value)).ok_or_else(wrong)?,
            };
            let quote = quoted.chars().next().filter(|quote| matches!(quote, '\'' | '"')).ok_or_else(wrong)?;
            let (value, after) = quoted[1..].split_once(quote).ok_or_else(wrong)?;
            match key {
                Some(key) => expression.named.push((key.to_owned(), value.to_owned())),
                None if expression.argument.is_none() => expression.argument = Some(value.to_owned()),
                None => return Err(wrong()),
            }
            rest = after.trim_start();
        }
        Ok(expression)
    }
}

/// Replaces each expression by what `answer` makes of it.
///
/// # Errors
/// It makes nothing of one, or one is not closed.
pub fn fill(
    text: &str,
    answer: impl Fn(&Expression) -> Result<Option<String>, Diagnostic>,
) -> Result<String, Diagnostic> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) =
            after.split_once("}}").ok_or_else(|| invalid(format!("`{{{{` is not closed in `{text}`")))?;
        let expression = Expression::parse(inside)?;
        let unknown = || invalid(format!("there is no expression `{}` here", expression.name));
        filled.push_str(before);
        filled.push_str(&answer(&expression)?.ok_or_else(unknown)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Whether a text is one expression of this name and nothing else.
pub fn is_only(text: &str, name: &str) -> bool {
    let inside = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    inside.is_some_and(|inside| inside.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::FactsBuilder;

    #[test]
    fn the_nine_expressions_are_filled_in() {
        let variables = [("GITHUB_REF", "refs/heads/main"), ("GITHUB_SHA", "860c1904a1ce19322e91ac35af1ab07466440c37")];
        let facts = FactsBuilder::default().default_branch("main").system("github", &variables).build();
        let source = Source::of(&facts);
        let surroundings = Surroundings { facts: &facts, source: &source, short_digits: 7 };
        for (text, expected) in [
            ("{{branch}}-{{ sha }}", "main-860c190"),
            ("[{{tag}}{{base_ref}}]", "[]"),
            ("{{is_default_branch}} {{is_not_default_branch}}", "true false"),
            ("{{date 'YYYYMMDD-HHmmss' tz='Asia/Tokyo'}}", "20200110-093000"),
            ("{{commit_date \"YYYY\"}}", "2020"),
            ("none", "none"),
        ] {
            assert_eq!(surroundings.fill(text).unwrap(), expected, "{text}");
        }
        for wrong in ["{{branch", "{{nope}}", "{{date 'Y' tz=UTC}}", "{{date 'Y' zone='UTC'}}", "{{date 'a' 'b'}}"] {
            assert!(surroundings.fill(wrong).is_err(), "{wrong}");
        }
    }
}
