//! One rule for tags: a type and its attributes.

use cofferdam_plugin_sdk::Diagnostic;
use regex_lite::{Regex, RegexBuilder};

use crate::{fields::fields, invalid};

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What the tag is made of.
    pub kind: Kind,
    /// Whether it counts: an expression.
    pub enable: String,
    /// The highest one comes first, and names the version.
    pub priority: i64,
    /// An expression; without it, the flavor's.
    pub prefix: Option<String>,
    /// As `prefix`.
    pub suffix: Option<String>,
}

/// What a tag is made of.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A scheduled build.
    Schedule {
        /// An expression.
        pattern: String,
    },
    /// A version, by Semantic Versioning or by PEP 440.
    Version {
        /// Which of the two.
        scheme: Scheme,
        /// `{{version}}`, `{{major}}.{{minor}}`, …
        pattern: String,
        /// An expression; without it, the git tag.
        value: String,
        /// What of it is the version.
        part: Option<Regex>,
    },
    /// A part of a git tag.
    Match {
        /// What of it is used.
        part: Regex,
        /// The group that is used; 0 is all that matched.
        group: usize,
        /// An expression; without it, the git tag.
        value: String,
    },
    /// The last commit of the branch that is worked on.
    Edge {
        /// Which; without it, the default branch.
        branch: Option<String>,
    },
    /// The name of what is built.
    Ref(Event),
    /// A text.
    Raw {
        /// An expression.
        value: String,
    },
    /// The commit.
    Sha {
        /// Whether all of its digits are used.
        long: bool,
    },
}

/// How versions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Semantic Versioning 2.0.0.
    Semver,
    /// PEP 440.
    Pep440,
}

/// What is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A branch.
    Branch,
    /// A git tag.
    Tag,
    /// A pull or merge request.
    Proposal,
}

impl Rule {
    /// Reads a line.
    ///
    /// # Errors
    /// It has an unknown type or attribute, lacks one, or has a value that is none.
    pub fn parse(line: &str) -> Result<Self, Diagnostic> {
        let mut attributes = Attributes { line, found: Vec::new() };
        let mut kind = None;
        for (key, value) in fields(line)? {
            match key.as_deref() {
                Some("type") => kind = Some(value),
                Some(key) => attributes.found.push((key.to_owned(), value)),
                None => attributes.found.push(("value".to_owned(), value)),
            }
        }
        let kind = kind.unwrap_or_else(|| "raw".to_owned());
        let (kind, priority, usual_prefix) = attributes.kind(&kind)?;
        let rule = Self {
            kind,
            enable: attributes.take("enable").unwrap_or_else(|| "true".to_owned()),
            priority: match attributes.take("priority") {
                None => priority,
                Some(text) => text.parse().map_err(|_| attributes.wrong("priority", &text, "a number"))?,
            },
            prefix: attributes.take("prefix").or_else(|| usual_prefix.map(str::to_owned)),
            suffix: attributes.take("suffix"),
        };
        match attributes.found.first() {
            None => Ok(rule),
            Some((key, _)) => Err(invalid(format!("`{line}`: there is no attribute `{key}` for this type"))),
        }
    }

    /// What counts where no rules are given.
    pub fn usual() -> Vec<Self> {
        let rule = |kind, priority, prefix: Option<&str>| Self {
            kind,
            enable: "true".to_owned(),
            priority,
            prefix: prefix.map(str::to_owned),
            suffix: None,
        };
        vec![
            rule(Kind::Schedule { pattern: NIGHTLY.to_owned() }, 1000, None),
            rule(Kind::Ref(Event::Branch), 600, None),
            rule(Kind::Ref(Event::Tag), 600, None),
            rule(Kind::Ref(Event::Proposal), 600, Some(PROPOSAL_PREFIX)),
        ]
    }
}

const NIGHTLY: &str = "nightly";
const PROPOSAL_PREFIX: &str = "pr-";

struct Attributes<'l> {
    line: &'l str,
    found: Vec<(String, String)>,
}

impl Attributes<'_> {
    /// The last one counts.
    fn take(&mut self, name: &str) -> Option<String> {
        let mut value = None;
        self.found.retain(|(key, found)| {
            let is_it = key == name;
            if is_it {
                value = Some(found.clone());
            }
            !is_it
        });
        value
    }

    fn need(&mut self, name: &str) -> Result<String, Diagnostic> {
        self.take(name).ok_or_else(|| invalid(format!("`{}` needs the attribute `{name}`", self.line)))
    }

    fn wrong(&self, name: &str, value: &str, expected: &str) -> Diagnostic {
        invalid(format!("`{}`: `{name}` is {expected}, not `{value}`", self.line))
    }

    /// What is made, its priority, and its prefix unless the user gave one.
    fn kind(&mut self, name: &str) -> Result<(Kind, i64, Option<&'static str>), Diagnostic> {
        Ok(match name {
            "schedule" => {
                (Kind::Schedule { pattern: self.take("pattern").unwrap_or_else(|| NIGHTLY.to_owned()) }, 1000, None)
            }
            "semver" => (self.version(Scheme::Semver)?, 900, None),
            "pep440" => (self.version(Scheme::Pep440)?, 900, None),
            "match" => {
                let pattern = self.need("pattern")?;
                let group = self.take("group").unwrap_or_else(|| "0".to_owned());
                let kind = Kind::Match {
                    part: regex(&pattern).map_err(|why| self.wrong("pattern", &pattern, &why))?,
                    group: group.parse().map_err(|_| self.wrong("group", &group, "a number"))?,
                    value: self.take("value").unwrap_or_default(),
                };
                (kind, 800, None)
            }
            "edge" => (Kind::Edge { branch: self.take("branch").filter(|name| !name.is_empty()) }, 700, None),
            "ref" => {
                let event = self.need("event")?;
                match event.as_str() {
                    "branch" => (Kind::Ref(Event::Branch), 600, None),
                    "tag" => (Kind::Ref(Event::Tag), 600, None),
                    "pr" => (Kind::Ref(Event::Proposal), 600, Some(PROPOSAL_PREFIX)),
                    other => return Err(self.wrong("event", other, "`branch`, `tag` or `pr`")),
                }
            }
            "raw" => (Kind::Raw { value: self.need("value")? }, 200, None),
            "sha" => match self.take("format").as_deref() {
                None | Some("short") => (Kind::Sha { long: false }, 100, Some("sha-")),
                Some("long") => (Kind::Sha { long: true }, 100, Some("sha-")),
                Some(other) => return Err(self.wrong("format", other, "`short` or `long`")),
            },
            other => return Err(self.wrong("type", other, "one of the eight that there are")),
        })
    }

    fn version(&mut self, scheme: Scheme) -> Result<Kind, Diagnostic> {
        let part = self.take("match").filter(|part| !part.is_empty());
        let part = part.map(|text| regex(&text).map_err(|why| self.wrong("match", &text, &why))).transpose()?;
        Ok(Kind::Version {
            scheme,
            pattern: self.need("pattern")?,
            value: self.take("value").unwrap_or_default(),
            part,
        })
    }
}

/// `/PATTERN/FLAGS` or a pattern alone.
fn regex(text: &str) -> Result<Regex, String> {
    let parts =
        text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')).filter(|(pattern, _)| !pattern.is_empty());
    let (pattern, flags) = parts.unwrap_or((text, ""));
    let mut builder = RegexBuilder::new(pattern);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            // Which of several matches, and how text is encoded, makes no difference here.
            'g' | 'u' => &mut builder,
            _ => return Err(format!("a regular expression without the flag `{flag}`")),
        };
    }
    builder.build().map_err(|_| "a regular expression".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_or_refused() {
        let rule = Rule::parse("type=ref,event=pr,priority=5").unwrap();
        assert_eq!((rule.priority, rule.prefix.as_deref()), (5, Some("pr-")));
        assert!(matches!(Rule::parse("v1").unwrap().kind, Kind::Raw { value } if value == "v1"));
        assert!(matches!(Rule::parse("type=sha,format=long,prefix=").unwrap().prefix.as_deref(), Some("")));
        for wrong in [
            "type=nope",
            "type=semver",
            "type=match",
            "type=match,pattern=(",
            "type=match,pattern=a,group=x",
            "type=match,pattern=/a/z",
            "type=ref",
            "type=ref,event=push",
            "type=raw",
            "type=sha,format=tiny",
            "type=sha,value=x",
            "type=raw,value=x,priority=high",
        ] {
            assert!(Rule::parse(wrong).is_err(), "{wrong}");
        }
    }
}
