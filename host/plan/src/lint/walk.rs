//! The walk over the stages that keeps track of what is set where.

use std::collections::BTreeSet;

use cofferdam_dockerfile::{Diagnostic, Instruction, Parsed, expand::Expander, lint::Findings};

use super::{copy, expose, from, json_args, undefined, workdir};
use crate::{
    Config, Facts, ImageName, NamedContext, Options, Platform, Scope, StageNumber,
    step::{ConfigChange, Handlers, KeyValue, Syntax},
    words,
};

/// What the walk looks at.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub parsed: &'a Parsed,
    pub handlers: &'a dyn Handlers,
    pub options: &'a Options,
    pub facts: &'a Facts,
}

/// The findings in the stages of `reached`, all of them if that is `None`; those about FROM are in all stages.
pub(crate) fn check(around: Surroundings<'_>, reached: Option<&BTreeSet<StageNumber>>) -> Vec<Diagnostic> {
    let unasked = Options { build_arguments: Default::default(), ..around.options.clone() };
    let mut walk = Walk {
        around,
        globals: Scope::global(around.options, around.parsed),
        defaults: Scope::global(&unasked, around.parsed),
        declared: BTreeSet::new(),
        stages: Vec::new(),
        found: Findings::new(&around.parsed.directives.check),
    };
    // What is found in a stage that nobody needs is dropped.
    let mut ignored = Findings::new(&around.parsed.directives.check);
    let mut wanted = true;
    for instruction in &around.parsed.instructions {
        match (instruction.keyword.as_str(), walk.stages.last_mut()) {
            ("FROM", _) => {
                if !wanted {
                    std::mem::swap(&mut walk.found, &mut ignored);
                }
                let number = walk.stages.len();
                let Ok(clause) = instruction.from_clause() else {
                    wanted = true;
                    continue;
                };
                from::check(instruction, &clause, &walk.globals, &walk.defaults, &walk.declared, &mut walk.found);
                wanted = reached.is_none_or(|reached| reached.contains(&number));
                if !wanted {
                    std::mem::swap(&mut walk.found, &mut ignored);
                }
                walk.begin(instruction, &clause);
            }
            ("ARG", None) => walk.global_argument(instruction, &unasked),
            (_, Some(_)) => walk.instruction(instruction),
            (_, None) => {}
        }
    }
    if !wanted {
        std::mem::swap(&mut walk.found, &mut ignored);
    }
    walk.found.into_vec()
}

struct Walk<'a> {
    around: Surroundings<'a>,
    globals: Scope,
    /// As they are without any `--build-arg`.
    defaults: Scope,
    /// ARGs before the first FROM.
    declared: BTreeSet<String>,
    /// In the order of the text; the last one is under way.
    stages: Vec<Stage>,
    found: Findings<'a>,
}

/// What is known at a place of a stage.
#[derive(Clone)]
struct Stage {
    name: Option<String>,
    platform: Platform,
    scope: Scope,
    config: Config,
    /// ARGs, with or without a value.
    declared: BTreeSet<String>,
    working_directory_is_set: bool,
    /// Whether everything that the base sets is known.
    base_is_known: bool,
}

impl<'a> Walk<'a> {
    fn global_argument(&mut self, instruction: &Instruction, unasked: &Options) {
        self.declared.extend(instruction.arg_declarations().into_iter().flatten().map(|one| one.name));
        for (scope, options) in [(&mut self.globals, self.around.options), (&mut self.defaults, unasked)] {
            for (name, default) in words::arguments(instruction, scope).into_iter().flatten() {
                scope.declare_global(&name, default, options);
            }
        }
    }

    fn begin(&mut self, instruction: &Instruction, clause: &cofferdam_dockerfile::FromClause) {
        let Surroundings { options, facts, .. } = self.around;
        let escape = instruction.escape;
        let expand = |text: &str| words::expand(text, escape, &self.globals, instruction.span).ok();
        let name = expand(&clause.image.text).unwrap_or_default();
        let flag = clause.platform.as_ref().and_then(|flag| flag.value.as_ref()).and_then(|text| expand(text));
        let platform = flag.and_then(|text| text.parse().ok()).unwrap_or_else(|| options.platform.clone());
        let mut triggers = Vec::new();
        let context = options.context(&name).map(|(_, context)| context);
        let local = match context {
            Some(_) => None,
            None => self
                .stages
                .iter()
                .rev()
                .find(|stage| stage.name.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(&name))),
        };
        let mut stage = if let Some(base) = local {
            triggers.clone_from(&base.config.on_build);
            let config = base.config.inherited();
            Stage { platform, config, ..base.clone() }
        } else {
            let mut base_is_known = name == "scratch" || context == Some(NamedContext::Directory);
            let mut config = Config::default();
            let image = ImageName { name, platform: platform.clone() };
            if let (false, Some(Ok(known))) = (base_is_known, facts.images.get(&image)) {
                base_is_known = true;
                triggers.clone_from(&known.config.on_build);
                config = known.config.inherited();
                if let Some(found) = &known.platform {
                    from::check_platform(instruction, &image.name, &platform, found, &mut self.found);
                }
            }
            if config.variable("PATH").is_none() {
                let path = KeyValue { key: "PATH".to_owned(), value: Config::DEFAULT_PATH.to_owned() };
                config.apply(&ConfigChange::Environment(path));
            }
            let scope = Scope::stage(&self.globals, &config);
            Stage {
                name: None,
                platform,
                scope,
                config,
                declared: BTreeSet::new(),
                working_directory_is_set: false,
                base_is_known,
            }
        };
        stage.name = clause.name.as_ref().map(|name| name.text.clone());
        self.stages.push(stage);
        for trigger in triggers {
            for instruction in words::trigger(&trigger, instruction.span).into_iter().flatten() {
                self.instruction(&instruction);
            }
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let whole = instruction.text.as_str();
        match instruction.keyword.as_str() {
            "ARG" => self.argument(instruction),
            "ENV" => {
                for pair in self.pairs(instruction) {
                    self.apply(&ConfigChange::Environment(pair));
                }
            }
            "LABEL" => drop(self.pairs(instruction)),
            "ADD" | "COPY" => {
                self.flags(instruction, |name| name != "from");
                let words = self.list(instruction);
                self.heredocs(instruction);
                copy::check(instruction, &words, &self.around.facts.ignore, &mut self.found);
            }
            "RUN" => self.flags(instruction, |name| name == "mount"),
            "VOLUME" => drop(self.list(instruction)),
            "USER" | "STOPSIGNAL" => drop(self.expand(instruction, whole)),
            "WORKDIR" => {
                let path = self.expand(instruction, whole);
                let Some(stage) = self.stages.last_mut() else { return };
                let is_first = !std::mem::replace(&mut stage.working_directory_is_set, true);
                workdir::check(instruction, &path, is_first, &mut self.found);
            }
            "EXPOSE" => {
                // Names that are not set are no finding here: BuildKit has none either.
                let Some(stage) = self.stages.last() else { return };
                let lookup = |name: &str| stage.scope.lookup(name).map(str::to_owned);
                let words = instruction.blank_separated();
                let ports =
                    words.iter().filter_map(|word| Expander::new(instruction.escape).words(&word.text, &lookup).ok());
                let ports: Vec<String> = ports.flatten().collect();
                expose::check(instruction, &ports, &mut self.found);
            }
            "CMD" | "ENTRYPOINT" => {
                let Some(stage) = self.stages.last() else { return };
                json_args::check(instruction, &stage.config, &mut self.found);
            }
            "SHELL" => {
                let words = instruction.command().map(|arguments| arguments.words).unwrap_or_default();
                self.apply(&ConfigChange::Shell(words.into_iter().map(|word| word.text).collect()));
            }
            "ONBUILD" => self.apply(&ConfigChange::OnBuild(instruction.trigger_text())),
            "HEALTHCHECK" | "MAINTAINER" => {}
            _ => self.custom(instruction),
        }
    }

    /// An instruction of a plugin: its words as its syntax says, and the changes that it announces.
    fn custom(&mut self, instruction: &Instruction) {
        let handlers = self.around.handlers;
        let Some(handler) = handlers.facts(&instruction.keyword) else { return };
        self.flags(instruction, |name| name != "from");
        match handler.syntax {
            Syntax::Words => {
                self.list(instruction);
                self.heredocs(instruction);
            }
            Syntax::Word => drop(self.expand(instruction, instruction.text.as_str())),
            Syntax::Pairs => drop(self.pairs(instruction)),
            Syntax::Command | Syntax::Text => {}
        }
        let Some(stage) = self.stages.last() else { return };
        let step = words::step(instruction, &handler, &stage.scope, &stage.config, &stage.platform);
        let planned = step.ok().and_then(|step| handlers.plan(&step).ok());
        for change in planned.iter().flat_map(|planned| &planned.changes) {
            self.apply(change);
        }
    }

    fn argument(&mut self, instruction: &Instruction) {
        let options = self.around.options;
        for declaration in instruction.arg_declarations().into_iter().flatten() {
            // A default that is not used is not looked at.
            let default = declaration.default.filter(|_| !options.build_arguments.contains_key(&declaration.name));
            let default = default.map(|default| self.expand(instruction, &default));
            let Some(stage) = self.stages.last_mut() else { return };
            stage.scope.declare(&declaration.name, default, options, &self.globals);
            stage.declared.insert(declaration.name);
        }
    }

    fn apply(&mut self, change: &ConfigChange) {
        if let Some(stage) = self.stages.last_mut() {
            stage.config.apply(change);
            stage.scope.observe(change);
        }
    }

    fn flags(&mut self, instruction: &Instruction, expanded: impl Fn(&str) -> bool) {
        for flag in instruction.flags.iter().filter(|flag| expanded(&flag.name)) {
            self.expand(instruction, flag.value.as_deref().unwrap_or_default());
        }
    }

    fn list(&mut self, instruction: &Instruction) -> Vec<String> {
        let words = instruction.list().map(|arguments| arguments.words).unwrap_or_default();
        words.iter().map(|word| self.expand(instruction, &word.text)).collect()
    }

    fn pairs(&mut self, instruction: &Instruction) -> Vec<KeyValue> {
        let pairs = instruction.pairs().unwrap_or_default().into_iter();
        let expanded = pairs.map(|pair| KeyValue {
            key: self.expand(instruction, &pair.key),
            value: self.expand(instruction, &pair.value),
        });
        expanded.collect()
    }

    fn heredocs(&mut self, instruction: &Instruction) {
        for heredoc in instruction.heredocs.iter().filter(|heredoc| heredoc.expand) {
            self.expand_with(instruction, &heredoc.text(), Expander::for_content());
        }
    }

    fn expand(&mut self, instruction: &Instruction, text: &str) -> String {
        self.expand_with(instruction, text, Expander::new(instruction.escape))
    }

    /// Expands a word and reports the names that are not set. What can't be expanded is an error of the planner's.
    fn expand_with(&mut self, instruction: &Instruction, text: &str, expander: Expander) -> String {
        let Some(stage) = self.stages.last() else { return String::new() };
        let lookup = |name: &str| stage.scope.lookup(name).map(str::to_owned);
        let (text, lookups) = match expander.expand(text, &lookup) {
            Ok(expansion) => (expansion.text, expansion.lookups),
            Err(error) => (String::new(), *error.lookups),
        };
        for name in lookups.unset.iter().filter(|name| !stage.declared.contains(*name)) {
            undefined::report(instruction, name, stage.scope.names(), stage.base_is_known, &mut self.found);
        }
        text
    }
}
