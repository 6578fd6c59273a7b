//! A plan: the stages that the target needs, each with its steps.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_digest::Digest;
use cofferdam_dockerfile::Span;

use crate::{
    Config, ImageName, Platform,
    facts::DirectoryName,
    key,
    step::{HandlerFacts, Planned, Read, Step, TreeRead},
};

/// The number of a stage in the Dockerfile, from 0.
pub type StageNumber = usize;

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// The result of another stage.
    Stage(StageNumber),
    /// An image, with its manifest's digest.
    Image(ImageName, Digest),
    /// A directory that was named with `--build-context`.
    Directory(DirectoryName),
}

/// A tree that a step reads, resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputTree {
    /// The build context.
    Context,
    /// A directory that was named with `--build-context`.
    Directory(DirectoryName),
    /// The result of another stage.
    Stage(StageNumber),
    /// An image, with its manifest's digest.
    Image(ImageName, Digest),
    /// A file behind a URL.
    Url(String),
    /// A git repository, as the handler named it.
    Git(String),
}

/// A tree and what of it a step reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The tree.
    pub tree: InputTree,
    /// What of it is read.
    pub read: TreeRead,
}

/// A step that changes the root file system.
#[derive(Debug, Clone)]
pub struct Action {
    /// Who carries it out.
    pub handler: HandlerFacts,
    /// What the handler is told.
    pub step: Step,
    /// What the handler answered.
    pub planned: Planned,
    /// One for each tree among the reads, in their order.
    pub inputs: Vec<Input>,
    /// Everything about the step but its inputs.
    pub recipe: Digest,
}

/// One instruction of a stage.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// As the user wrote it, for progress: `RUN make`.
    pub title: String,
    /// Where it stands.
    pub span: Span,
    /// For the image's history; what leaves no line there has none.
    pub created_by: Option<String>,
    /// What must be done; `None` if only the configuration changes.
    pub action: Option<Action>,
    /// The configuration after the step.
    pub config: Config,
}

impl PlannedStep {
    /// Whether it is the same instruction with the same outcome, on whatever it stands.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let parts = |step: &Self| step.action.as_ref().map(|action| (action.recipe, action.inputs.clone()));
        (&self.title, self.span, &self.created_by) == (&other.title, other.span, &other.created_by)
            && self.config == other.config
            && parts(self) == parts(other)
    }

    /// Whether the step needs the stage's root file system as files: it runs commands.
    pub fn needs_rootfs(&self) -> bool {
        self.action.as_ref().is_some_and(|action| action.planned.reads.contains(&Read::WholeRootfs))
    }
}

/// A stage that the target needs.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// Its number in the plan: for one platform, that in the Dockerfile.
    pub number: StageNumber,
    /// Its number in the Dockerfile.
    pub section: StageNumber,
    /// Where it runs and what it is for, as progress shows that beside its name; `None` where the plan is for one platform.
    pub shown_platform: Option<String>,
    /// How many actions of the same FROM another stage carries out before.
    pub earlier_actions: usize,
    /// How many actions follow the FROM, there and here.
    pub all_actions: usize,
    /// As `AS` names it.
    pub name: Option<String>,
    /// What it starts from.
    pub base: Base,
    /// Of the image that it makes.
    pub platform: Platform,
    /// In the order of the text, triggers of the base first.
    pub steps: Vec<PlannedStep>,
    /// The configuration before the first step.
    pub base_config: Config,
    /// Of the FROM.
    pub span: Span,
    /// The FROM as the user wrote it, for progress.
    pub title: String,
}

impl PlannedStage {
    /// What progress calls it.
    pub fn label(&self) -> String {
        let name = self.name.clone().unwrap_or_else(|| format!("stage-{}", self.section));
        match &self.shown_platform {
            Some(platform) => format!("{platform} {name}"),
            None => name,
        }
    }

    /// The configuration after the last step.
    pub fn config(&self) -> &Config {
        self.steps.last().map_or(&self.base_config, |step| &step.config)
    }

    /// How many of its steps work on the root file system.
    pub fn actions(&self) -> usize {
        self.steps.iter().filter(|step| step.action.is_some()).count()
    }

    /// The stages that it needs, directly.
    pub fn stages(&self) -> impl Iterator<Item = StageNumber> {
        let base = match self.base {
            Base::Stage(number) => Some(number),
            _ => None,
        };
        let inputs = self.steps.iter().filter_map(|step| step.action.as_ref()).flat_map(|action| &action.inputs);
        base.into_iter().chain(inputs.filter_map(|input| match input.tree {
            InputTree::Stage(number) => Some(number),
            _ => None,
        }))
    }
}

/// What must be done for the targets, and nothing else.
#[derive(Debug, Clone)]
pub struct Plan {
    /// By number; every stage that another one needs is here.
    pub stages: BTreeMap<StageNumber, PlannedStage>,
    /// The images, one for each platform, in the order in which the platforms were asked for.
    pub targets: Vec<Target>,
    /// Stages that are to be built too.
    pub further: Vec<StageNumber>,
}

/// An image that a plan makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it was asked for.
    pub platform: Platform,
    /// The stage whose result is the image.
    pub stage: StageNumber,
}

impl Plan {
    /// The stages whose layers end up in images: the targets and what they are based on.
    pub fn image_stages(&self) -> BTreeSet<StageNumber> {
        let mut numbers = BTreeSet::new();
        for target in &self.targets {
            let mut next = Some(target.stage);
            while let Some(number) = next {
                numbers.insert(number);
                next = self.stages.get(&number).and_then(|stage| match stage.base {
                    Base::Stage(base) => Some(base),
                    _ => None,
                });
            }
        }
        numbers
    }
}

/// The definition keys of a stage's actions, computed step by step as the hashes of directories become known.
#[derive(Debug, Clone, Copy)]
pub struct DefinitionKey(pub Digest);

impl DefinitionKey {
    /// The key of a stage that starts from nothing.
    pub fn scratch(platform: &Platform) -> Self {
        let mut hasher = key::KeyHasher::new("scratch");
        hasher.part(platform.to_string());
        Self(hasher.finish())
    }

    /// The key of a stage that starts from an image.
    pub fn image(manifest: &Digest) -> Self {
        let mut hasher = key::KeyHasher::new("image");
        hasher.digest(manifest);
        Self(hasher.finish())
    }

    /// The key of a stage that starts from a directory whose entries have this hash.
    pub fn directory(entries: &Digest) -> Self {
        let mut hasher = key::KeyHasher::new("directory");
        hasher.digest(entries);
        Self(hasher.finish())
    }

    /// The key after an action.
    pub fn after(&self, action: &Action, inputs: &[Digest]) -> Self {
        Self(key::definition(&action.recipe, &self.0, inputs))
    }
}
