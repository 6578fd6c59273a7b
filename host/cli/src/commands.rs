//! Which command is meant: by the name that the program was called with, then by its first argument.

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    build_command,
    docker_door::BuildArguments,
    doctor_command::{self, DoctorArguments},
    environment::Environment,
    exit::Exit,
    index_command::{self, IndexCommand},
    kaniko_door::{self, Executor, ExecutorCommand, Warmer},
    login_command::{self, LoginArguments, LogoutArguments},
    output::tell,
    plugin_command::{self, PluginCommand},
    policy_command::{self, PolicyCommand},
    prune_command::{self, PruneArguments},
    push_command::{self, PushArguments},
    say,
    store_command::{self, StoreCommand},
    tags_command::{self, TagsArguments},
    warm_command,
};

/// Builds container images from Dockerfiles and pushes them, without a daemon and without privileges
#[derive(Debug, Parser)]
#[command(
    name = "cofferdam",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes:
  0    success
  1    the build, the push or another task failed
  2    the command line is wrong
  N    the exit code of the command of a failing RUN (128 + the signal's number for a signal)

Called as `executor` or `warmer`, the program takes Kaniko's flags."
)]
struct Cofferdam {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds an image
    Build(Box<BuildArguments>),
    /// Pushes an image that was written to a file or directory
    Push(Box<PushArguments>),
    /// Joins images that are in registries
    #[command(subcommand)]
    Index(IndexCommand),
    /// Keeps a registry's user and password in Docker's configuration file
    Login(Box<LoginArguments>),
    /// Forgets a registry's user and password
    Logout(LogoutArguments),
    /// Makes room in the store, by age or size
    Prune(PruneArguments),
    /// Looks after the store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Says what works on this machine, and why not the rest
    Doctor(DoctorArguments),
    /// Packs, shows and tries plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Checks the operator's policy
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Shows what tagging policies decide, without building
    Tags(TagsArguments),
    /// Prints the version
    Version,
    /// Prints completions for a shell
    #[command(alias = "completions")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
pub fn main(arguments: Vec<OsString>) -> Exit {
    let environment = Environment::read();
    let called = arguments.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default().to_owned();
    if called == "executor" {
        return executor(arguments, &environment);
    }
    if called == "warmer" {
        return match Warmer::try_parse_from(arguments) {
            Ok(warmer) => warm_command::run(warmer, &environment),
            Err(error) => usage(&error),
        };
    }
    match Cofferdam::try_parse_from(arguments) {
        Ok(Cofferdam { command }) => match command {
            Command::Build(arguments) => build_command::build(*arguments, &environment),
            Command::Push(arguments) => push_command::push(*arguments, &environment),
            Command::Index(command) => index_command::run(command, &environment),
            Command::Login(arguments) => login_command::login(*arguments, &environment),
            Command::Logout(arguments) => login_command::logout(&arguments, &environment),
            Command::Prune(arguments) => prune_command::run(&arguments, &environment),
            Command::Store(command) => store_command::run(command, &environment),
            Command::Doctor(arguments) => doctor_command::run(&arguments, &environment),
            Command::Plugin(command) => plugin_command::run(command, &environment),
            Command::Policy(command) => policy_command::run(command, &environment),
            Command::Tags(arguments) => tags_command::run(&arguments, &environment),
            Command::Version => version::<Cofferdam>(),
            Command::Completion { shell } => completion::<Cofferdam>(shell),
        },
        Err(error) => usage(&error),
    }
}

fn executor(arguments: Vec<OsString>, environment: &Environment) -> Exit {
    let deprecated = kaniko_door::warnings(&arguments);
    let Executor { command, build } = match Executor::try_parse_from(arguments) {
        Ok(executor) => executor,
        Err(error) => return usage(&error),
    };
    deprecated.iter().for_each(|warning| tell(warning));
    match command {
        None => build_command::executor(build, environment),
        Some(ExecutorCommand::Login(arguments)) => login_command::login(arguments, environment),
        Some(ExecutorCommand::Push(arguments)) => push_command::push_of_kaniko(*arguments, environment),
        Some(ExecutorCommand::Version) => version::<Executor>(),
        Some(ExecutorCommand::Completion { shell }) => completion::<Executor>(shell),
    }
}

fn version<C: CommandFactory>() -> Exit {
    say(&C::command().render_version())
}

fn completion<C: CommandFactory>(shell: clap_complete::Shell) -> Exit {
    let (mut text, mut command) = (Vec::new(), C::command());
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut text);
    say(&String::from_utf8_lossy(&text))
}

/// Help and versions are answers; everything else is a wrong command line.
fn usage(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}
