//! `push`: an image that was written to a file or directory goes to registries.

use std::path::PathBuf;

use clap::Args;
use cofferdam_engine::{PushRequest, RegistryAccess, push_image, source_path};

use crate::{
    docker_door::{RegistryArguments, SharedArguments},
    environment::Environment,
    exit::Exit,
    explain,
    kaniko_door::KanikoRegistries,
    request::{self, UsageError},
    watched,
};

/// What is pushed, and where to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cofferdam push app.tar registry.example/team/app:1.2
  cofferdam push layout:v1 registry.example/team/app:1.2 registry.example/team/app:latest")]
pub struct PushArguments {
    /// An OCI layout (a directory, with `:TAG` behind it if it holds several images), an archive of one, or an archive for
    /// `docker load`
    #[arg(value_name = "SOURCE")]
    source: String,

    /// Name to push it under; may be repeated. With the image's digest instead of a tag, no tag is moved
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,

    /// Writes the digest of the image to a file
    #[arg(long, value_name = "FILE")]
    digest_file: Option<PathBuf>,

    #[command(flatten)]
    registries: RegistryArguments,

    #[command(flatten)]
    shared: SharedArguments,
}

/// The same with Kaniko's flags.
#[derive(Debug, Args)]
pub struct KanikoPushArguments {
    /// An OCI layout, or an archive for `docker load`
    #[arg(value_name = "SOURCE")]
    source: String,

    /// Name to push the image under; may be repeated
    #[arg(short = 'd', long = "destination", value_name = "REF", required = true)]
    destinations: Vec<String>,

    /// Writes the digest of the image to a file
    #[arg(long, value_name = "FILE")]
    digest_file: Option<PathBuf>,

    #[command(flatten)]
    registries: KanikoRegistries,
}

/// `cofferdam push`.
pub fn push(arguments: PushArguments, environment: &Environment) -> Exit {
    let access = request::registries_of_docker(arguments.registries, environment);
    let image =
        Image { source: arguments.source, references: arguments.references, digest_file: arguments.digest_file };
    run(image, access, &arguments.shared, environment)
}

/// `executor push`.
pub fn push_of_kaniko(arguments: KanikoPushArguments, environment: &Environment) -> Exit {
    let access = request::registries(arguments.registries, environment);
    let image =
        Image { source: arguments.source, references: arguments.destinations, digest_file: arguments.digest_file };
    let shared = SharedArguments { progress: "auto".to_owned(), ..SharedArguments::default() };
    run(image, access, &shared, environment)
}

struct Image {
    source: String,
    references: Vec<String>,
    digest_file: Option<PathBuf>,
}

fn run(
    image: Image,
    access: Result<RegistryAccess, UsageError>,
    shared: &SharedArguments,
    environment: &Environment,
) -> Exit {
    // Nobody may look into this process: it will hold credentials.
    let _ = cofferdam_exec::harden_process();
    let request = (|| {
        Ok(PushRequest {
            source: source_path(&environment.working_directory(), &image.source),
            references: image.references,
            store: environment.store(shared.store.clone())?,
            registries: access?,
            plugins: request::plugins(shared, environment)?,
        })
    })();
    let request = match request {
        Ok(request) => request,
        Err(error) => return explain::usage_error(&error),
    };
    let pushed = watched::run(&shared.progress, environment, |observer, stop| push_image(&request, observer, stop));
    let pushed = match pushed {
        Ok(pushed) => pushed,
        Err(exit) => return exit,
    };
    watched::report_pushed(&pushed.digest, &pushed.names, image.digest_file.as_deref())
}
