//! `cofferdam tags`: what tagging policies decide, without building.
#![allow(clippy::disallowed_methods, reason = "reads the file of facts that the user names")]

use std::io::Read;

use clap::Args;
use cofferdam_engine::{BuildError, Decided, load_plugins, plugin_host::Facts as TagFacts};

use crate::{
    docker_door::SharedArguments, environment::Environment, exit::Exit, explain, request, say,
    tag_policies::TagPolicyArguments,
};

/// Facts are not larger than this, in bytes.
const FACTS_LIMIT_BYTES: u64 = 4 << 20;

/// What is decided.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cofferdam tags --tag-policy git -t registry.example/team/app .
  cofferdam tags --print-facts . > facts.json
  cofferdam tags --facts facts.json --tag-policy semver -t registry.example/team/app")]
pub struct TagsArguments {
    /// Directory whose git checkout gives the facts
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,

    /// Name of the image, with or without a tag; may be repeated
    #[arg(short = 't', long = "tag", value_name = "REF", required_unless_present = "print_facts")]
    tags: Vec<String>,

    #[command(flatten)]
    policies: TagPolicyArguments,

    /// Prints what policies are told, as JSON, and decides nothing
    #[arg(long, conflicts_with = "facts")]
    print_facts: bool,

    /// Takes the facts from a file instead of the checkout and the environment; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    facts: Option<String>,

    /// Prints labels and annotations too, and everything as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    shared: SharedArguments,
}

impl TagsArguments {
    /// One policy alone, without options.
    pub fn of_policy(
        name: String,
        context: String,
        tags: Vec<String>,
        facts: Option<String>,
        shared: SharedArguments,
    ) -> Self {
        let policies = TagPolicyArguments::of(name);
        Self { context, tags, policies, print_facts: false, facts, json: false, shared }
    }
}

/// Prints one full name a line.
pub fn run(arguments: &TagsArguments, environment: &Environment) -> Exit {
    let facts = match facts(arguments, environment) {
        Ok(facts) => facts,
        Err(exit) => return exit,
    };
    if arguments.print_facts {
        return say(&pretty(&facts));
    }
    let decided = match arguments.policies.uses() {
        Ok(policies) => decide(arguments, &policies, &facts, environment),
        Err(error) => return explain::usage(&error),
    };
    match decided {
        Ok(decided) if arguments.json => say(&pretty(&serde_json::json!({
            "names": names(&decided),
            "labels": decided.labels,
            "annotations": decided.annotations,
        }))),
        Ok(decided) => say(&names(&decided).iter().map(|name| format!("{name}\n")).collect::<String>()),
        Err(error) => explain::build_error(&error),
    }
}

fn facts(arguments: &TagsArguments, environment: &Environment) -> Result<TagFacts, Exit> {
    let Some(file) = &arguments.facts else {
        let directory = environment.working_directory().join(&arguments.context);
        let facts = cofferdam_engine::Facts::collect(&directory, environment.ci_variables());
        return facts
            .map(|facts| cofferdam_engine::tag_facts(&facts, None))
            .map_err(|error| explain::build_error(&error));
    };
    let failed = |why: String| explain::failed(&format!("the facts in `{file}`: {why}"));
    let mut text = String::new();
    let read = match file.as_str() {
        "-" => std::io::stdin().take(FACTS_LIMIT_BYTES).read_to_string(&mut text),
        #[allow(clippy::disallowed_types, reason = "see above")]
        path => std::fs::File::open(path).and_then(|file| file.take(FACTS_LIMIT_BYTES).read_to_string(&mut text)),
    };
    read.map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

fn decide(
    arguments: &TagsArguments,
    policies: &[cofferdam_engine::PolicyUse],
    facts: &TagFacts,
    environment: &Environment,
) -> Result<Decided, BuildError> {
    let access = request::plugins(&arguments.shared, environment)
        .map_err(|error| BuildError::TagPolicy { policy: "plugins".to_owned(), reason: error.to_string() })?;
    let plugins = load_plugins(&access)?;
    // What the repository has is a fact like the others here: no registry is asked.
    let published = |_: &_| Ok(facts.published.clone());
    cofferdam_engine::decide(&plugins, policies, &arguments.tags, facts, &published)
}

fn names(decided: &Decided) -> Vec<String> {
    let names = decided
        .repositories
        .iter()
        .flat_map(|named| named.references().map(|name| name.to_string()).collect::<Vec<_>>());
    names.collect()
}

fn pretty(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    // Maps with text keys and plain values: nothing of it can fail.
    text.unwrap_or_default() + "\n"
}
