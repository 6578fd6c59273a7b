//! The stage graph, pruning, platforms and cache keys, as a pure state machine.
//!
//! [`Planner::plan`] is called with the [`Facts`] that are known so far. It returns a [`Plan`], or the images that it
//! must know first, or everything that is wrong with the Dockerfile. Nothing has been run and nothing is fetched here.

mod config;
mod facts;
mod graph;
mod history;
mod join;
pub mod key;
pub mod lint;
pub mod outline;
mod planner;
mod scope;
pub mod step;
mod words;

pub use cofferdam_platform::{ParsePlatformError, Platform};
pub use config::Config;
pub use facts::{DirectoryName, Facts, ImageFacts, ImageName, NamedContext, NoImage, Outcome};
pub use graph::{Action, Base, DefinitionKey, Input, InputTree, Plan, PlannedStage, PlannedStep, StageNumber, Target};
pub use planner::{BASE_IMAGE, Options, Planner};
pub use scope::Scope;
