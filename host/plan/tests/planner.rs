//! The planner with handlers that do just what a test needs.

use std::collections::BTreeMap;

use cofferdam_digest::Digest;
use cofferdam_dockerfile::{Diagnostic, Severity};
use cofferdam_plan::{
    Base, Config, Facts, ImageFacts, ImageName, InputTree, NamedContext, Options, Outcome, Plan, PlannedStage, Planner,
    step::{
        ConfigChange, Effect, HandlerFacts, Handlers, Planned, Read, StateField, Step, Syntax, TreeRead, TreeSource,
    },
};

/// COPY with `--from`, RUN, ENV and ONBUILD.
struct Few;

impl Handlers for Few {
    fn facts(&self, keyword: &str) -> Option<HandlerFacts> {
        let (syntax, sees) = match keyword {
            "COPY" => (Syntax::Words, vec![StateField::WorkingDirectory]),
            "RUN" => (Syntax::Command, vec![StateField::Environment, StateField::BuildArguments, StateField::Shell]),
            "ENV" => (Syntax::Pairs, Vec::new()),
            "ONBUILD" => (Syntax::Text, Vec::new()),
            _ => return None,
        };
        Some(HandlerFacts { plugin: "few".to_owned(), digest: Digest::of(keyword.as_bytes()), syntax, sees })
    }

    fn keywords(&self) -> Vec<String> {
        ["COPY", "ENV", "ONBUILD", "RUN"].map(str::to_owned).to_vec()
    }

    fn check(&self, _: &Step) -> Vec<Diagnostic> {
        Vec::new()
    }

    fn plan(&self, step: &Step) -> Result<Planned, Vec<Diagnostic>> {
        let from = step.flags.iter().find(|flag| flag.name == "from").and_then(|flag| flag.value.clone());
        let source = from.map_or(TreeSource::Context, TreeSource::Named);
        let (reads, changes) = match step.keyword.as_str() {
            "COPY" => {
                (vec![Read::Tree(TreeRead { source, patterns: vec![b"/".to_vec()], exclude: Vec::new() })], Vec::new())
            }
            "RUN" => (vec![Read::WholeRootfs], Vec::new()),
            "ENV" => (Vec::new(), step.arguments.pairs.iter().cloned().map(ConfigChange::Environment).collect()),
            _ => (Vec::new(), vec![ConfigChange::OnBuild(step.arguments.text.clone())]),
        };
        let effect = if reads.is_empty() { Effect::Configuration } else { Effect::RootFileSystem };
        Ok(Planned { reads, changes, effect })
    }
}

fn options() -> Options {
    Options {
        build_arguments: BTreeMap::new(),
        target: None,
        further_targets: Vec::new(),
        platform: "linux/arm64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        contexts: BTreeMap::new(),
    }
}

fn name(image: &str, platform: &str) -> ImageName {
    ImageName { name: image.to_owned(), platform: platform.parse().unwrap() }
}

/// Plans with an empty image for every name that is asked for; answers what was asked for too.
fn plan_with(text: &str, options: &Options, base: &Config) -> (Outcome<Plan>, Vec<ImageName>) {
    let parsed = cofferdam_dockerfile::parse(text.as_bytes());
    let mut facts = Facts::default();
    let mut asked = Vec::new();
    loop {
        match Planner::new(&parsed, &Few, options).plan(&facts) {
            Outcome::Needs(needs) => {
                for need in needs {
                    assert!(!facts.images.contains_key(&need), "asked twice for {need:?}");
                    asked.push(need.clone());
                    let image =
                        ImageFacts { digest: Digest::of(need.name.as_bytes()), config: base.clone(), platform: None };
                    facts.images.insert(need, Ok(image));
                }
            }
            outcome => return (outcome, asked),
        }
    }
}

#[track_caller]
fn plan(text: &str, options: &Options) -> Plan {
    match plan_with(text, options, &Config::default()).0 {
        Outcome::Plan(plan, _) => plan,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn codes(text: &str, options: &Options) -> Vec<(String, u32)> {
    match plan_with(text, options, &Config::default()).0 {
        Outcome::Failed(findings) => findings
            .into_iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| (finding.code, finding.span.map_or(0, |span| span.start.line)))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_the_target_needs_is_planned_and_asked_for() {
    let text = "FROM unreachable AS unused\nRUN x\nFROM base AS one\nRUN y\nFROM other AS two\nCOPY --from=one / /\n";
    let (outcome, asked) = plan_with(text, &options(), &Config::default());
    let Outcome::Plan(plan, _) = outcome else { panic!("{outcome:?}") };
    assert_eq!(plan.stages.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(asked.iter().map(|image| image.name.as_str()).collect::<Vec<_>>(), ["other", "base"]);
    let first = Options { target: Some("ONE".to_owned()), ..options() };
    assert_eq!(crate::plan(text, &first).stages.len(), 1);
}

#[test]
fn stages_are_found_by_name_by_number_and_as_a_base() {
    let text = "FROM scratch AS Base\nFROM base AS next\nCOPY --from=0 / /\nCOPY --from=BASE / /\n";
    let plan = plan(text, &options());
    assert_eq!(plan.stages[&1].base, Base::Stage(0));
    let inputs: Vec<InputTree> = plan.stages[&1]
        .steps
        .iter()
        .flat_map(|step| &step.action.as_ref().unwrap().inputs)
        .map(|input| input.tree.clone())
        .collect();
    assert_eq!(inputs, [InputTree::Stage(0), InputTree::Stage(0)]);
}

#[test]
fn a_later_stage_may_be_copied_from_but_not_in_a_circle() {
    let text = "FROM scratch AS one\nCOPY --from=two / /\nFROM scratch AS two\nCOPY . /\n";
    let target = Options { target: Some("one".to_owned()), ..options() };
    assert_eq!(plan(text, &target).stages.len(), 2);
    let circle = "FROM scratch AS one\nCOPY --from=two / /\nFROM one AS two\nCOPY . /\n";
    assert_eq!(codes(circle, &options()), [("CircularDependency".to_owned(), 3)]);
    // Without a build too, and where the target does not need it.
    let text = format!("{circle}FROM scratch\nCOPY . /\n");
    assert_eq!(codes(&text, &options()), [("CircularDependency".to_owned(), 3)]);
    let checked =
        Planner::new(&cofferdam_dockerfile::parse(text.as_bytes()), &Few, &options()).check(&Facts::default());
    assert!(checked.iter().any(|finding| finding.code == "CircularDependency"), "{checked:?}");
    assert_eq!(codes("FROM scratch AS me\nCOPY --from=me / /\n", &options()), [("CircularDependency".to_owned(), 2)]);
}

#[test]
fn variables_are_not_expanded_in_from_flags() {
    let text = "FROM scratch AS a\nFROM scratch\nARG S=a\nCOPY --from=$S / /\n";
    assert_eq!(codes(text, &options()), [("VariableInFrom".to_owned(), 4)]);
    assert_eq!(codes("FROM scratch\nCOPY --from=7 / /\n", &options()), [("UnknownStage".to_owned(), 2)]);
}

#[test]
fn all_mistakes_are_told_at_once_also_in_stages_that_are_not_needed() {
    let text = "FROM scratch\nRUNN x\nFROM scratch\nCOPPY a b\nENV =x\n";
    let codes = codes(text, &options());
    assert_eq!(codes.len(), 3, "{codes:?}");
    assert_eq!(codes.iter().map(|(_, line)| *line).collect::<Vec<_>>(), [2, 4, 5]);
}

#[test]
fn an_unknown_target_is_an_error() {
    let missing = Options { target: Some("nope".to_owned()), ..options() };
    assert_eq!(codes("FROM scratch AS a\n", &missing), [("UnknownTarget".to_owned(), 0)]);
}

#[test]
fn arguments_reach_stages_that_are_based_on_theirs_and_no_others() {
    let text =
        "FROM scratch AS one\nARG NAME=x\nRUN a\nFROM one AS two\nRUN b\nFROM scratch\nCOPY --from=two / /\nRUN c\n";
    let plan = plan(text, &options());
    let state = |stage: usize| plan.stages[&stage].steps.last().unwrap().action.as_ref().unwrap().step.state.clone();
    assert_eq!(state(0).build_arguments.len(), 1);
    assert_eq!(state(1).build_arguments, state(0).build_arguments);
    assert!(state(2).build_arguments.is_empty());
}

#[test]
fn the_target_platform_stays_the_builds_in_a_native_stage() {
    let text = "FROM --platform=$BUILDPLATFORM compiler\nARG TARGETARCH\nRUN x\n";
    let (outcome, asked) = plan_with(text, &options(), &Config::default());
    let Outcome::Plan(plan, _) = outcome else { panic!("{outcome:?}") };
    assert_eq!(asked, [name("compiler", "linux/amd64")]);
    let action = plan.stages[&0].steps.last().unwrap().action.as_ref().unwrap();
    assert_eq!(action.step.state.build_arguments[0].value, "arm64");
}

/// One plan for both platforms, on a machine of the second one.
fn joined(text: &str) -> Plan {
    let platforms = ["linux/arm64", "linux/amd64"];
    Plan::join(
        platforms.map(|platform| plan(text, &Options { platform: platform.parse().unwrap(), ..options() })).to_vec(),
    )
}

/// Labels of stages with the titles of their steps, in the order of their numbers.
fn shown(plan: &Plan) -> Vec<String> {
    let titles =
        |stage: &PlannedStage| stage.steps.iter().map(|step| step.title.clone()).collect::<Vec<_>>().join("; ");
    plan.stages.values().map(|stage| format!("{}: {}", stage.label(), titles(stage))).collect()
}

#[test]
fn what_does_not_depend_on_the_platform_is_planned_once() {
    let text = "FROM --platform=$BUILDPLATFORM compiler AS build\nRUN fetch\nARG TARGETARCH\nRUN compile\n\
                FROM --platform=$BUILDPLATFORM tools AS native\nRUN generate\n\
                FROM base\nCOPY --from=build / /\nCOPY --from=native / /\n";
    let plan = joined(text);
    assert_eq!(
        shown(&plan),
        [
            "linux/amd64->arm64 build: ARG TARGETARCH; RUN compile",
            "linux/amd64 native: RUN generate",
            "linux/arm64 stage-2: COPY --from=build / /; COPY --from=native / /",
            "linux/amd64 build: ARG TARGETARCH; RUN compile",
            "linux/amd64 stage-2: COPY --from=build / /; COPY --from=native / /",
            "linux/amd64 build: RUN fetch",
        ]
    );
    assert_eq!([&plan.stages[&0].base, &plan.stages[&3].base], [&Base::Stage(5), &Base::Stage(5)]);
    let place = |number: usize| (plan.stages[&number].earlier_actions, plan.stages[&number].all_actions);
    assert_eq!([place(5), place(0), place(3)], [(0, 2), (1, 2), (1, 2)]);
    let targets: Vec<(String, usize)> =
        plan.targets.iter().map(|target| (target.platform.to_string(), target.stage)).collect();
    assert_eq!(targets, [("linux/arm64".to_owned(), 2), ("linux/amd64".to_owned(), 4)]);
}

#[test]
fn images_that_are_the_same_for_all_platforms_are_one_stage() {
    let plan = joined("FROM --platform=$BUILDPLATFORM base\nRUN x\n");
    assert_eq!(plan.stages.len(), 1);
    assert_eq!(plan.targets.iter().map(|target| target.stage).collect::<Vec<_>>(), [0, 0]);
    // On nothing, too, an image has its own platform.
    assert_eq!(joined("FROM scratch\nCOPY / /\n").stages.len(), 2);
}

#[test]
fn three_platforms_share_what_any_two_have_in_common() {
    let text =
        "FROM --platform=$BUILDPLATFORM compiler\nRUN all\nARG TARGETOS\nRUN system\nARG TARGETARCH\nRUN machine\n";
    let platforms = ["linux/arm64", "linux/amd64", "windows/amd64"];
    let plans = platforms.map(|platform| plan(text, &Options { platform: platform.parse().unwrap(), ..options() }));
    let plan = Plan::join(plans.to_vec());
    assert_eq!(
        shown(&plan),
        [
            "linux/amd64->arm64 stage-0: ARG TARGETARCH; RUN machine",
            "linux/amd64 stage-0: ARG TARGETARCH; RUN machine",
            "linux/amd64->windows/amd64 stage-0: ARG TARGETOS; RUN system; ARG TARGETARCH; RUN machine",
            "linux/amd64 stage-0: RUN all",
            "linux/amd64 stage-0: ARG TARGETOS; RUN system",
        ]
    );
    assert_eq!(plan.stages[&4].base, Base::Stage(3));
    assert_eq!(plan.image_stages().into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn the_platform_is_part_of_what_a_command_is() {
    let recipe = |platform: &str| {
        let options = Options { platform: platform.parse().unwrap(), ..options() };
        let plan = plan("FROM scratch\nRUN x\n", &options);
        plan.stages[&0].steps[0].action.as_ref().unwrap().recipe
    };
    assert_ne!(recipe("linux/arm64"), recipe("linux/arm/v7"));
}

#[test]
fn triggers_of_a_base_run_first_and_are_not_inherited_further() {
    let mut base = Config::default();
    base.on_build.push("RUN trigger".to_owned());
    let (outcome, _) = plan_with("FROM base\nRUN own\n", &options(), &base);
    let Outcome::Plan(plan, _) = outcome else { panic!("{outcome:?}") };
    let titles: Vec<&str> = plan.stages[&0].steps.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(titles, ["RUN trigger", "RUN own"]);
    assert!(plan.stages[&0].config().on_build.is_empty());
    base.on_build = vec!["FROM elsewhere".to_owned()];
    let (outcome, _) = plan_with("FROM base\n", &options(), &base);
    assert!(matches!(outcome, Outcome::Failed(_)));
}

#[test]
fn a_recipe_covers_what_the_handler_sees_and_nothing_else() {
    let recipe = |text: &str| {
        let plan = plan(text, &options());
        plan.stages[&0].steps.last().unwrap().action.as_ref().unwrap().recipe
    };
    assert_ne!(recipe("FROM scratch\nENV A=1\nRUN x\n"), recipe("FROM scratch\nENV A=2\nRUN x\n"));
    assert_eq!(recipe("FROM scratch\nENV A=1\nCOPY . /\n"), recipe("FROM scratch\nENV A=2\nCOPY . /\n"));
    assert_eq!(recipe("FROM scratch\nRUN x\n"), recipe("# comment\nFROM scratch\n\nRUN x\n"));
    assert_ne!(recipe("FROM scratch\nRUN a b\n"), recipe("FROM scratch\nRUN [\"a\", \"b\"]\n"));
}

#[test]
fn a_named_context_stands_before_stages_and_images() {
    let mut options = options();
    options.contexts.insert("golang:1.23".to_owned(), NamedContext::Directory);
    let plan = plan("FROM golang:1.23\nRUN x\n", &options);
    assert_eq!(plan.stages[&0].base, Base::Directory("golang:1.23".to_owned()));
}
