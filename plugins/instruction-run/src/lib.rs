//! RUN: a native command in the stage's root file system.

mod command;
mod environment;
mod mounts;

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt, InstructionHandler,
    diagnostics::{Denial, error},
    flags::Flags,
    fs::{Command, Executor, Exit, Mount, Network, RootFs, Tree},
    instruction::{Effect, Error, Planned, Read, Step, refuse},
};

use mounts::Mounts;

/// The handler.
pub struct Run;

cofferdam_plugin_sdk::export_instruction!(crate::Run);

impl InstructionHandler for Run {
    fn check(step: &Step) -> Vec<Diagnostic> {
        let (_, mut findings) = options(step);
        if let Err(finding) = command::arguments(step) {
            findings.push(finding);
        }
        findings
    }

    fn plan(step: &Step) -> Result<Planned, Error> {
        refuse(Self::check(step))?;
        let mut reads = options(step).0.mounts.reads;
        reads.push(Read::WholeRootfs);
        Ok(Planned { reads, changes: Vec::new(), effect: Effect::RootFileSystem })
    }

    fn apply(
        step: &Step,
        _rootfs: &dyn RootFs,
        _trees: &[&dyn Tree],
        executor: Option<&dyn Executor>,
    ) -> Result<Vec<Diagnostic>, Error> {
        let (Options { network, mut mounts }, findings) = options(step);
        refuse(findings)?;
        mounts.mounts.extend(command::interpreted(step).map(Mount::File));
        let executor = executor.ok_or_else(|| {
            let message = "`RUN` executes a native command".to_owned();
            Error::Denied(Denial { capability: "exec".to_owned(), message })
        })?;
        let command = Command {
            arguments: command::arguments(step)?,
            environment: environment::of(&step.state),
            working_directory: step.state.working_directory.clone(),
            user: step.state.user.clone(),
            network,
            input: None,
        };
        match executor.run_with_mounts(&command, &mounts.mounts)? {
            Exit::Code(0) => Ok(Vec::new()),
            exit => Err(Error::CommandFailed(exit)),
        }
    }
}

/// What the flags say.
struct Options {
    network: Network,
    mounts: Mounts,
}

fn options(step: &Step) -> (Options, Vec<Diagnostic>) {
    let mut flags = Flags::of(step, &["mount", "device", "network", "security"]);
    for flag in step.flags.iter().filter(|flag| flag.name == "device") {
        let message = "`RUN --device` is not supported: no device of the machine is handed to a command";
        flags.push(error("UnsupportedFlag", message).at(flag.span));
    }
    let mounts = Mounts::read(step, &mut flags);
    match flags.value("security") {
        None | Some("sandbox") => {}
        Some("insecure") => {
            let finding = error(
                "UnsupportedFlag",
                "`RUN --security=insecure` is not supported: every command runs in the sandbox",
            );
            flags.push_about("security", finding);
        }
        Some(other) => {
            let finding = error("InvalidFlagValue", format!("`--security` is `sandbox`, not `{other}`"));
            flags.push_about("security", finding);
        }
    }
    let network = match flags.value("network") {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => {
            let message = format!("`--network` is `default`, `none` or `host`, not `{other}`");
            flags.push_about("network", error("InvalidFlagValue", message));
            Network::Default
        }
    };
    (Options { network, mounts }, flags.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{FakeExecutor, MemoryRoot, step};

    fn run(step: &Step, exit: Exit) -> (Result<Vec<Diagnostic>, Error>, Vec<Command>) {
        let executor = FakeExecutor::ending(exit);
        let result = Run::apply(step, &MemoryRoot::default(), &[], Some(&executor));
        (result, executor.commands())
    }

    #[test]
    fn a_command_reads_the_whole_root() {
        let planned = Run::plan(&step("RUN", "true").build()).unwrap();
        assert_eq!(planned.reads, [Read::WholeRootfs]);
        assert_eq!(planned.effect, Effect::RootFileSystem);
    }

    #[test]
    fn the_step_reaches_the_executor() {
        let step = step("RUN", "make").flag("network", Some("none")).state(|state| {
            state.user = "web:staff".into();
            state.working_directory = "/src".into();
        });
        let (result, commands) = run(&step.build(), Exit::Code(0));
        assert!(result.unwrap().is_empty());
        assert_eq!(commands[0].arguments, ["/bin/sh", "-c", "make"]);
        assert_eq!((commands[0].user.as_str(), commands[0].working_directory.as_str()), ("web:staff", "/src"));
        assert_eq!(commands[0].network, Network::None);
        assert!(commands[0].input.is_none());
    }

    #[test]
    fn a_failed_command_passes_its_end_on() {
        for exit in [Exit::Code(3), Exit::Signal(9)] {
            let (result, _) = run(&step("RUN", "x").build(), exit);
            assert_eq!(result, Err(Error::CommandFailed(exit)));
        }
    }

    #[test]
    fn without_the_capability_the_denial_names_it() {
        let result = Run::apply(&step("RUN", "x").build(), &MemoryRoot::default(), &[], None);
        assert!(matches!(result, Err(Error::Denied(denial)) if denial.capability == "exec"));
    }

    #[test]
    fn flags_that_are_not_supported_are_named() {
        let step = step("RUN", "x")
            .flag("device", Some("vendor.example/gpu"))
            .flag("security", Some("insecure"))
            .flag("network", Some("lan"))
            .flag("nework", Some("none"));
        let findings = Run::check(&step.build());
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["UnknownFlag", "UnsupportedFlag", "UnsupportedFlag", "InvalidFlagValue"]);
        assert!(findings[1].message.contains("--device"));
    }
}
