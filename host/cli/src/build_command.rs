//! Building, through either door.

use std::{path::PathBuf, sync::Arc};

use cofferdam_engine::{BuildRequest, Built, DryStage, Observer, Surroundings, chain};

use crate::{
    check_command::{self, Call},
    docker_door::BuildArguments,
    environment::Environment,
    exit::Exit,
    explain,
    kaniko_door::ExecutorArguments,
    output::tell,
    progress::{self, Outcome, Places},
    records::Records,
    request, say, signals,
    watched::{self, Failure},
};

/// `cofferdam build`.
pub fn build(arguments: BuildArguments, environment: &Environment) -> Exit {
    let mode = arguments.shared.progress.clone();
    let call = match Call::parse(arguments.check, arguments.call.as_deref()) {
        Ok(call) => call,
        Err(error) => return explain::usage_error(&error),
    };
    let records =
        Records { id: arguments.iidfile.clone(), metadata: arguments.metadata_file.clone(), ..Records::default() };
    match (request::from_docker(arguments, environment), call) {
        (Ok(request), Some(call)) => check_command::run(&request, call),
        (Ok(request), None) => {
            let talk = Talk { mode: &mode, verbosity: progress::Verbosity::Normal, door: Door::Docker };
            run(&request, &talk, environment, &records)
        }
        (Err(error), _) => explain::usage_error(&error),
    }
}

/// `executor`.
pub fn executor(arguments: ExecutorArguments, environment: &Environment) -> Exit {
    let (mode, verbosity) = (arguments.log.mode(), arguments.log.verbosity());
    let records = Records {
        with_digest: arguments.image_name_with_digest_file.clone(),
        with_tag_and_digest: arguments.image_name_tag_with_digest_file.clone(),
        builder_output: environment.builder_output(),
        ..Records::default()
    };
    let dry_run = arguments.switches.dry_run;
    match request::from_kaniko(arguments, environment) {
        Ok(request) if dry_run => plan(&request, mode, verbosity, environment),
        Ok(request) => run(&request, &Talk { mode, verbosity, door: Door::Kaniko }, environment, &records),
        Err(error) => explain::usage_error(&error),
    }
}

/// What would be built, on standard output.
fn plan(request: &BuildRequest, mode: &str, verbosity: progress::Verbosity, environment: &Environment) -> Exit {
    let view = match watched::view(mode, verbosity, environment, places(request, environment)) {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    let listening = signals::listen();
    let surroundings = match Surroundings::prepare(&request.store, None) {
        Ok(surroundings) => surroundings,
        Err(error) => return explain::build_error(&error),
    };
    let interruption = listening.act(view.clone());
    let observer: Arc<dyn Observer> = view.clone();
    let planned = cofferdam_engine::dry_run(request, &surroundings, &observer, interruption.stop());
    view.finish(if planned.is_ok() { Outcome::Done } else { Outcome::Failed });
    match planned {
        Ok(stages) => say(&stages.iter().map(stage_text).collect::<String>()),
        Err(error) => explain::build_error(&error),
    }
}

fn stage_text(stage: &DryStage) -> String {
    let target = if stage.is_target { ", the image" } else { "" };
    let steps: String = stage.steps.iter().map(|step| format!("  {step}\n")).collect();
    format!("{}{target}\n{steps}", stage.name)
}

/// How a build is talked about.
struct Talk<'a> {
    /// `--progress`.
    mode: &'a str,
    verbosity: progress::Verbosity,
    door: Door,
}

/// The command line that a person used.
#[derive(Clone, Copy)]
enum Door {
    Docker,
    Kaniko,
}

impl Door {
    /// What to do with an image that went nowhere.
    fn advice(self, built: &Built) -> [String; 2] {
        match self {
            Self::Docker => {
                // Docker's archives hold one platform.
                let or_docker = if built.config_digest.is_some() { " (or type=docker)" } else { "" };
                [
                    format!(
                        "to export it: build again with `--output type=oci,dest=FILE`{or_docker}, nothing is repeated"
                    ),
                    "to push it:   build again with `--tag REGISTRY/NAME --push`".to_owned(),
                ]
            }
            Self::Kaniko => [
                "to export it: build again with `--oci-layout-path DIR` (or `--tar-path FILE`), nothing is repeated"
                    .to_owned(),
                "to push it:   build again with `--destination REGISTRY/NAME`, without `--no-push`".to_owned(),
            ],
        }
    }
}

impl Talk<'_> {
    /// Whether a person reads along.
    fn is_for_people(&self) -> bool {
        self.verbosity == progress::Verbosity::Normal && !matches!(self.mode, "quiet" | "none" | "json" | "rawjson")
    }
}

fn run(request: &BuildRequest, talk: &Talk<'_>, environment: &Environment, records: &Records) -> Exit {
    let view = match watched::view(talk.mode, talk.verbosity, environment, places(request, environment)) {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    let listening = signals::listen();
    // Before any thread: a user namespace can be entered by a process of one thread only.
    let surroundings = match Surroundings::prepare(&request.store, request.execution.executor.as_deref()) {
        Ok(surroundings) => surroundings,
        Err(error) => return explain::build_error(&error),
    };
    let interruption = listening.act(view.clone());
    let build = |observer: &_, stop: &_| cofferdam_engine::build(request, &surroundings, observer, stop);
    match watched::watch(&view, &interruption, build) {
        Ok(built) => match records.write(&built) {
            Ok(()) => report(request, &built, talk),
            Err(error) => explain::failed(&chain(&error)),
        },
        Err(failure) => {
            if let Failure::Failed(error) = &failure {
                explain::problems(error).iter().for_each(|problem| view.problem(problem));
            }
            failure.tell()
        }
    }
}

/// Where the Dockerfile may lie, as the engine looks for it: a path that the user gave counts from here first.
fn places(request: &BuildRequest, environment: &Environment) -> Places {
    let context = request.context.strip_prefix("dir://").unwrap_or(&request.context);
    let context = request.working_directory.join(context);
    let directories = match request.dockerfile {
        Some(_) => vec![request.working_directory.clone(), context],
        None => vec![context],
    };
    Places { workspace: environment.variable("GITHUB_WORKSPACE").map(PathBuf::from), directories }
}

/// The digest is data; the rest is talk.
fn report(request: &BuildRequest, built: &Built, talk: &Talk<'_>) -> Exit {
    let archive_on_stdout =
        request.destination.outputs.iter().any(|output| output.destination.as_os_str() == "-" && output.kind.is_file());
    let said = if archive_on_stdout {
        tell(&built.digest.to_string());
        Exit::Success
    } else {
        say(&format!("{}\n", built.digest))
    };
    if !talk.is_for_people() {
        return said;
    }
    match (built.pushed, built.written) {
        (true, _) => built.names.iter().for_each(|name| tell(&format!("pushed {name}@{}", built.digest))),
        (false, true) => {}
        (false, false) => {
            let name = built.names.first().map_or_else(|| built.digest.to_string(), Clone::clone);
            tell(&format!("the image `{name}` is in the store {}", request.store.display()));
            talk.door.advice(built).iter().for_each(|text| tell(&format!("  {text}")));
            if let Some(name) = built.names.first() {
                tell(&format!("  to look at it: skopeo inspect --config oci:{}:{name}", request.store.display()));
            }
        }
    }
    said
}
