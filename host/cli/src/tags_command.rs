//! `cofferdam tags`: what tagging policies decide, without building.

use clap::Args;
use cofferdam_engine::{BuildError, load_plugins};

use crate::{docker_door::SharedArguments, environment::Environment, exit::Exit, explain, request, say};

/// What is decided.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  cofferdam tags --tag-policy git -t registry.example/team/app .")]
pub struct TagsArguments {
    /// Directory whose git checkout gives the facts
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,

    /// Name of the image, with or without a tag; may be repeated
    #[arg(short = 't', long = "tag", value_name = "REF", required = true)]
    tags: Vec<String>,

    /// Policy that decides the tags, with its options; may be repeated [default: explicit]
    #[arg(long = "tag-policy", value_name = "POLICY[:KEY=VALUE,…]")]
    tag_policies: Vec<String>,

    #[command(flatten)]
    shared: SharedArguments,
}

/// Prints one full name a line.
pub fn run(arguments: TagsArguments, environment: &Environment) -> Exit {
    let decided = match request::policies(&arguments.tag_policies) {
        Ok(policies) => decide(&arguments, &policies, environment),
        Err(error) => return explain::usage(&error),
    };
    match decided {
        Ok(names) => say(&names.iter().map(|name| format!("{name}\n")).collect::<String>()),
        Err(error) => explain::build_error(&error),
    }
}

fn decide(
    arguments: &TagsArguments,
    policies: &[cofferdam_engine::PolicyUse],
    environment: &Environment,
) -> Result<Vec<String>, BuildError> {
    let access = request::plugins(&arguments.shared, environment)
        .map_err(|error| BuildError::TagPolicy { policy: "plugins".to_owned(), reason: error.to_string() })?;
    let plugins = load_plugins(&access)?;
    let facts = cofferdam_engine::Facts::collect(
        &environment.working_directory().join(&arguments.context),
        environment.ci_variables(),
    )?;
    let named = cofferdam_engine::decide(&plugins, policies, &arguments.tags, &facts, None)?;
    Ok(named.iter().flat_map(|named| named.references().map(|name| name.to_string()).collect::<Vec<_>>()).collect())
}
