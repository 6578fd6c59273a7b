//! Building, through either door.

use cofferdam_engine::{BuildRequest, Built, OutputKind, Surroundings};

use crate::{
    docker_door::BuildArguments,
    environment::Environment,
    exit::Exit,
    explain,
    kaniko_door::ExecutorArguments,
    progress,
    request::{self, UsageError},
    say, signals,
};

/// `cofferdam build`.
pub fn build(arguments: BuildArguments, environment: &Environment) -> Exit {
    let mode = arguments.shared.progress.clone();
    match request::from_docker(arguments, environment) {
        Ok(request) => run(&request, &mode, progress::Verbosity::Normal),
        Err(error) => wrong(&error),
    }
}

/// What the user wrote is wrong, or what it would lead to.
fn wrong(error: &UsageError) -> Exit {
    match error {
        UsageError::Store(error) => explain::store_error(error),
        error => explain::usage(error),
    }
}

/// `executor`.
pub fn executor(arguments: ExecutorArguments, environment: &Environment) -> Exit {
    let verbosity = match arguments.verbosity.as_str() {
        "panic" | "fatal" | "error" => progress::Verbosity::Quiet,
        _ => progress::Verbosity::Normal,
    };
    match request::from_kaniko(arguments, environment) {
        Ok(request) => run(&request, "auto", verbosity),
        Err(error) => wrong(&error),
    }
}

fn run(request: &BuildRequest, mode: &str, verbosity: progress::Verbosity) -> Exit {
    let observer = match progress::observer(mode, verbosity) {
        Ok(observer) => observer,
        Err(message) => return explain::usage(&message),
    };
    // Before any thread: a user namespace can be entered by a process of one thread only.
    let surroundings = match Surroundings::prepare(&request.store, request.execution.executor.as_deref()) {
        Ok(surroundings) => surroundings,
        Err(error) => return explain::build_error(&error),
    };
    let interruption = signals::catch();
    let built = cofferdam_engine::build(request, &surroundings, &observer, interruption.stop());
    // Transfers of a build that failed may still hold on to what is temporary.
    interruption.stop().clean_up();
    match built {
        Ok(built) => report(request, &built),
        Err(error) => interruption.exit().unwrap_or_else(|| explain::build_error(&error)),
    }
}

/// The digest is data; the rest is talk.
fn report(request: &BuildRequest, built: &Built) -> Exit {
    let archive_on_stdout = request
        .destination
        .outputs
        .iter()
        .any(|output| output.destination.as_os_str() == "-" && output.kind != OutputKind::OciDirectory);
    let said = if archive_on_stdout {
        eprintln!("{}", built.digest);
        Exit::Success
    } else {
        say(&format!("{}\n", built.digest))
    };
    match (built.pushed, built.written) {
        (true, _) => built.names.iter().for_each(|name| eprintln!("pushed {name}@{}", built.digest)),
        (false, true) => {}
        (false, false) => {
            let name = built.names.first().map_or_else(|| built.digest.to_string(), Clone::clone);
            eprintln!("the image `{name}` is in the store {}", request.store.display());
            eprintln!(
                "  to export it: build again with `--output type=oci,dest=FILE` (or type=docker), nothing is repeated"
            );
            eprintln!("  to push it:   build again with `--tag REGISTRY/NAME --push`");
            if let Some(name) = built.names.first() {
                eprintln!("  to look at it: skopeo inspect --config oci:{}:{name}", request.store.display());
            }
        }
    }
    said
}
