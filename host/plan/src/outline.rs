//! What a Dockerfile offers to whoever builds it: its stages, and the arguments, secrets and caches that one of them uses.
//! Nothing is fetched and no handler is asked, so all of it comes from the text.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_dockerfile::{FromClause, Instruction, Parsed, Span, expand::Expander};

use crate::{
    Config, Options, Scope, StageNumber,
    step::{ConfigChange, KeyValue},
};

/// A stage, as one that may be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As `AS` names it.
    pub name: Option<String>,
    /// What the comment above says.
    pub description: Option<String>,
    /// What follows FROM, not expanded.
    pub base: String,
    /// `--platform`, not expanded.
    pub platform: Option<String>,
    /// Whether it is built if nothing else is asked for.
    pub is_default: bool,
    /// Of the FROM.
    pub span: Span,
}

/// What a stage and those that it needs make use of, each in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// Of the stage.
    pub name: Option<String>,
    /// What the comment above the stage says.
    pub description: Option<String>,
    /// Arguments that may be passed.
    pub arguments: Vec<Argument>,
    /// Secrets of RUN.
    pub secrets: Vec<Mount>,
    /// SSH agents of RUN.
    pub ssh: Vec<Mount>,
    /// Caches of RUN.
    pub caches: Vec<Mount>,
}

/// An ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// What `--build-arg` calls it.
    pub name: String,
    /// What the comment above says.
    pub description: Option<String>,
    /// As it is with what was passed; empty if it has none.
    pub value: String,
    /// Of the instruction.
    pub span: Span,
}

/// A mount of RUN that wants something from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its `id`.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Of the instruction that uses it first.
    pub span: Span,
}

/// The stages of a Dockerfile.
pub fn targets(parsed: &Parsed) -> Vec<Target> {
    let (_, stages) = stages(parsed);
    let last = stages.len().saturating_sub(1);
    let target = |(number, stage): (usize, &Stage<'_>)| Target {
        name: stage.name().map(str::to_owned),
        description: stage.description(),
        base: stage.clause.image.text.clone(),
        platform: stage.clause.platform.as_ref().and_then(|flag| flag.value.clone()),
        is_default: number == last,
        span: stage.from.span,
    };
    stages.iter().enumerate().map(target).collect()
}

/// What a stage makes use of; `None` if there is no such stage.
pub fn outline(parsed: &Parsed, options: &Options) -> Option<Outline> {
    let (before, stages) = stages(parsed);
    let mut walk =
        Walk { options, stages: &stages, globals: Globals::new(before, options, parsed), seen: BTreeMap::new() };
    let number = match &options.target {
        Some(name) => walk.find(name, stages.len())?,
        None => stages.len().checked_sub(1)?,
    };
    let used = walk.stage(number);
    let mut arguments: Vec<Argument> = used.arguments.into_values().collect();
    arguments.sort_by_key(|argument| argument.span);
    let sorted = |mounts: BTreeMap<String, Mount>| {
        let mut mounts: Vec<Mount> = mounts.into_values().collect();
        mounts.sort_by_key(|mount| mount.span);
        mounts
    };
    Some(Outline {
        name: stages[number].name().map(str::to_owned),
        description: stages[number].description(),
        arguments,
        secrets: sorted(used.secrets),
        ssh: sorted(used.ssh),
        caches: sorted(used.caches),
    })
}

struct Stage<'a> {
    from: &'a Instruction,
    clause: FromClause,
    instructions: Vec<&'a Instruction>,
}

impl Stage<'_> {
    fn name(&self) -> Option<&str> {
        self.clause.name.as_ref().map(|name| name.text.as_str())
    }

    fn description(&self) -> Option<String> {
        self.from.description_of(self.name()?).map(str::to_owned)
    }
}

/// What stands before the first FROM, and the stages.
fn stages(parsed: &Parsed) -> (Vec<&Instruction>, Vec<Stage<'_>>) {
    let (mut before, mut stages) = (Vec::new(), Vec::<Stage<'_>>::new());
    for instruction in &parsed.instructions {
        match (instruction.keyword.as_str(), stages.last_mut()) {
            ("FROM", _) => stages.extend(instruction.from_clause().ok().map(|clause| Stage {
                from: instruction,
                clause,
                instructions: Vec::new(),
            })),
            (_, Some(stage)) => stage.instructions.push(instruction),
            (_, None) => before.push(instruction),
        }
    }
    (before, stages)
}

/// The arguments before the first FROM.
struct Globals {
    scope: Scope,
    /// With the names that each default is made of.
    declared: BTreeMap<String, (Argument, BTreeSet<String>)>,
}

impl Globals {
    fn new(before: Vec<&Instruction>, options: &Options, parsed: &Parsed) -> Self {
        let mut globals = Self { scope: Scope::global(options, parsed), declared: BTreeMap::new() };
        for instruction in before.into_iter().filter(|instruction| instruction.keyword == "ARG") {
            for declaration in instruction.arg_declarations().into_iter().flatten() {
                let given = options.build_arguments.contains_key(&declaration.name);
                let default = declaration.default.filter(|_| !given);
                let (default, used) = default.map(|text| expanded(instruction, &text, &globals.scope)).unzip();
                globals.scope.declare_global(&declaration.name, default, options);
                let argument = argument(instruction, &declaration.name, &globals.scope);
                globals.declared.insert(declaration.name, (argument, used.unwrap_or_default()));
            }
        }
        globals
    }
}

#[derive(Default)]
struct Used {
    arguments: BTreeMap<String, Argument>,
    secrets: BTreeMap<String, Mount>,
    ssh: BTreeMap<String, Mount>,
    caches: BTreeMap<String, Mount>,
    /// What the stages that are copied from use.
    others: Vec<Used>,
}

impl Used {
    /// Takes over what a stage below uses. What is here counts: of an argument that both declare, the stage above it is the one
    /// that the reader looks at (as BuildKit has it).
    fn absorb(&mut self, below: Used) {
        for (name, argument) in below.arguments {
            self.arguments.entry(name).or_insert(argument);
        }
        let lists = [(&mut self.secrets, below.secrets), (&mut self.ssh, below.ssh), (&mut self.caches, below.caches)];
        for (ours, theirs) in lists {
            for (id, mount) in theirs {
                let required = mount.required;
                ours.entry(id).or_insert(mount).required |= required;
            }
        }
    }
}

struct Walk<'a> {
    options: &'a Options,
    stages: &'a [Stage<'a>],
    globals: Globals,
    /// The variables at the end of each stage that was walked.
    seen: BTreeMap<StageNumber, Scope>,
}

impl Walk<'_> {
    /// The last stage of a name before `limit`, or the one of a number.
    fn find(&self, name: &str, limit: StageNumber) -> Option<StageNumber> {
        let same = |stage: &Stage<'_>| stage.name().is_some_and(|known| known.eq_ignore_ascii_case(name));
        let by_number = || name.parse().ok().filter(|number| *number < self.stages.len());
        self.stages[..limit].iter().rposition(same).or_else(by_number)
    }

    fn stage(&mut self, number: StageNumber) -> Used {
        let mut used = Used::default();
        if self.seen.contains_key(&number) {
            return used;
        }
        let stage = &self.stages[number];
        self.seen.insert(number, Scope::stage(&self.globals.scope, &Config::default()));
        let platform = stage.clause.platform.as_ref().and_then(|flag| flag.value.as_deref()).unwrap_or_default();
        let (name, mut names) = expanded(stage.from, &stage.clause.image.text, &self.globals.scope);
        names.extend(expanded(stage.from, platform, &self.globals.scope).1);
        let is_context = self.options.context(&name).is_some();
        let base = self.stages[..number].iter().rposition(|stage| stage.name() == Some(&name.to_lowercase()));
        let mut scope = Scope::stage(&self.globals.scope, &Config::default());
        let mut below = None;
        if let (Some(base), false) = (base, is_context) {
            below = Some(self.stage(base));
            scope = self.seen[&base].clone();
        }
        for instruction in &stage.instructions {
            self.instruction(instruction, &mut scope, &mut used);
        }
        names.iter().for_each(|name| self.global(name, &mut used));
        self.seen.insert(number, scope);
        let others = std::mem::take(&mut used.others);
        below.into_iter().chain(others).for_each(|below| used.absorb(below));
        used
    }

    fn instruction(&mut self, instruction: &Instruction, scope: &mut Scope, used: &mut Used) {
        match instruction.keyword.as_str() {
            "ARG" => {
                for declaration in instruction.arg_declarations().into_iter().flatten() {
                    let given = self.options.build_arguments.contains_key(&declaration.name);
                    let inherited = !given && declaration.default.is_none();
                    let default = declaration.default.map(|text| expanded(instruction, &text, scope).0);
                    scope.declare(&declaration.name, default, self.options, &self.globals.scope);
                    if inherited && self.globals.scope.lookup(&declaration.name).is_some() {
                        self.global(&declaration.name, used);
                    } else {
                        let argument = argument(instruction, &declaration.name, scope);
                        used.arguments.insert(declaration.name, argument);
                    }
                }
            }
            "ENV" => {
                let pairs = instruction.pairs().unwrap_or_default().into_iter();
                let pairs: Vec<KeyValue> = pairs
                    .map(|pair| KeyValue {
                        key: expanded(instruction, &pair.key, scope).0,
                        value: expanded(instruction, &pair.value, scope).0,
                    })
                    .collect();
                pairs.into_iter().for_each(|pair| scope.observe(&ConfigChange::Environment(pair)));
            }
            "COPY" | "ADD" => {
                if let Some(from) = instruction.flag("from").and_then(|flag| flag.value.as_deref()) {
                    self.other(from, used);
                }
            }
            "RUN" => {
                for flag in instruction.flags.iter().filter(|flag| flag.name == "mount") {
                    let text = expanded(instruction, flag.value.as_deref().unwrap_or_default(), scope).0;
                    self.mount(&text, instruction.span, used);
                }
            }
            _ => {}
        }
    }

    /// A stage that is copied from or mounted, if the name is one's.
    fn other(&mut self, name: &str, used: &mut Used) {
        if self.options.context(name).is_none()
            && let Some(number) = self.find(name, self.stages.len())
        {
            let others = self.stage(number);
            used.others.push(others);
        }
    }

    fn mount(&mut self, text: &str, span: Span, used: &mut Used) {
        let options: Vec<(String, &str)> = text
            .split(',')
            .map(|option| option.split_once('=').unwrap_or((option, "true")))
            .map(|(key, value)| (key.trim().to_lowercase(), value.trim()))
            .collect();
        let first =
            |keys: &[&str]| options.iter().find(|(key, _)| keys.contains(&key.as_str())).map(|(_, value)| *value);
        let target = first(&["target", "dst", "destination"]).unwrap_or_default();
        let required = first(&["required"]).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        if let Some(from) = first(&["from"]) {
            self.other(from, used);
        }
        let file_name = target.rsplit('/').next().unwrap_or_default();
        let source = first(&["id", "source", "src"]);
        let (list, id) = match first(&["type"]) {
            Some("secret") => (&mut used.secrets, source.unwrap_or(file_name)),
            Some("ssh") => (&mut used.ssh, source.unwrap_or("default")),
            Some("cache") => (&mut used.caches, first(&["id"]).unwrap_or(target)),
            _ => return,
        };
        let mount = list.entry(id.to_owned()).or_insert(Mount { id: id.to_owned(), required, span });
        mount.required |= required;
    }

    /// A global argument that is used, and those that its default is made of.
    fn global(&self, name: &str, used: &mut Used) {
        let Some((argument, others)) = self.globals.declared.get(name) else { return };
        if !used.arguments.contains_key(name) {
            used.arguments.insert(name.to_owned(), argument.clone());
            others.iter().for_each(|other| self.global(other, used));
        }
    }
}

fn argument(instruction: &Instruction, name: &str, scope: &Scope) -> Argument {
    Argument {
        name: name.to_owned(),
        description: instruction.description_of(name).map(str::to_owned),
        value: scope.lookup(name).unwrap_or_default().to_owned(),
        span: instruction.span,
    }
}

/// The word and the names that were looked up for it. What can't be expanded stays as it is.
fn expanded(instruction: &Instruction, text: &str, scope: &Scope) -> (String, BTreeSet<String>) {
    let lookup = |name: &str| scope.lookup(name).map(str::to_owned);
    match Expander::new(instruction.escape).expand(text, &lookup) {
        Ok(expansion) => (expansion.text, expansion.lookups.set.into_iter().chain(expansion.lookups.unset).collect()),
        Err(_) => (text.to_owned(), BTreeSet::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# VERSION which one to build
ARG VERSION=1
ARG UNUSED=1
ARG BASE=alpine:$VERSION
# base what all need
FROM $BASE AS base
# USER_NAME who runs it
ARG USER_NAME=app
ARG TARGETARCH
RUN --mount=type=secret,id=token,required=true --mount=type=cache,target=/cache --mount=type=ssh x

FROM scratch AS unused
ARG OTHER
FROM base
ARG HOME=/home/$USER_NAME
COPY --from=base / /
";

    fn options(target: Option<&str>) -> Options {
        Options {
            build_arguments: [("VERSION".to_owned(), "3".to_owned())].into(),
            target: target.map(str::to_owned),
            further_targets: Vec::new(),
            platform: "linux/amd64".parse().unwrap(),
            build_platform: "linux/amd64".parse().unwrap(),
            contexts: BTreeMap::new(),
        }
    }

    fn arguments(outline: &Outline) -> Vec<(&str, &str, Option<&str>, u32)> {
        let arguments = outline.arguments.iter();
        arguments
            .map(|one| (one.name.as_str(), one.value.as_str(), one.description.as_deref(), one.span.start.line))
            .collect()
    }

    #[test]
    fn a_stage_lists_what_it_and_those_below_it_use() {
        let outline = outline(&cofferdam_dockerfile::parse(TEXT.as_bytes()), &options(None)).unwrap();
        assert_eq!(
            arguments(&outline),
            [
                ("VERSION", "3", Some("which one to build"), 2),
                ("BASE", "alpine:3", None, 4),
                ("USER_NAME", "app", Some("who runs it"), 8),
                ("HOME", "/home/app", None, 15),
            ]
        );
        let ids = |mounts: &[Mount]| mounts.iter().map(|mount| (mount.id.clone(), mount.required)).collect::<Vec<_>>();
        assert_eq!(ids(&outline.secrets), [("token".to_owned(), true)]);
        assert_eq!(ids(&outline.ssh), [("default".to_owned(), false)]);
        assert_eq!(ids(&outline.caches), [("/cache".to_owned(), false)]);
    }

    #[test]
    fn arguments_of_the_base_count_and_those_that_are_declared_again_do_so_where_that_is() {
        let text = "\
FROM scratch AS base
# A of the base
ARG A=1
ARG B=${A}b
ARG C
FROM scratch AS other
ARG B=other
ARG D=4
FROM base
# A of the stage
ARG A
ARG C=${B}c
COPY --from=other / /
";
        let outline = outline(&cofferdam_dockerfile::parse(text.as_bytes()), &options(None)).unwrap();
        assert_eq!(
            arguments(&outline),
            [("B", "1b", None, 4), ("D", "4", None, 8), ("A", "1", Some("of the stage"), 11), ("C", "1bc", None, 12),]
        );
    }

    #[test]
    fn a_stage_is_chosen_by_name_or_number() {
        let parsed = cofferdam_dockerfile::parse(TEXT.as_bytes());
        let named = outline(&parsed, &options(Some("Base"))).unwrap();
        assert_eq!((named.name.as_deref(), named.description.as_deref()), (Some("base"), Some("what all need")));
        assert_eq!(outline(&parsed, &options(Some("1"))).unwrap().arguments[0].name, "OTHER");
        assert_eq!(outline(&parsed, &options(Some("none"))), None);
    }

    #[test]
    fn targets_are_the_stages_and_the_last_is_the_default() {
        let targets = targets(&cofferdam_dockerfile::parse(TEXT.as_bytes()));
        let shown: Vec<_> =
            targets.iter().map(|one| (one.name.as_deref(), one.base.as_str(), one.is_default)).collect();
        assert_eq!(shown, [(Some("base"), "$BASE", false), (Some("unused"), "scratch", false), (None, "base", true)]);
        assert_eq!(targets[0].description.as_deref(), Some("what all need"));
    }
}
