//! Variables in scope: what `$NAME` means at a place, and which build arguments a command sees.

use std::collections::BTreeMap;

use cofferdam_dockerfile::Parsed;

use crate::{
    Config, Platform,
    config::set,
    planner::Options,
    step::{ConfigChange, KeyValue},
};

/// The variables at one place of a Dockerfile.
///
/// ARG and ENV write the same names; who came last wins, in expansion and inside RUN (as BuildKit does; the written
/// reference says otherwise).
#[derive(Debug, Clone, Default)]
pub struct Scope {
    values: BTreeMap<String, String>,
    /// Arguments that no later ENV hides, in the order of their declaration.
    arguments: Vec<KeyValue>,
    /// Every name that was declared, in the order of first declaration.
    declared: Vec<String>,
    /// Arguments that have a value without being declared in a stage; ARG NAME brings it in.
    offered: BTreeMap<String, String>,
}

impl Scope {
    /// Proxy settings that may be passed with `--build-arg` without an ARG, and are then seen by RUN but never stored in
    /// the image or in a key.
    pub const PROXIES: [&'static str; 10] = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "FTP_PROXY",
        "ftp_proxy",
        "NO_PROXY",
        "no_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];

    /// The scope before the first FROM: the arguments about platform and target are there without being declared.
    pub fn global(options: &Options, parsed: &Parsed) -> Self {
        let mut scope = Self::default();
        let platforms = platform_arguments("TARGET", &options.platform)
            .into_iter()
            .chain(platform_arguments("BUILD", &options.build_platform));
        for pair in platforms {
            scope.values.insert(pair.key.clone(), pair.value.clone());
            scope.offered.insert(pair.key, pair.value);
        }
        let last = || parsed.instructions.iter().rev().find(|instruction| instruction.keyword == "FROM");
        let last_name = || last()?.from_clause().ok()?.written_name;
        let target = options.target.clone().or_else(last_name).unwrap_or_else(|| "default".to_owned());
        scope.values.insert("TARGETSTAGE".to_owned(), target.clone());
        scope.offered.insert("TARGETSTAGE".to_owned(), target);
        scope
    }

    /// ARG before the first FROM.
    pub fn declare_global(&mut self, name: &str, default: Option<String>, options: &Options) {
        let offered = self.offered.get(name).cloned();
        if let Some(value) = options.build_arguments.get(name).cloned().or(default).or(offered) {
            self.values.insert(name.to_owned(), value.clone());
            self.offered.insert(name.to_owned(), value);
        }
    }

    /// The scope at the start of a stage that starts from an image: its environment, and nothing of other stages' arguments. One
    /// that starts from a stage goes on with that stage's.
    ///
    /// `TARGETPLATFORM` and its kin stay those of the build, whatever `FROM --platform` says.
    pub fn stage(globals: &Self, config: &Config) -> Self {
        let values = config.environment.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect();
        Self { values, offered: globals.offered.clone(), ..Self::default() }
    }

    /// ARG in a stage. Without a value from anywhere the name stays unset.
    pub fn declare(&mut self, name: &str, default: Option<String>, options: &Options, globals: &Self) {
        if !self.declared.iter().any(|known| known == name) {
            self.declared.push(name.to_owned());
        }
        let given = options.build_arguments.get(name).cloned();
        let offered = self.offered.get(name).or_else(|| globals.offered.get(name)).cloned();
        let Some(value) = given.or(default).or(offered) else {
            return;
        };
        self.values.insert(name.to_owned(), value.clone());
        set(&mut self.arguments, &KeyValue { key: name.to_owned(), value });
    }

    /// Takes over what a step changed.
    pub fn observe(&mut self, change: &ConfigChange) {
        if let ConfigChange::Environment(pair) = change {
            self.values.insert(pair.key.clone(), pair.value.clone());
            self.arguments.retain(|argument| argument.key != pair.key);
        }
    }

    /// Sets a value for the time of one line.
    pub(crate) fn assume(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// The value of a variable.
    pub fn lookup(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The names that have a value, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// What the history tells of the arguments: every name that was declared, with its value, be it of a later ENV, or empty.
    pub fn declared(&self) -> Vec<KeyValue> {
        let pair =
            |name: &String| KeyValue { key: name.clone(), value: self.lookup(name).unwrap_or_default().to_owned() };
        self.declared.iter().map(pair).collect()
    }

    /// The build arguments that a command sees, in the order of their declaration.
    pub fn arguments(&self) -> &[KeyValue] {
        &self.arguments
    }
}

/// The arguments that describe a platform (Dockerfile reference, ARG, "Automatic platform ARGs in the global scope").
fn platform_arguments(prefix: &str, platform: &Platform) -> [KeyValue; 4] {
    let pair = |name: &str, value: String| KeyValue { key: format!("{prefix}{name}"), value };
    [
        pair("PLATFORM", platform.to_string()),
        pair("OS", platform.os.clone()),
        pair("ARCH", platform.architecture.clone()),
        pair("VARIANT", platform.variant.clone().unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[(&str, &str)]) -> Options {
        Options {
            build_arguments: arguments.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            target: None,
            further_targets: Vec::new(),
            platform: "linux/arm64".parse().unwrap(),
            build_platform: "linux/amd64".parse().unwrap(),
            contexts: BTreeMap::new(),
        }
    }

    fn global(options: &Options, text: &str) -> Scope {
        Scope::global(options, &cofferdam_dockerfile::parse(text.as_bytes()))
    }

    fn environment(name: &str, value: &str) -> ConfigChange {
        ConfigChange::Environment(KeyValue { key: name.to_owned(), value: value.to_owned() })
    }

    #[test]
    fn a_build_argument_beats_the_default_and_needs_a_declaration() {
        let options = options(&[("A", "given"), ("UNDECLARED", "x")]);
        let globals = global(&options, "FROM scratch\n");
        let mut scope = Scope::stage(&globals, &Config::default());
        scope.declare("A", Some("default".to_owned()), &options, &globals);
        scope.declare("B", Some("default".to_owned()), &options, &globals);
        scope.declare("C", None, &options, &globals);
        assert_eq!([scope.lookup("A"), scope.lookup("B"), scope.lookup("C")], [Some("given"), Some("default"), None]);
        assert_eq!(scope.lookup("UNDECLARED"), None);
    }

    #[test]
    fn a_global_argument_enters_a_stage_only_where_it_is_declared_again() {
        let options = options(&[]);
        let mut globals = global(&options, "FROM scratch\n");
        globals.declare_global("VERSION", Some("1".to_owned()), &options);
        let mut scope = Scope::stage(&globals, &Config::default());
        assert_eq!(scope.lookup("VERSION"), None);
        scope.declare("VERSION", None, &options, &globals);
        assert_eq!(scope.lookup("VERSION"), Some("1"));
        scope.declare("TARGETARCH", None, &options, &globals);
        assert_eq!(scope.lookup("TARGETARCH"), Some("arm64"));
    }

    #[test]
    fn the_target_stage_is_the_one_asked_for_or_the_last_by_its_name() {
        let mut options = options(&[]);
        let target = |options: &Options, text: &str| global(options, text).lookup("TARGETSTAGE").map(str::to_owned);
        assert_eq!(target(&options, "FROM a AS b\nFROM b AS Last\n").as_deref(), Some("Last"));
        assert_eq!(target(&options, "FROM a AS b\nFROM b\n").as_deref(), Some("default"));
        options.target = Some("b".to_owned());
        assert_eq!(target(&options, "FROM a AS b\nFROM b AS Last\n").as_deref(), Some("b"));
    }

    #[test]
    fn the_last_of_env_and_arg_wins() {
        let options = options(&[]);
        let globals = global(&options, "FROM scratch\n");
        let mut scope = Scope::stage(&globals, &Config::default());
        scope.observe(&environment("A", "env"));
        scope.declare("A", Some("arg".to_owned()), &options, &globals);
        assert_eq!((scope.lookup("A"), scope.arguments().len()), (Some("arg"), 1));
        scope.observe(&environment("A", "env again"));
        assert_eq!((scope.lookup("A"), scope.arguments().len()), (Some("env again"), 0));
    }
}
