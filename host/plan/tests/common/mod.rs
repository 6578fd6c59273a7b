//! Handlers that do just what the lint rules look at, and facts about images that exist only here.

use cofferdam_digest::Digest;
use cofferdam_dockerfile::{Diagnostic, KEYWORDS, Parsed};
use cofferdam_plan::{
    Config, Facts, ImageFacts, NoImage, Options, Outcome, Planner,
    step::{ConfigChange, Effect, HandlerFacts, Handlers, KeyValue, Planned, Read, Step, Syntax, TreeRead, TreeSource},
};

/// Every keyword of the reference, and TEMPLATE, which sets a variable for each of its words `NAME=VALUE`.
pub struct All;

impl Handlers for All {
    fn facts(&self, keyword: &str) -> Option<HandlerFacts> {
        let syntax = match keyword {
            "COPY" | "ADD" | "VOLUME" | "EXPOSE" | "TEMPLATE" => Syntax::Words,
            "WORKDIR" | "USER" | "STOPSIGNAL" => Syntax::Word,
            "ENV" | "LABEL" => Syntax::Pairs,
            "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => Syntax::Command,
            "HEALTHCHECK" | "ONBUILD" | "MAINTAINER" => Syntax::Text,
            _ => return None,
        };
        Some(HandlerFacts {
            plugin: "all".to_owned(),
            digest: Digest::of(keyword.as_bytes()),
            syntax,
            sees: Vec::new(),
        })
    }

    fn keywords(&self) -> Vec<String> {
        let others = KEYWORDS.into_iter().filter(|keyword| !["FROM", "ARG"].contains(keyword));
        others.chain(["TEMPLATE"]).map(str::to_owned).collect()
    }

    fn check(&self, _: &Step) -> Vec<Diagnostic> {
        Vec::new()
    }

    fn plan(&self, step: &Step) -> Result<Planned, Vec<Diagnostic>> {
        let pair = |word: &String| {
            let (key, value) = word.split_once('=')?;
            Some(ConfigChange::Environment(KeyValue { key: key.to_owned(), value: value.to_owned() }))
        };
        let (mut reads, mut changes) = (Vec::new(), Vec::new());
        match step.keyword.as_str() {
            "TEMPLATE" => changes.extend(step.arguments.words.iter().filter_map(pair)),
            "ENV" => changes.extend(step.arguments.pairs.iter().cloned().map(ConfigChange::Environment)),
            "COPY" => {
                let from = step.flags.iter().find(|flag| flag.name == "from").and_then(|flag| flag.value.clone());
                let source = from.map_or(TreeSource::Context, TreeSource::Named);
                reads.push(Read::Tree(TreeRead { source, patterns: vec![b"/".to_vec()], exclude: Vec::new() }));
            }
            _ => {}
        }
        Ok(Planned { reads, changes, effect: Effect::Configuration })
    }
}

/// A build for linux/amd64 on the same.
pub fn options() -> Options {
    Options {
        build_arguments: Default::default(),
        target: None,
        further_targets: Vec::new(),
        platform: "linux/amd64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        contexts: Default::default(),
    }
}

/// Facts about every image that a stage asks for, as the planner asks for them. An image sets PATH and nothing else;
/// some have names that say more.
pub fn facts(parsed: &Parsed) -> Facts {
    let mut facts = Facts::default();
    let stages = parsed.instructions.iter().filter(|instruction| instruction.keyword == "FROM").count();
    for stage in 0..stages {
        let options = Options { target: Some(stage.to_string()), ..options() };
        while let Outcome::Needs(needs) = Planner::new(parsed, &All, &options).plan(&facts) {
            for image in needs {
                let mut config = Config::default();
                if image.name.contains("with-shell") {
                    config.apply(&ConfigChange::Shell(vec!["/bin/bash".to_owned(), "-c".to_owned()]));
                }
                let another = image.name.contains("another-platform") || image.name.contains("arm64-only");
                let platform = if another { "linux/arm64".parse().unwrap() } else { image.platform.clone() };
                let known = ImageFacts { digest: Digest::of(b""), config, platform: Some(platform) };
                let fact = if image.name.contains("unknown") {
                    Err(NoImage { reason: "unknown".to_owned(), remedy: None })
                } else {
                    Ok(known)
                };
                facts.images.insert(image, fact);
            }
        }
    }
    facts
}
