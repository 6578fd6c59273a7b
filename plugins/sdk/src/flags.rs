//! The flags of an instruction, with one finding for each mistake.

use crate::{
    diagnostics::{Diagnostic, DiagnosticExt, error, listed},
    instruction::{Flag, Step},
};

/// The flags of one step, being read.
pub struct Flags<'a> {
    flags: &'a [Flag],
    findings: Vec<Diagnostic>,
}

impl<'a> Flags<'a> {
    /// Looks at a step's flags; every flag whose name is not among `allowed` is a finding.
    pub fn of(step: &'a Step, allowed: &[&str]) -> Self {
        let unknown = step.flags.iter().filter(|flag| !allowed.contains(&flag.name.as_str()));
        let findings = unknown
            .map(|flag| {
                let message = format!("`{}` has no flag `--{}`", step.keyword, flag.name);
                let help = match allowed {
                    [] => format!("`{}` takes no flags", step.keyword),
                    _ => {
                        let names: Vec<String> = allowed.iter().map(|name| format!("--{name}")).collect();
                        format!("it takes {}", listed(&names))
                    }
                };
                error("UnknownFlag", message).help(help).at(flag.span)
            })
            .collect();
        Self { flags: &step.flags, findings }
    }

    /// The value of a flag that may be given once.
    pub fn value(&mut self, name: &str) -> Option<&'a str> {
        let flag = self.once(name)?;
        let value = flag.value.as_deref().filter(|value| !value.is_empty());
        if value.is_none() {
            self.needs_value(flag);
        }
        value
    }

    /// The values of a flag that may be given several times.
    pub fn values(&mut self, name: &str) -> Vec<&'a str> {
        let mut values = Vec::new();
        for flag in self.flags.iter().filter(|flag| flag.name == name) {
            match flag.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => values.push(value),
                None => self.needs_value(flag),
            }
        }
        values
    }

    /// A flag that is true if it is there, `--name=true` or `--name=false`.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        let flag = self.once(name)?;
        match flag.value.as_deref() {
            None | Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                let message = format!("`--{name}` is `true` or `false`, not `{other}`");
                self.findings.push(error("InvalidFlagValue", message).at(flag.span));
                None
            }
        }
    }

    /// The flag itself, for a finding that points at it.
    pub fn get(&self, name: &str) -> Option<&'a Flag> {
        self.flags.iter().find(|flag| flag.name == name)
    }

    /// Adds a finding.
    pub fn push(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    /// Adds a finding about a flag.
    pub fn push_about(&mut self, name: &str, finding: Diagnostic) {
        match self.get(name) {
            Some(flag) => self.findings.push(finding.at(flag.span)),
            None => self.findings.push(finding),
        }
    }

    /// All findings so far.
    pub fn finish(self) -> Vec<Diagnostic> {
        self.findings
    }

    fn once(&mut self, name: &str) -> Option<&'a Flag> {
        let mut found = self.flags.iter().filter(|flag| flag.name == name);
        let first = found.next()?;
        for again in found {
            self.findings.push(error("DuplicateFlag", format!("`--{name}` is given twice")).at(again.span));
        }
        Some(first)
    }

    fn needs_value(&mut self, flag: &Flag) {
        let message = format!("`--{}` needs a value", flag.name);
        let help = format!("write `--{}=VALUE`", flag.name);
        self.findings.push(error("MissingFlagValue", message).help(help).at(flag.span));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::step;

    #[test]
    fn unknown_flags_are_named_with_what_is_allowed() {
        let step = step("COPY", "a b").flag("form", Some("x")).build();
        let findings = Flags::of(&step, &["from", "chown"]).finish();
        assert_eq!(findings[0].message, "`COPY` has no flag `--form`");
        assert_eq!(findings[0].help.as_deref(), Some("it takes `--from` and `--chown`"));
    }

    #[test]
    fn every_mistake_is_found() {
        let step = step("ADD", "a b").flag("from", None).flag("from", Some("x")).flag("unpack", Some("1")).build();
        let mut flags = Flags::of(&step, &["from", "unpack"]);
        assert_eq!(flags.value("from"), None);
        assert_eq!(flags.boolean("unpack"), None);
        let codes: Vec<String> = flags.finish().into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["DuplicateFlag", "MissingFlagValue", "InvalidFlagValue"]);
    }

    #[test]
    fn values_are_read() {
        let step = step("ADD", "a b")
            .flag("x", Some("1"))
            .flag("x", Some("2"))
            .flag("unpack", None)
            .flag("y", Some("3"))
            .build();
        let mut flags = Flags::of(&step, &["x", "y", "unpack"]);
        assert_eq!(flags.values("x"), ["1", "2"]);
        assert_eq!(flags.value("y"), Some("3"));
        assert_eq!(flags.boolean("unpack"), Some(true));
        assert!(flags.finish().is_empty());
    }
}
