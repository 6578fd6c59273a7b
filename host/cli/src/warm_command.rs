//! `warmer`: base images that are fetched ahead.

use cofferdam_engine::{Surroundings, warm};

use crate::{
    environment::Environment, exit::Exit, explain, kaniko_door::Warmer, output::tell, progress::Places, request, say,
    signals, watched,
};

/// Fetches them; a line `NAME@DIGEST` for each is data.
pub fn run(arguments: Warmer, environment: &Environment) -> Exit {
    let (mode, verbosity) = (arguments.log.mode(), arguments.log.verbosity());
    let request = match request::from_warmer(arguments, environment) {
        Ok(request) => request,
        Err(error) => return explain::usage_error(&error),
    };
    let places = Places { workspace: None, directories: vec![environment.working_directory()] };
    let view = match watched::view(mode, verbosity, environment, places) {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    let listening = signals::listen();
    let surroundings = match Surroundings::prepare(&request.build.store, None) {
        Ok(surroundings) => surroundings,
        Err(error) => return explain::build_error(&error),
    };
    let interruption = listening.act(view.clone());
    match watched::watch(&view, &interruption, |observer, stop| warm(&request, &surroundings, observer, stop)) {
        Ok(images) => {
            for image in &images {
                let directory = request.cache.directory_of(&image.digest);
                let word = if image.fetched { "fetched to" } else { "is there already:" };
                tell(&format!("{} {word} `{}`", image.name, directory.display()));
            }
            say(&images.iter().map(|image| format!("{}@{}\n", image.name, image.digest)).collect::<String>())
        }
        Err(failure) => failure.tell(),
    }
}
