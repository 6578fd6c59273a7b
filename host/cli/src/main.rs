//! The program. See `lib.rs` of the engine for the life of a build; here is what a person sees of it.

mod attestations;
mod build_command;
mod check_command;
mod commands;
mod docker_config;
mod docker_door;
mod doctor_command;
mod environment;
mod exit;
mod explain;
mod index_command;
mod kaniko_door;
mod login_command;
mod output;
mod outputs;
mod plugin_command;
mod plugin_run;
mod policy_command;
mod progress;
mod prune_command;
mod push_command;
mod records;
mod request;
mod signals;
mod store_command;
mod tag_policies;
mod tags_command;
mod warm_command;
mod watched;

use std::process::ExitCode;

use output::say;

fn main() -> ExitCode {
    #![allow(clippy::disallowed_methods, reason = "the command line is read here, and nowhere else")]
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // The process inside a RUN's namespaces is this program too; it must not parse anything of a person's.
    if arguments.get(1).is_some_and(|first| first == cofferdam_exec::STAGE_ARGUMENT) {
        cofferdam_exec::run_stage_main();
    }
    commands::main(arguments).into()
}
