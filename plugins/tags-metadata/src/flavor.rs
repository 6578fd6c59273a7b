//! What holds for all tags: `latest`, a prefix, a suffix.

use cofferdam_plugin_sdk::Diagnostic;

use crate::{fields::fields, invalid};

/// What holds for all tags.
#[derive(Debug, Clone, Default)]
pub struct Flavor {
    /// `latest=true|false`; `None` is `auto`: the first rule that makes a tag decides.
    pub latest: Option<bool>,
    /// In front of every tag whose rule has none.
    pub prefix: Affix,
    /// Behind every tag whose rule has none.
    pub suffix: Affix,
}

/// A prefix or suffix.
#[derive(Debug, Clone, Default)]
pub struct Affix {
    /// An expression.
    pub text: String,
    /// Whether `latest` gets it too.
    pub on_latest: bool,
}

impl Flavor {
    /// Reads a line.
    ///
    /// # Errors
    /// An entry is unknown, or its value is none.
    pub fn read(&mut self, line: &str) -> Result<(), Diagnostic> {
        let wrong = || {
            invalid(format!("`{line}` is no flavor: there are `latest`, `prefix`, `suffix`, each with its `onlatest`"))
        };
        let mut last = None;
        for (key, value) in fields(line)? {
            match (key.as_deref(), value.as_str()) {
                (Some("latest"), "auto") => self.latest = None,
                (Some("latest"), "true") => self.latest = Some(true),
                (Some("latest"), "false") => self.latest = Some(false),
                (Some("prefix"), _) => {
                    self.prefix = Affix { text: value, on_latest: false };
                    last = Some(&mut self.prefix);
                }
                (Some("suffix"), _) => {
                    self.suffix = Affix { text: value, on_latest: false };
                    last = Some(&mut self.suffix);
                }
                (Some("onlatest"), "true" | "false") => match &mut last {
                    Some(affix) => affix.on_latest = value == "true",
                    None => return Err(wrong()),
                },
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_or_refused() {
        let mut flavor = Flavor::default();
        flavor.read("latest=true").unwrap();
        flavor.read("prefix=a-,onlatest=true,suffix=-b").unwrap();
        assert_eq!((flavor.latest, flavor.prefix.on_latest, flavor.suffix.on_latest), (Some(true), true, false));
        for wrong in ["latest=maybe", "latest", "colour=red", "onlatest=true", "prefix=a,onlatest=yes"] {
            assert!(Flavor::default().read(wrong).is_err(), "{wrong}");
        }
    }
}
