//! Which command is meant: by the name that the program was called with, then by its first argument.

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    build_command,
    docker_door::BuildArguments,
    doctor_command::{self, DoctorArguments},
    environment::Environment,
    exit::Exit,
    explain,
    kaniko_door::ExecutorArguments,
    plugin_command::{self, PluginCommand},
    say,
    tags_command::{self, TagsArguments},
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

Called as `executor`, the program takes Kaniko's flags."
)]
struct Cofferdam {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds an image
    Build(Box<BuildArguments>),
    /// Says what works on this machine, and why not the rest
    Doctor(DoctorArguments),
    /// Packs and shows plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Shows what tagging policies decide, without building
    Tags(TagsArguments),
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
pub fn main(arguments: Vec<OsString>) -> Exit {
    let environment = Environment::read();
    let called = arguments.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default().to_owned();
    if called == "executor" {
        return match ExecutorArguments::try_parse_from(arguments) {
            Ok(arguments) => build_command::executor(arguments, &environment),
            Err(error) => usage(&error),
        };
    }
    if called == "warmer" {
        return explain::failed(
            &"`warmer` fills a cache of base images for Kaniko; this builder has no such cache: it keeps the layers of base images \
              in its store (`--store`, COFFERDAM_STORE), which several builds may share",
        );
    }
    match Cofferdam::try_parse_from(arguments) {
        Ok(Cofferdam { command }) => match command {
            Command::Build(arguments) => build_command::build(*arguments, &environment),
            Command::Doctor(arguments) => doctor_command::run(&arguments, &environment),
            Command::Plugin(command) => plugin_command::run(command, &environment),
            Command::Tags(arguments) => tags_command::run(&arguments, &environment),
            Command::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Cofferdam::command(), "cofferdam", &mut text);
                say(&String::from_utf8_lossy(&text))
            }
        },
        Err(error) => usage(&error),
    }
}

/// Help and versions are answers; everything else is a wrong command line.
fn usage(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}
