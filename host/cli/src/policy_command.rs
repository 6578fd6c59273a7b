//! `cofferdam policy check`: what a policy says, before it is put in force.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Subcommand};
use cofferdam_engine::plugin_host::{Capability, OPERATOR_POLICY};

use crate::{docker_door::SharedArguments, environment::Environment, exit::Exit, explain, request, say};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Says what is wrong in a policy, and what it takes from cofferdam's own plugins
    Check(CheckArguments),
}

/// Which policy.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The policy [default: what a build would follow: /etc/cofferdam/policy.toml, --policy, --allow-plugin]
    file: Option<PathBuf>,

    #[command(flatten)]
    shared: SharedArguments,
}

/// Prints what holds. Exit code 1 for a policy under which nothing would be built.
pub fn run(command: PolicyCommand, environment: &Environment) -> Exit {
    let PolicyCommand::Check(CheckArguments { file, shared }) = command;
    let mut access = match request::plugins(&shared, environment) {
        Ok(access) => access,
        Err(error) => return explain::usage(&error),
    };
    // A file is looked at by itself: as the operator's it would not count together with the one in force.
    access.sole_policy = file.is_some();
    access.policy_file = file.or(access.policy_file);
    let host = match cofferdam_engine::load_plugins(&access) {
        Ok(host) => host,
        Err(error) => return explain::build_error(&error),
    };
    let policy = host.policy();
    let mut lines = Vec::new();
    lines.push(match (&access.policy_file, policy.has_operator()) {
        (Some(path), true) => {
            format!("`{OPERATOR_POLICY}`, which you can't write, and what `{}` takes away", path.display())
        }
        (Some(path), false) => format!("`{}`", path.display()),
        (None, true) => format!("`{OPERATOR_POLICY}`, which you can't write"),
        (None, false) => format!("no operator's policy: `{OPERATOR_POLICY}` is missing, or you can write it"),
    });
    let plugins = host.plugins();
    for plugin in &plugins {
        if let Some(denial) = &plugin.withheld {
            lines.push(format!("`{}` does nothing: {denial}", plugin.manifest.name));
        }
    }
    for (name, granted) in policy.listed() {
        let Some(plugin) = plugins.iter().find(|plugin| plugin.manifest.name == name) else {
            lines.push(format!("warning: there is no plugin `{name}` here: `--plugin-dir DIR` loads more"));
            continue;
        };
        let wants = &plugin.manifest.capabilities;
        // A grant of servers may go beyond the manifest.
        let unused = |granted: &&Capability| {
            !matches!(granted, Capability::Http(_)) && !wants.iter().any(|wanted| granted.covers(wanted))
        };
        let unused: BTreeSet<String> = granted.iter().filter(unused).map(|unused| format!("`{unused}`")).collect();
        if !unused.is_empty() {
            let unused: Vec<String> = unused.into_iter().collect();
            lines.push(format!("warning: `{name}` is granted {}, which it does not want", unused.join(", ")));
        }
    }
    lines.push("no mistakes".to_owned());
    say(&(lines.join("\n") + "\n"))
}
