//! `warmer`: base images that are fetched ahead.

use std::sync::Arc;

use cofferdam_engine::{Observer, Surroundings, warm};

use crate::{
    environment::Environment,
    exit::Exit,
    explain,
    kaniko_door::Warmer,
    output::tell,
    progress::{self, Outcome, Places, Verbosity},
    request, say, signals,
};

/// Fetches them; a line `NAME@DIGEST` for each is data.
pub fn run(arguments: Warmer, environment: &Environment) -> Exit {
    let verbosity = match arguments.verbosity.as_str() {
        "panic" | "fatal" | "error" => Verbosity::Quiet,
        _ => Verbosity::Normal,
    };
    let mode = if arguments.log_format == "json" { "json" } else { "auto" };
    let request = match request::from_warmer(arguments, environment) {
        Ok(request) => request,
        Err(error) => return explain::usage_error(&error),
    };
    let places = Places { workspace: None, directories: vec![environment.working_directory()] };
    let view = mode.parse().and_then(|mode| progress::view(mode, verbosity, environment, places));
    let view = match view {
        Ok(view) => view,
        Err(message) => return explain::usage(&message),
    };
    let listening = signals::listen();
    let surroundings = match Surroundings::prepare(&request.build.store, None) {
        Ok(surroundings) => surroundings,
        Err(error) => return explain::build_error(&error),
    };
    let interruption = listening.act(view.clone());
    let observer: Arc<dyn Observer> = view.clone();
    let warmed = warm(&request, &surroundings, &observer, interruption.stop());
    interruption.stop().clean_up();
    let interrupted = interruption.signal();
    view.finish(match (&warmed, interrupted) {
        (Ok(_), _) => Outcome::Done,
        (Err(_), None) => Outcome::Failed,
        (Err(_), Some(_)) => Outcome::Interrupted,
    });
    match (warmed, interrupted) {
        (Ok(images), _) => {
            for image in &images {
                let directory = request.cache.directory_of(&image.digest);
                let word = if image.fetched { "fetched to" } else { "is there already:" };
                tell(&format!("{} {word} `{}`", image.name, directory.display()));
            }
            say(&images.iter().map(|image| format!("{}@{}\n", image.name, image.digest)).collect::<String>())
        }
        (Err(_), Some(signal)) => explain::interrupted(signal),
        (Err(error), None) => explain::build_error(&error),
    }
}
