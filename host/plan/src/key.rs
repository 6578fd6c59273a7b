//! Cache keys: framed, so that no two different inputs give the same bytes to hash.
//!
//! A step has two keys (DESIGN §4). The *definition* key is known before anything runs: the step and the definition keys
//! of its inputs. The *content* key is known once the inputs are: the same step, but with the DiffIDs of the state
//! before it and the hashes of the entries that it reads. Both lead to the same layer.

use cofferdam_digest::{Digest, Sha256};

use crate::{
    Platform,
    step::{HandlerFacts, KeyValue, Planned, Read, Step, TreeSource},
};

/// Changes with every change of what is hashed, so that an old record is never read as a new one.
const FORMAT: &[u8] = b"cofferdam-key-3";

/// A hash over parts, each with its length before it.
pub struct KeyHasher(Sha256);

impl KeyHasher {
    /// Starts a key of one purpose; keys of different purposes never collide.
    pub fn new(purpose: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update_framed(FORMAT);
        hasher.update_framed(purpose.as_bytes());
        Self(hasher)
    }

    /// Adds a part.
    pub fn part(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.update_framed(bytes.as_ref());
        self
    }

    /// Adds a list: its length, then its parts.
    pub fn list<T: AsRef<[u8]>>(&mut self, parts: impl ExactSizeIterator<Item = T>) -> &mut Self {
        self.0.update_framed(&(parts.len() as u64).to_le_bytes());
        for part in parts {
            self.0.update_framed(part.as_ref());
        }
        self
    }

    /// Adds a digest.
    pub fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.part(digest.as_bytes())
    }

    /// The key.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// Everything about a step but its inputs: text after expansion, handler, and the state that the handler sees.
///
/// Spans are left out: a step that moves down a line is the same step. Secrets and times are in no field of a step. The stage's
/// platform counts for what runs commands, whether or not the handler sees it: it decides what these run on.
pub fn recipe(handler: &HandlerFacts, step: &Step, planned: &Planned, platform: &Platform) -> Digest {
    let mut hasher = KeyHasher::new("recipe");
    hasher.digest(&handler.digest).part(&step.keyword);
    hasher.part((step.flags.len() as u64).to_le_bytes());
    for flag in &step.flags {
        hasher.part(&flag.name).list(flag.value.iter());
    }
    let arguments = &step.arguments;
    hasher.part(&arguments.text).list(arguments.words.iter()).part([u8::from(arguments.json)]);
    pairs(&mut hasher, &arguments.pairs);
    hasher.part((step.heredocs.len() as u64).to_le_bytes());
    for heredoc in &step.heredocs {
        hasher.part(&heredoc.name).part(&heredoc.content).part([u8::from(heredoc.expand)]);
    }
    let state = &step.state;
    pairs(&mut hasher, &state.environment);
    pairs(&mut hasher, &state.build_arguments);
    hasher.part(&state.working_directory).part(&state.user).list(state.shell.iter()).part(&state.platform);
    hasher.part((planned.reads.len() as u64).to_le_bytes());
    for read in &planned.reads {
        match read {
            Read::Tree(read) => {
                hasher.part("tree");
                match &read.source {
                    TreeSource::Context => hasher.part("context"),
                    // The tree behind the name is an input of its own: renaming a stage changes nothing.
                    TreeSource::Named(_) => hasher.part("named"),
                };
                hasher.list(read.patterns.iter()).list(read.exclude.iter());
            }
            Read::RootfsPath(path) => drop(hasher.part("rootfs-path").part(path)),
            Read::WholeRootfs => drop(hasher.part("rootfs").part(platform.to_string())),
            Read::Url(url) => drop(hasher.part("url").part(url)),
            Read::Git(reference) => drop(hasher.part("git").part(reference)),
        }
    }
    hasher.finish()
}

/// The definition key: the recipe, what the step stands on, and the key of each tree it reads (for a tree whose
/// content is at hand, the hash of the entries read), in the order of the reads.
pub fn definition(recipe: &Digest, parent: &Digest, inputs: &[Digest]) -> Digest {
    combine("definition", recipe, parent, inputs)
}

/// The content key: the recipe, the digest of the state before the step, and the hash of the entries of each tree it
/// reads, in the order of the reads.
pub fn content(recipe: &Digest, state: &Digest, inputs: &[Digest]) -> Digest {
    combine("content", recipe, state, inputs)
}

/// The key under which a step leaves word that it was ever run on this state, whatever it read: without that word no
/// look-up can hit, and sources need not be hashed before they are copied.
pub fn sighting(recipe: &Digest, parent: &Digest) -> Digest {
    combine("sighting", recipe, parent, &[])
}

/// The digest of a root file system's state: its layers' DiffIDs, bottom first (OCI image specification, config.md,
/// "Layer ChainID", says the same with another framing).
pub fn state<'a>(diff_ids: impl ExactSizeIterator<Item = &'a Digest>) -> Digest {
    let mut hasher = KeyHasher::new("state");
    hasher.list(diff_ids.map(Digest::as_bytes));
    hasher.finish()
}

fn combine(purpose: &str, recipe: &Digest, base: &Digest, inputs: &[Digest]) -> Digest {
    let mut hasher = KeyHasher::new(purpose);
    hasher.digest(recipe).digest(base).list(inputs.iter().map(Digest::as_bytes));
    hasher.finish()
}

fn pairs(hasher: &mut KeyHasher, pairs: &[KeyValue]) {
    hasher.part((pairs.len() as u64).to_le_bytes());
    for pair in pairs {
        hasher.part(&pair.key).part(&pair.value);
    }
}
