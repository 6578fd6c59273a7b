//! The image configuration as a plan knows it, and the meaning of each change.

use std::collections::{BTreeMap, BTreeSet};

use crate::step::{ConfigChange, Healthcheck, KeyValue};

/// What Dockerfile instructions say about running the image (OCI image specification, config.md, and Docker's
/// extensions of it).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// In the order in which names first appeared.
    pub environment: Vec<KeyValue>,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// `port/protocol`.
    pub exposed_ports: BTreeSet<String>,
    /// Absolute paths.
    pub volumes: BTreeSet<String>,
    /// As USER spells it; empty is root.
    pub user: String,
    /// Absolute; empty is `/`.
    pub working_directory: String,
    /// CMD.
    pub command: Option<Vec<String>>,
    /// Whether CMD was written in the shell form (Docker's `ArgsEscaped`).
    pub command_shell_form: bool,
    /// ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// SHELL; `None` is the default one.
    pub shell: Option<Vec<String>>,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
    /// HEALTHCHECK.
    pub healthcheck: Option<Healthcheck>,
    /// Triggers for images built on this one.
    pub on_build: Vec<String>,
    /// MAINTAINER.
    pub author: Option<String>,
    /// Whether CMD was set in the stage at hand: ENTRYPOINT clears a CMD that was only inherited, because it was meant
    /// for another program (as BuildKit does).
    pub(crate) command_is_own: bool,
}

impl Config {
    /// The shell of the shell form where SHELL says nothing.
    pub const DEFAULT_SHELL: [&'static str; 2] = ["/bin/sh", "-c"];

    /// The PATH of a Linux image that sets none.
    pub const DEFAULT_PATH: &'static str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

    /// The configuration with which a stage on this base starts: what was inherited counts as inherited.
    pub fn inherited(&self) -> Self {
        Self { command_is_own: false, on_build: Vec::new(), ..self.clone() }
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|pair| pair.key == name).map(|pair| pair.value.as_str())
    }

    /// The shell of the shell form.
    pub fn shell(&self) -> Vec<String> {
        self.shell.clone().unwrap_or_else(|| Self::DEFAULT_SHELL.map(str::to_owned).to_vec())
    }

    /// The working directory, absolute.
    pub fn directory(&self) -> &str {
        if self.working_directory.is_empty() { "/" } else { &self.working_directory }
    }

    /// Applies one change.
    pub fn apply(&mut self, change: &ConfigChange) {
        match change {
            ConfigChange::Environment(pair) => set(&mut self.environment, pair),
            ConfigChange::Label(pair) => drop(self.labels.insert(pair.key.clone(), pair.value.clone())),
            ConfigChange::Expose(port) => drop(self.exposed_ports.insert(port.clone())),
            ConfigChange::Volume(path) => drop(self.volumes.insert(path.clone())),
            ConfigChange::User(user) => self.user.clone_from(user),
            ConfigChange::WorkingDirectory(path) => self.working_directory.clone_from(path),
            ConfigChange::Command(command) => {
                self.command = Some(command.arguments.clone());
                self.command_shell_form = command.shell_form;
                self.command_is_own = true;
            }
            ConfigChange::Entrypoint(command) => {
                self.entrypoint = Some(command.arguments.clone());
                if !self.command_is_own {
                    self.command = None;
                    self.command_shell_form = false;
                }
            }
            ConfigChange::StopSignal(signal) => self.stop_signal = Some(signal.clone()),
            ConfigChange::Shell(shell) => self.shell = Some(shell.clone()),
            ConfigChange::Healthcheck(healthcheck) => self.healthcheck = Some(healthcheck.clone()),
            ConfigChange::OnBuild(trigger) => self.on_build.push(trigger.clone()),
            ConfigChange::Author(author) => self.author = Some(author.clone()),
        }
    }
}

/// Sets a variable in place, or at the end.
pub(crate) fn set(pairs: &mut Vec<KeyValue>, pair: &KeyValue) {
    match pairs.iter_mut().find(|known| known.key == pair.key) {
        Some(known) => known.value.clone_from(&pair.value),
        None => pairs.push(pair.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::ImageCommand;

    fn command(text: &str) -> ImageCommand {
        ImageCommand { arguments: vec![text.to_owned()], shell_form: false }
    }

    #[test]
    fn an_entrypoint_clears_an_inherited_command_but_not_the_stages_own() {
        let mut base = Config::default();
        base.apply(&ConfigChange::Command(command("inherited")));
        let mut stage = base.inherited();
        stage.apply(&ConfigChange::Entrypoint(command("program")));
        assert_eq!(stage.command, None);
        stage.apply(&ConfigChange::Command(command("own")));
        stage.apply(&ConfigChange::Entrypoint(command("other")));
        assert_eq!(stage.command, Some(vec!["own".to_owned()]));
    }

    #[test]
    fn a_variable_keeps_its_place_when_it_changes() {
        let pair = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: value.to_owned() };
        let mut config = Config::default();
        for change in [pair("A", "1"), pair("B", "2"), pair("A", "3")] {
            config.apply(&ConfigChange::Environment(change));
        }
        assert_eq!(config.environment, [pair("A", "3"), pair("B", "2")]);
    }
}
