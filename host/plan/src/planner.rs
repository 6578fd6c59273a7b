//! From instructions to a plan. Pure: what is missing comes back as needs, and the caller tries again with the answers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use cofferdam_dockerfile::{Diagnostic, FromClause, Instruction, Parsed, Severity, Span};

use crate::{
    Base, Config, Facts, ImageName, Input, InputTree, NamedContext, Outcome, Plan, PlannedStage, PlannedStep, Platform,
    StageNumber, Target,
    facts::{ImageFacts, NoImage},
    graph::Action,
    history, key, lint,
    scope::Scope,
    step::{Effect, Handlers, KeyValue, Read, TreeRead, TreeSource},
    words,
};

/// The code of the finding that an image can't be had.
pub const BASE_IMAGE: &str = "BaseImage";

/// What the user asked for beside the Dockerfile.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`.
    pub build_arguments: BTreeMap<String, String>,
    /// `--target`: a stage's name or number.
    pub target: Option<String>,
    /// Stages that are built too, whether or not the target needs them, by name or number.
    pub further_targets: Vec<String>,
    /// Of the image.
    pub platform: Platform,
    /// Of this machine.
    pub build_platform: Platform,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
}

impl Options {
    /// The context that stands for a name, by the name that it was given: names of images are compared in their short form.
    pub fn context(&self, name: &str) -> Option<(&str, NamedContext)> {
        let found = self.contexts.get_key_value(name);
        let found = found.or_else(|| self.contexts.iter().find(|(context, _)| familiar(context) == familiar(name)));
        found.map(|(context, kind)| (context.as_str(), *kind))
    }
}

/// The short form of an image's name: `docker.io/library/debian:latest` is `debian`.
fn familiar(name: &str) -> &str {
    let name = ["docker.io/", "index.docker.io/"].iter().find_map(|host| name.strip_prefix(host)).unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

/// Plans one Dockerfile.
pub struct Planner<'a> {
    parsed: &'a Parsed,
    handlers: &'a dyn Handlers,
    options: &'a Options,
}

impl<'a> Planner<'a> {
    /// A planner for a parsed Dockerfile.
    pub fn new(parsed: &'a Parsed, handlers: &'a dyn Handlers, options: &'a Options) -> Self {
        Self { parsed, handlers, options }
    }

    /// All findings that need neither network nor base images: language, unknown instructions, each handler's own check, and
    /// lint, in every stage. What is in `facts` is made use of, nothing is asked for.
    pub fn check(&self, facts: &Facts) -> Vec<Diagnostic> {
        let mut findings = self.static_findings();
        findings.extend(lint::check(self.surroundings(facts), None));
        cofferdam_dockerfile::in_order(findings)
    }

    /// The plan, or what is needed for it, or everything that is wrong.
    pub fn plan(&self, facts: &Facts) -> Outcome<Plan> {
        let mut findings = self.static_findings();
        if findings.iter().any(is_error) {
            findings.extend(lint::check(self.surroundings(facts), None));
            return Outcome::Failed(cofferdam_dockerfile::in_order(findings));
        }
        let run = Run::new(self, facts, Mode::Plan);
        let target = match run.target() {
            Ok(target) => target,
            Err(finding) => return Outcome::Failed(vec![finding]),
        };
        run.stage(target);
        let mut further = Vec::new();
        for name in &self.options.further_targets {
            match run.stage_called(name) {
                Ok(number) => further.push(number),
                Err(finding) => return Outcome::Failed(vec![finding]),
            }
        }
        further.iter().for_each(|number| run.stage(*number));
        let needs = run.needs.take();
        findings.extend(run.findings.take());
        let failed = findings.iter().any(is_error);
        if !failed && !needs.is_empty() {
            return Outcome::Needs(needs);
        }
        let reached: BTreeSet<StageNumber> = run.stages.borrow().keys().copied().collect();
        findings.retain(|finding| run.concerns(finding, &reached));
        findings.extend(lint::check(self.surroundings(facts), Some(&reached)));
        if self.parsed.directives.check.error {
            findings.extend(violations(&findings));
        }
        let all = cofferdam_dockerfile::in_order(findings);
        if all.iter().any(is_error) {
            return Outcome::Failed(all);
        }
        let stages = run.stages.take().into_iter().filter_map(|(number, stage)| Some((number, stage?))).collect();
        let target = Target { platform: self.options.platform.clone(), stage: target };
        Outcome::Plan(Plan { stages, targets: vec![target], further }, all)
    }

    /// What language and handlers find without any facts.
    fn static_findings(&self) -> Vec<Diagnostic> {
        let keywords = self.handlers.keywords();
        let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
        let mut findings = cofferdam_dockerfile::check(self.parsed, &keywords);
        findings.extend(lint::unknown_rules(self.parsed));
        let facts = Facts::default();
        let run = Run::new(self, &facts, Mode::Check);
        for number in 0..run.sources.len() {
            run.stage(number);
        }
        findings.extend(run.findings.take());
        cofferdam_dockerfile::in_order(findings)
    }

    fn surroundings<'b>(&'b self, facts: &'b Facts) -> lint::Surroundings<'b> {
        lint::Surroundings { parsed: self.parsed, handlers: self.handlers, options: self.options, facts }
    }
}

fn is_error(finding: &Diagnostic) -> bool {
    finding.severity == Severity::Error
}

/// `# check=error=true`: the error that the warnings are.
fn violations(findings: &[Diagnostic]) -> Option<Diagnostic> {
    let mut names: Vec<&str> = Vec::new();
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        if lint::rule(&finding.code).is_some() && !names.contains(&finding.code.as_str()) {
            names.push(&finding.code);
        }
    }
    let message = format!("lint violation found for rules: {}", names.join(", "));
    let help = "mend them, leave one out with `# check=skip=RULE`, or remove `error=true`".to_owned();
    (!names.is_empty()).then(|| finding(None, "LintViolation", message, Some(help)))
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Every stage, with what the Dockerfile alone says.
    Check,
    /// What the target needs, with facts.
    Plan,
}

/// What a name in `--from` stands for.
enum Named {
    Directory(String),
    Stage(StageNumber),
    Image(String),
}

/// One stage's part of the text.
struct StageSource<'a> {
    from: FromClause,
    span: Span,
    title: String,
    instructions: Vec<&'a Instruction>,
}

/// One walk over the graph.
struct Run<'a> {
    planner: &'a Planner<'a>,
    facts: &'a Facts,
    mode: Mode,
    globals: Scope,
    sources: Vec<StageSource<'a>>,
    /// `None` while the stage is being planned (a second visit then is a cycle), or if it could not be.
    stages: RefCell<BTreeMap<StageNumber, Option<PlannedStage>>>,
    /// The variables at the ends of planned stages, for those that go on from there.
    scopes: RefCell<BTreeMap<StageNumber, Scope>>,
    under_way: RefCell<BTreeSet<StageNumber>>,
    needs: RefCell<BTreeSet<ImageName>>,
    findings: RefCell<Vec<Diagnostic>>,
}

impl<'a> Run<'a> {
    fn new(planner: &'a Planner<'a>, facts: &'a Facts, mode: Mode) -> Self {
        let mut run = Self {
            planner,
            facts,
            mode,
            globals: Scope::global(planner.options, planner.parsed),
            sources: Vec::new(),
            stages: RefCell::default(),
            scopes: RefCell::default(),
            under_way: RefCell::default(),
            needs: RefCell::default(),
            findings: RefCell::default(),
        };
        for instruction in &planner.parsed.instructions {
            match (instruction.keyword.as_str(), run.sources.last_mut()) {
                ("FROM", _) => {
                    // One that is wrong is a finding of the language's own check.
                    run.sources.extend(instruction.from_clause().ok().map(|from| StageSource {
                        from,
                        span: instruction.span,
                        title: words::title(instruction),
                        instructions: Vec::new(),
                    }));
                }
                (_, Some(stage)) => stage.instructions.push(instruction),
                ("ARG", None) => {
                    let declared = words::arguments(instruction, &run.globals);
                    for (name, default) in run.report(declared).into_iter().flatten() {
                        run.globals.declare_global(&name, default, planner.options);
                    }
                }
                // An instruction before the first FROM is a finding of the parser's.
                (_, None) => {}
            }
        }
        run
    }

    fn report<T>(&self, result: Result<T, Vec<Diagnostic>>) -> Option<T> {
        result.map_err(|findings| self.findings.borrow_mut().extend(findings)).ok()
    }

    fn error(&self, span: Span, code: &str, message: String, help: Option<String>) {
        self.findings.borrow_mut().push(finding(Some(span), code, message, help));
    }

    /// Whether a finding is of interest if only these stages are built: some lint rules look at those alone.
    fn concerns(&self, finding: &Diagnostic, reached: &BTreeSet<StageNumber>) -> bool {
        let of_stage = lint::rule(&finding.code).is_some_and(|rule| rule.reach == lint::Reach::Stage);
        match finding.span {
            Some(span) if of_stage => {
                let after = self.sources.partition_point(|source| source.span.start <= span.start);
                after.checked_sub(1).is_none_or(|number| reached.contains(&number))
            }
            _ => true,
        }
    }

    fn target(&self) -> Result<StageNumber, Diagnostic> {
        let Some(name) = &self.planner.options.target else {
            return self.sources.len().checked_sub(1).ok_or_else(|| {
                finding(
                    None,
                    "NoStages",
                    "the Dockerfile has no FROM".to_owned(),
                    Some("start it with FROM".to_owned()),
                )
            });
        };
        self.stage_called(name)
    }

    /// The last stage of this name, or the one of this number.
    fn stage_called(&self, name: &str) -> Result<StageNumber, Diagnostic> {
        let by_number = || name.parse().ok().filter(|number| *number < self.sources.len());
        self.stage_named(name, self.sources.len()).or_else(by_number).ok_or_else(|| {
            let names = self.sources.iter().filter_map(|stage| stage.from.name.as_ref());
            let names: Vec<&str> = names.map(|name| name.text.as_str()).collect();
            let help = match names[..] {
                [] => "no stage of this Dockerfile has a name (FROM … AS name)".to_owned(),
                _ => format!("stages are: {}", names.join(", ")),
            };
            finding(None, "UnknownTarget", format!("there is no stage `{name}` to build"), Some(help))
        })
    }

    /// The last stage of this name before `limit`.
    fn stage_named(&self, name: &str, limit: StageNumber) -> Option<StageNumber> {
        let same =
            |stage: &StageSource| stage.from.name.as_ref().is_some_and(|known| known.text.eq_ignore_ascii_case(name));
        self.sources[..limit].iter().rposition(same)
    }

    /// Plans a stage and what it needs. Does nothing for a stage that was planned already.
    fn stage(&self, number: StageNumber) {
        if self.stages.borrow().contains_key(&number) {
            return;
        }
        if !self.under_way.borrow_mut().insert(number) {
            return;
        }
        let planned = self.plan_stage(number);
        self.under_way.borrow_mut().remove(&number);
        self.stages.borrow_mut().insert(number, planned);
    }

    fn plan_stage(&self, number: StageNumber) -> Option<PlannedStage> {
        let source = &self.sources[number];
        let platform = self.platform(source)?;
        let (base, base_config) = self.base(number, &platform)?;
        let mut config = base_config.inherited();
        let inherited = match &base {
            Base::Stage(number) => self.scopes.borrow().get(number).cloned(),
            _ => None,
        };
        let mut scope = inherited.unwrap_or_else(|| Scope::stage(&self.globals, &config));
        let mut walk = Walk { number, platform: &platform, config: &mut config, scope: &mut scope, steps: Vec::new() };
        for trigger in &base_config.on_build {
            let parsed = words::trigger(trigger, source.span);
            for instruction in self.report(parsed).into_iter().flatten() {
                self.step(&mut walk, &instruction);
            }
        }
        for instruction in &source.instructions {
            self.step(&mut walk, instruction);
        }
        let steps = walk.steps;
        self.scopes.borrow_mut().insert(number, scope);
        Some(PlannedStage {
            number,
            section: number,
            shown_platform: None,
            earlier_actions: 0,
            all_actions: steps.iter().filter(|step| step.action.is_some()).count(),
            name: source.from.name.as_ref().map(|name| name.text.clone()),
            base,
            platform,
            steps,
            base_config: base_config.inherited(),
            span: source.span,
            title: source.title.clone(),
        })
    }

    fn platform(&self, source: &StageSource) -> Option<Platform> {
        let flag = source.from.platform.as_ref().and_then(|flag| flag.value.as_ref());
        let Some(text) = flag else {
            return Some(self.planner.options.platform.clone());
        };
        let escape = self.planner.parsed.directives.escape;
        let expanded = self.report(words::expand(text, escape, &self.globals, source.span))?;
        let parsed = expanded.parse::<Platform>();
        parsed.map_err(|error| self.error(source.span, "InvalidPlatform", error.to_string(), None)).ok()
    }

    fn base(&self, number: StageNumber, platform: &Platform) -> Option<(Base, Config)> {
        let source = &self.sources[number];
        let escape = self.planner.parsed.directives.escape;
        let name = self.report(words::expand(&source.from.image.text, escape, &self.globals, source.span))?;
        if self.mode == Mode::Check {
            // What the base says is not known yet, but a local stage's own words are, and that it must not need this one.
            if self.planner.options.context(&name).is_none()
                && let Some(stage) = self.stage_named(&name, number)
            {
                self.needs_stage(number, source.span, &name, stage);
            }
            return Some((Base::Scratch, Config::default()));
        }
        if name.is_empty() {
            let message = format!("the base image of `{}` is empty after expansion", source.title);
            let help = "give the ARG before FROM a default, or pass it with --build-arg".to_owned();
            self.error(source.span, "EmptyBaseName", message, Some(help));
            return None;
        }
        if name == "scratch" {
            return Some((Base::Scratch, scratch_config()));
        }
        let mut name = name;
        if let Some((context, kind)) = self.planner.options.context(&name) {
            match kind {
                NamedContext::Directory => return Some((Base::Directory(context.to_owned()), scratch_config())),
                NamedContext::Image => name = context.to_owned(),
            }
        } else if let Some(stage) = self.stage_named(&name, number) {
            if !self.needs_stage(number, source.span, &name, stage) {
                return None;
            }
            let stages = self.stages.borrow();
            let planned = stages.get(&stage)?.as_ref()?;
            return Some((Base::Stage(stage), planned.config().clone()));
        }
        let image = ImageName { name, platform: platform.clone() };
        let facts = self.image(&image, source.span)?;
        Some((Base::Image(image, facts.digest), facts.config))
    }

    fn image(&self, image: &ImageName, span: Span) -> Option<ImageFacts> {
        match self.facts.images.get(image) {
            Some(Ok(facts)) => Some(facts.clone()),
            Some(Err(NoImage { reason, remedy })) => {
                self.error(span, BASE_IMAGE, format!("image `{}`: {reason}", image.name), remedy.clone());
                None
            }
            None => {
                self.needs.borrow_mut().insert(image.clone());
                None
            }
        }
    }

    fn step(&self, walk: &mut Walk, instruction: &Instruction) {
        if instruction.keyword == "ARG" {
            return self.argument(walk, instruction);
        }
        let Some(handler) = self.planner.handlers.facts(&instruction.keyword) else {
            // An unknown keyword is a finding of the language's own check, except in a trigger of a base image.
            if self.mode == Mode::Plan {
                let message = format!("nothing handles the instruction {}", instruction.keyword);
                self.error(instruction.span, "UnknownInstruction", message, None);
            }
            return;
        };
        let step = words::step(instruction, &handler, walk.scope, walk.config, walk.platform);
        let step = match (step, self.mode) {
            (Ok(step), _) => step,
            // A variable that the base image sets is not known here: the plan will say.
            (Err(_), Mode::Check) => return,
            (Err(findings), Mode::Plan) => return self.findings.borrow_mut().extend(findings),
        };
        if self.mode == Mode::Check {
            let found = self.planner.handlers.check(&step);
            self.findings.borrow_mut().extend(found.into_iter().map(|finding| placed(finding, step.span)));
        }
        let planned = match self.planner.handlers.plan(&step) {
            Ok(planned) => planned,
            Err(findings) => {
                let findings = findings.into_iter().map(|finding| placed(finding, step.span));
                return self.findings.borrow_mut().extend(findings);
            }
        };
        let inputs = self.inputs(walk, &step.span, &planned.reads);
        for change in &planned.changes {
            walk.config.apply(change);
            walk.scope.observe(change);
        }
        let created_by = history::created_by(&step, &planned, &walk.scope.declared());
        let action = match planned.effect {
            Effect::Configuration => None,
            Effect::RootFileSystem => {
                let recipe = key::recipe(&handler, &step, &planned, walk.platform);
                Some(Action { handler, step, planned, inputs, recipe })
            }
        };
        // What a trigger leaves in an image is the trigger.
        let created_by = Some(created_by).filter(|_| instruction.keyword != "ONBUILD");
        walk.push(instruction, created_by, action);
    }

    fn argument(&self, walk: &mut Walk, instruction: &Instruction) {
        let declared = words::arguments(instruction, walk.scope);
        if self.mode == Mode::Check && declared.is_err() {
            return;
        }
        let Some(declared) = self.report(declared) else { return };
        let mut created_by = "ARG".to_owned();
        for (name, default) in declared {
            walk.scope.declare(&name, default, self.planner.options, &self.globals);
            created_by.push_str(&history::argument(&name, walk.scope.lookup(&name)));
        }
        walk.push(instruction, Some(created_by), None);
    }

    /// The trees behind the reads. An image whose facts are missing is noted as a need and left out: the plan is not
    /// used then.
    fn inputs(&self, walk: &Walk, span: &Span, reads: &[Read]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for read in reads {
            let read = match read {
                Read::Tree(read) => read,
                Read::Url(url) => {
                    inputs.push(Input { tree: InputTree::Url(url.clone()), read: TreeRead::whole(url) });
                    continue;
                }
                Read::Git(url) => {
                    inputs.push(Input { tree: InputTree::Git(url.clone()), read: TreeRead::whole(url) });
                    continue;
                }
                Read::RootfsPath(_) | Read::WholeRootfs => continue,
            };
            let tree = match &read.source {
                TreeSource::Context => Some(InputTree::Context),
                TreeSource::Named(name) => {
                    let named = self.named(*span, name);
                    match (self.mode, named) {
                        (Mode::Plan, Some(named)) => self.tree(walk, *span, name, named),
                        (Mode::Check, Some(Named::Stage(stage))) => {
                            self.needs_stage(walk.number, *span, name, stage);
                            None
                        }
                        _ => None,
                    }
                }
            };
            inputs.extend(tree.map(|tree| Input { tree, read: read.clone() }));
        }
        inputs
    }

    /// What a name in `--from` stands for, as far as the text says.
    fn named(&self, span: Span, name: &str) -> Option<Named> {
        if name.contains('$') {
            // The graph must not depend on what is only known while it is walked (as BuildKit decides too).
            let help = "name the stage itself, or give the image a stage of its own with FROM, where ARGs are expanded";
            let message = format!("variables are not expanded in --from (`{name}`)");
            self.error(span, "VariableInFrom", message, Some(help.to_owned()));
            return None;
        }
        match self.planner.options.context(name) {
            Some((context, NamedContext::Directory)) => return Some(Named::Directory(context.to_owned())),
            Some((context, NamedContext::Image)) => return Some(Named::Image(context.to_owned())),
            None => {}
        }
        let by_number = || name.parse().ok().filter(|number| *number < self.sources.len());
        if let Some(stage) = self.stage_named(name, self.sources.len()).or_else(by_number) {
            return Some(Named::Stage(stage));
        }
        if name == "scratch" || name.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("there is no stage `{name}` to copy from");
            let help = format!("stages have the numbers 0 to {}", self.sources.len() - 1);
            self.error(span, "UnknownStage", message, Some(help));
            return None;
        }
        Some(Named::Image(name.to_owned()))
    }

    fn tree(&self, walk: &Walk, span: Span, name: &str, named: Named) -> Option<InputTree> {
        match named {
            Named::Directory(name) => Some(InputTree::Directory(name)),
            Named::Stage(stage) => self.needs_stage(walk.number, span, name, stage).then_some(InputTree::Stage(stage)),
            Named::Image(name) => {
                let image = ImageName { name, platform: walk.platform.clone() };
                let facts = self.image(&image, span)?;
                Some(InputTree::Image(image, facts.digest))
            }
        }
    }

    /// Plans a stage that the stage `number` needs, and says whether it can: no stage may need itself.
    fn needs_stage(&self, number: StageNumber, span: Span, name: &str, stage: StageNumber) -> bool {
        if stage == number || self.under_way.borrow().contains(&stage) {
            let message = format!("stage `{name}` can't be used here: it is this stage, or needs what is built here");
            let help = "start and copy from stages that do not need this one".to_owned();
            self.error(span, "CircularDependency", message, Some(help));
            return false;
        }
        self.stage(stage);
        true
    }
}

/// The state while the steps of one stage are walked.
struct Walk<'a> {
    number: StageNumber,
    platform: &'a Platform,
    config: &'a mut Config,
    scope: &'a mut Scope,
    steps: Vec<PlannedStep>,
}

impl Walk<'_> {
    fn push(&mut self, instruction: &Instruction, created_by: Option<String>, action: Option<Action>) {
        self.steps.push(PlannedStep {
            title: words::title(instruction),
            span: instruction.span,
            created_by,
            action,
            config: self.config.clone(),
        });
    }
}

/// What an image that starts from nothing has, as Docker's builder makes it.
fn scratch_config() -> Config {
    let path = KeyValue { key: "PATH".to_owned(), value: Config::DEFAULT_PATH.to_owned() };
    Config { environment: vec![path], working_directory: "/".to_owned(), ..Config::default() }
}

fn finding(span: Option<Span>, code: &str, message: String, help: Option<String>) -> Diagnostic {
    Diagnostic { severity: Severity::Error, code: code.to_owned(), message, span, help }
}

/// A finding without a place marks the whole instruction.
fn placed(finding: Diagnostic, span: Span) -> Diagnostic {
    Diagnostic { span: finding.span.or(Some(span)), ..finding }
}
