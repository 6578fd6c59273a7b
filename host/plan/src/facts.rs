//! What a plan needs to know of the world, and the answers.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_digest::Digest;
use cofferdam_dockerfile::{Diagnostic, ignore::IgnorePatterns};

use crate::{Config, Platform};

/// An image that some stage is based on or copies from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// As written after expansion, or the name of a named context that stands for an image.
    pub name: String,
    /// Which image of an index.
    pub platform: Platform,
}

/// What the engine found out about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Of the platform's manifest: part of every cache key built on it.
    pub digest: Digest,
    /// Its configuration.
    pub config: Config,
    /// The platform that it says it is for, which need not be the one that was asked for.
    pub platform: Option<Platform>,
}

/// Why there is no such image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoImage {
    /// In one sentence.
    pub reason: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// A directory that was named with `--build-context`, used as a base or copied from.
pub type DirectoryName = String;

/// What a named context stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of files.
    Directory,
    /// An image, in a registry or an OCI layout.
    Image,
}

/// The answers so far. A plan asks for what is missing here.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Images, or the reason why there is none.
    pub images: BTreeMap<ImageName, Result<ImageFacts, NoImage>>,
    /// What the context's ignore file hides; empty without one. Known before anything is planned, and only looked at by
    /// lint rules.
    pub ignore: IgnorePatterns,
}

/// The result of one call of the planner.
#[derive(Debug, Clone)]
pub enum Outcome<P> {
    /// Everything is known.
    Plan(P, Vec<Diagnostic>),
    /// These images must be looked up first.
    Needs(BTreeSet<ImageName>),
    /// The Dockerfile can't be built; all findings at once.
    Failed(Vec<Diagnostic>),
}
