//! `cofferdam index`: indexes of images that are in registries.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cofferdam_engine::{AnnotationLevel, IndexRequest, create_index};

use crate::{
    docker_door::{RegistryArguments, SharedArguments},
    environment::Environment,
    exit::Exit,
    explain,
    request::{self, UsageError},
    say, watched,
};

/// What is done with indexes.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Joins images that are in registries, one for each platform, under one name
    Create(Box<CreateArguments>),
}

/// What is joined, and where it goes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cofferdam index create -t registry.example/team/app:1.2 registry.example/team/app@sha256:… registry.example/team/app@sha256:…
  cofferdam index create -t registry.example/team/app:1.2 registry.example/team/app:1.2-amd64 registry.example/team/app:1.2-arm64")]
pub struct CreateArguments {
    /// Image or index: REPOSITORY@DIGEST, REPOSITORY:TAG, or a digest in the repository of the first `--tag`
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<String>,

    /// Name of the index; may be repeated
    #[arg(short = 't', long = "tag", value_name = "REF")]
    references: Vec<String>,

    /// Keeps the images that the first name leads to now, but for platforms that are replaced
    #[arg(long)]
    append: bool,

    /// Annotation of the index; `manifest-descriptor:` or `manifest-descriptor[OS/ARCH]:` in front is for the descriptors in it
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,

    /// Prints the index, and sends nothing
    #[arg(long)]
    dry_run: bool,

    /// Writes the digest of the index to a file
    #[arg(long, value_name = "FILE")]
    digest_file: Option<PathBuf>,

    #[command(flatten)]
    registries: RegistryArguments,

    #[command(flatten)]
    shared: SharedArguments,
}

/// `cofferdam index …`.
pub fn run(command: IndexCommand, environment: &Environment) -> Exit {
    let IndexCommand::Create(arguments) = command;
    create(*arguments, environment)
}

fn create(arguments: CreateArguments, environment: &Environment) -> Exit {
    // Nobody may look into this process: it will hold credentials.
    let _ = cofferdam_exec::harden_process();
    let CreateArguments { dry_run, digest_file, shared, .. } = &arguments;
    let (dry_run, digest_file, shared) = (*dry_run, digest_file.clone(), shared.clone());
    let request = match create_request(arguments, environment) {
        Ok(request) => request,
        Err(error) => return explain::usage_error(&error),
    };
    let made = watched::run(&shared.progress, environment, |observer, stop| create_index(&request, observer, stop));
    let made = match made {
        Ok(made) => made,
        Err(exit) => return exit,
    };
    if !dry_run {
        return watched::report_pushed(&made.digest, &made.names, digest_file.as_deref());
    }
    match watched::write_digest(&made.digest, digest_file.as_deref()) {
        Ok(()) => say(&format!("{}\n", String::from_utf8_lossy(&made.json))),
        Err(exit) => exit,
    }
}

fn create_request(arguments: CreateArguments, environment: &Environment) -> request::Result<IndexRequest> {
    let wrong = |text: &str| Err(UsageError::Combination(text.to_owned()));
    if arguments.references.is_empty() && (arguments.append || !arguments.dry_run) {
        return wrong("an index needs a name: add `--tag REF`, or `--dry-run` to look at it");
    }
    let annotations = request::annotations(&arguments.annotations, AnnotationLevel::Index)?;
    let is_possible = |level| matches!(level, AnnotationLevel::Index | AnnotationLevel::ManifestDescriptor);
    if annotations.iter().any(|annotation| !is_possible(annotation.level)) {
        return wrong("images in a registry stay what they are: annotations are for `index` or `manifest-descriptor`");
    }
    Ok(IndexRequest {
        sources: arguments.sources,
        references: arguments.references,
        append: arguments.append,
        annotations,
        dry_run: arguments.dry_run,
        registries: request::registries_of_docker(arguments.registries, environment)?,
        plugins: request::plugins(&arguments.shared, environment)?,
    })
}
