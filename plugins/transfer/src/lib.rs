//! What COPY and ADD share: their flags, their sources, where things go, and how they get there.
//!
//! The rules are those of the Dockerfile reference ("COPY", "ADD") as BuildKit carries them out.

mod copy;
mod destination;
mod mode;
mod source;

pub use copy::{Arrival, Unpack, copy, nameless};
pub use destination::Destination;
pub use mode::{applied, parse as parse_mode};
pub use source::{Origin, Source};

/// Where a fetched file is in its tree (`wit/instruction`, `read.url`).
pub const FETCHED: &[u8] = b"/content";

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    accounts::Account,
    diagnostics::{error, warning},
    flags::Flags,
    fs::ModeChange,
    instruction::{Effect, Planned, Read, Step, TreeRead, TreeSource},
    paths,
};

/// A COPY or ADD, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The tree that the sources are in.
    pub origin: Origin,
    /// In the order of the text.
    pub sources: Vec<Source>,
    /// Where they go.
    pub destination: Destination,
    /// `--chown`.
    pub owner: Option<Account>,
    /// `--chmod`.
    pub mode: Option<ModeChange>,
    /// `--exclude`, patterns of the ignore kind.
    pub exclude: Vec<String>,
    /// `--link`: the layer stands on its own, and nothing below is looked at.
    pub link: bool,
    /// `--parents`: sources keep the directories that they are in.
    pub parents: bool,
}

/// Reads a step whose own flags were read already, `parents` among them; findings go to `flags`.
pub fn read(step: &Step, origin: Origin, parents: bool, flags: &mut Flags) -> Option<Transfer> {
    let owner = flags.value("chown").map(Account::parse);
    let owner = owner.and_then(|owner| owner.map_err(|finding| flags.push_about("chown", finding)).ok());
    let mode = flags.value("chmod").map(parse_mode);
    let mode = mode.and_then(|mode| mode.map_err(|finding| flags.push_about("chmod", finding)).ok());
    let exclude = flags.values("exclude").into_iter().map(str::to_owned).collect();
    let link = flags.boolean("link").unwrap_or(false);
    let (sources, destination) = match step.arguments.words.as_slice() {
        [sources @ .., destination] if !sources.is_empty() => (sources, destination),
        _ => {
            let message = format!("`{}` needs at least one source and a destination", step.keyword);
            let help = format!("write `{} SOURCE… DESTINATION`", step.keyword);
            flags.push(error("MissingArgument", message).help(help));
            return None;
        }
    };
    // To BuildKit an empty source is the whole tree, and an empty destination the working directory.
    if step.arguments.words.iter().any(String::is_empty) {
        let message = format!("an argument of `{}` is empty", step.keyword);
        flags.push(warning("EmptyArgument", message).help("check that the variables in it are set"));
    }
    Some(Transfer {
        origin,
        sources: source::read(sources, step, parents),
        destination: Destination::read(destination, &step.state.working_directory),
        owner,
        mode,
        exclude,
        link,
        parents,
    })
}

impl Transfer {
    /// What is read: the sources (their tree first, then what is fetched, in order), the destination where its kind matters, the files that know the owner's name.
    pub fn planned(&self) -> Planned {
        let mut reads = Vec::new();
        let patterns: Vec<Vec<u8>> = self.patterns().map(<[u8]>::to_vec).collect();
        if !patterns.is_empty() {
            let source = match &self.origin {
                Origin::Context => TreeSource::Context,
                Origin::Named(name) => TreeSource::Named(name.clone()),
            };
            reads.push(Read::Tree(TreeRead { source, patterns, exclude: self.exclude.clone() }));
        }
        reads.extend(self.sources.iter().filter_map(|source| match source {
            Source::Url { url, .. } => Some(Read::Url(url.clone())),
            Source::Git { url, .. } => Some(Read::Git(url.clone())),
            Source::Pattern { .. } | Source::Heredoc { .. } => None,
        }));
        if self.looks_at_destination() {
            reads.push(Read::RootfsPath(self.destination.path.clone()));
        }
        let accounts = self.owner.iter().flat_map(Account::reads);
        reads.extend(accounts.map(|path| Read::RootfsPath(path.to_vec())));
        Planned { reads, changes: Vec::new(), effect: Effect::RootFileSystem }
    }

    /// The patterns of the sources that are in the tree.
    pub fn patterns(&self) -> impl Iterator<Item = &[u8]> {
        self.sources.iter().filter_map(|source| match source {
            Source::Pattern { pattern, .. } => Some(pattern.as_slice()),
            Source::Url { .. } | Source::Git { .. } | Source::Heredoc { .. } => None,
        })
    }

    /// Whether what stands at the destination decides where a source goes.
    fn looks_at_destination(&self) -> bool {
        !self.destination.is_directory && self.sources.len() == 1 && !self.link && !self.parents
    }
}

/// A finding about a symbolic link that leads nowhere.
pub fn dangling(written: &str, target: &[u8], origin: &Origin) -> Diagnostic {
    let root = if target.starts_with(b"/") { "/" } else { "" };
    let (target, place) = (format!("{root}{}", paths::shown(target)), origin.shown());
    let message = format!("`{written}` is a symbolic link to `{target}`, which does not exist in {place}");
    error("SourceNotFound", message).help(match origin {
        Origin::Context => {
            "links are followed inside the build context only: what lies outside it can't be copied".to_owned()
        }
        Origin::Named(_) => "check that an earlier step makes what it leads to".to_owned(),
    })
}

/// A finding about a source that is not there.
pub fn not_found(written: &str, origin: &Origin) -> Diagnostic {
    error("SourceNotFound", format!("`{written}` does not exist in {}", origin.shown())).help(match origin {
        Origin::Context => "check its spelling, and that `.dockerignore` does not leave it out".to_owned(),
        Origin::Named(_) => "check its spelling, and that an earlier step makes it".to_owned(),
    })
}
