//! What happens during a build, for whoever watches. The engine prints nothing.

use std::time::Duration;

use cofferdam_digest::Digest;
use cofferdam_dockerfile::Diagnostic;
use serde::Serialize;

/// Numbers the lines of one unit of work: a step, a base image, a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Vertex(pub u32);

/// Which output of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a unit of work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An instruction of the Dockerfile.
    Step,
    /// A context is fetched.
    Fetch,
    /// An image's manifest and configuration are looked up.
    LookUp,
    /// An image's layers are fetched, beside the steps.
    Pull,
    /// Layers go to registries beside the steps, the rest at the end.
    Push,
    /// The finished image's file system is looked at.
    Scan,
    /// The image is written to a file or directory.
    Output,
}

/// How a unit of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was done.
    Done,
    /// The cache had its result.
    Cached,
    /// It was given up, because something else failed or the build was interrupted.
    Stopped,
    /// It failed; the error follows at the end of the build.
    Failed(String),
}

/// What became of a blob on its way to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// Its bytes were sent.
    Uploaded,
    /// The registry took it from another repository.
    Mounted,
    /// The repository had it.
    Present,
    /// Its bytes were fetched.
    Downloaded,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A unit of work begins.
    Started {
        /// Which.
        vertex: Vertex,
        /// What it is.
        kind: Kind,
        /// For example `[builder 2/4] RUN make`.
        name: String,
    },
    /// The cache does not have a step's result, and what it needs is there, the layers below included: it is carried out
    /// now.
    Working {
        /// Which.
        vertex: Vertex,
    },
    /// A command wrote something.
    Output {
        /// Which.
        vertex: Vertex,
        /// Where to.
        stream: Stream,
        /// Bytes, cut at no particular place; shown as UTF-8 with replacement characters.
        #[serde(serialize_with = "lossy")]
        bytes: Vec<u8>,
    },
    /// Something worth a line.
    Note {
        /// Which.
        vertex: Vertex,
        /// One sentence without a full stop.
        text: String,
    },
    /// A layer below a step's command is being unpacked, before the step is carried out. Told ten times a second at most, and not at all if it is done at
    /// once; `done_bytes` reaches `total_bytes` when it is unpacked.
    Unpacking {
        /// Which.
        vertex: Vertex,
        /// The layer's blob.
        digest: Digest,
        /// Bytes of the blob so far.
        done_bytes: u64,
        /// Bytes of the blob in all.
        total_bytes: u64,
    },
    /// A step's layer is being written. Told ten times a second at most, and not at all if it is done at once.
    Writing {
        /// Which.
        vertex: Vertex,
        /// Bytes of the archive so far, before compression.
        done_bytes: u64,
        /// Bytes of the archive in all, about.
        total_bytes: u64,
    },
    /// A step's layer: just written, or found by the cache.
    Layer {
        /// Which.
        vertex: Vertex,
        /// Of the blob.
        digest: Digest,
        /// Of the blob, in bytes.
        size_bytes: u64,
    },
    /// Bytes of a blob moved. Told ten times a second at most, and not at all if it is done at once.
    Progress {
        /// Which.
        vertex: Vertex,
        /// The blob.
        digest: Digest,
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// A blob arrived.
    Transferred {
        /// Which.
        vertex: Vertex,
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size_bytes: u64,
        /// How.
        transfer: Transfer,
    },
    /// A unit of work ended.
    Finished {
        /// Which.
        vertex: Vertex,
        /// How.
        ending: Ending,
        /// Since it began, or began to be carried out.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// Findings about the Dockerfile that do not stop the build.
    Warnings {
        /// The Dockerfile's name.
        file: String,
        /// In the order of the text.
        diagnostics: Vec<Diagnostic>,
    },
    /// Something that is not about the Dockerfile, but that the user should know.
    Warning {
        /// One sentence without a full stop.
        text: String,
    },
}

/// Whoever watches a build. Called from several threads at once.
pub trait Observer: Send + Sync {
    /// Takes an event. Must return quickly.
    fn event(&self, event: Event);
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

fn lossy<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}
