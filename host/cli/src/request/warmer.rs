//! `warmer`: Kaniko's flags for base images that are fetched ahead.

use std::path::Path;

use clap::Parser;
use cofferdam_engine::{BaseImageCache, WarmRequest};

use super::{Result, UsageError, duration, kaniko::from_kaniko};
use crate::{
    environment::Environment,
    kaniko_door::{Executor, Warmer},
};

/// What is fetched, and how. Registries are reached, and Dockerfiles read, as by a build that pushes nothing.
pub fn from_warmer(arguments: Warmer, environment: &Environment) -> Result<WarmRequest> {
    if arguments.images.is_empty() && arguments.dockerfile.is_none() {
        let text = "`--image REF` or `--dockerfile FILE` is needed";
        return Err(UsageError::Combination(text.to_owned()));
    }
    let working_directory = environment.working_directory();
    let cache = BaseImageCache {
        directory: working_directory.join(arguments.cache_dir),
        ttl: Some(duration("--cache-ttl", &arguments.cache_ttl)?),
    };
    // A Dockerfile needs a context, of which nothing is read.
    let context = arguments.dockerfile.as_deref().and_then(|file| Path::new(file).parent());
    let context = working_directory.join(context.unwrap_or(Path::new("")));
    let mut build = Executor::try_parse_from(["executor", "--no-push"])
        .map_err(|error| UsageError::Combination(error.to_string()))?
        .build;
    build.context = Some(context.to_string_lossy().into_owned());
    build.build_arguments = arguments.build_arguments;
    build.custom_platform = arguments.custom_platform;
    build.store = arguments.store;
    build.registries = arguments.registries;
    build.bounds = arguments.bounds;
    let of_dockerfile = arguments.dockerfile.is_some();
    build.dockerfile = arguments.dockerfile.unwrap_or_default();
    let build = from_kaniko(build, environment)?;
    Ok(WarmRequest { build, of_dockerfile, images: arguments.images, cache, force: arguments.switches.force })
}
