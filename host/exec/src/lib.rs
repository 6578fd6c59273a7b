//! The executors behind RUN and their probe.
//!
//! - [`probe`] tries, in forked children, what this machine lets us do, and says why not.
//! - [`enter_user_namespace`] turns an ordinary user's builder into root of a namespace of its own.
//! - [`Executor`] runs one command on one root file system; [`NamespaceExecutor`] does so with namespaces and overlayfs.
//! - [`resolve_user`] reads USER as container engines do.
//!
//! A program that links this crate calls [`run_stage_main`] at the very start of `main` when its first argument is
//! [`STAGE_ARGUMENT`]; [`probe`] and [`enter_user_namespace`] have to be called before it starts a thread.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "starting processes and making their root file systems is what this crate is for"
)]

mod acl;
mod below;
mod bpf;
mod cancel;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "the translator reads more of it"))]
mod elf;
mod emulator;
mod error;
mod executor;
mod harden;
mod journal;
mod lazy;
mod namespace;
mod probe;
mod request;
mod stage;
mod sys;
#[cfg(target_arch = "x86_64")]
mod translate;
mod translator;
mod user;
mod userns;
mod wire;

pub use below::{Below, BelowEntry, BelowKind, EntryNumber};
pub use cancel::Cancel;
pub use emulator::{Emulator, has_private_handlers};
pub use error::{CommandProblem, ExecError, IdKind};
pub use executor::{
    Changes, Executor, Exit, Ids, Isolation, Landlock, Note, OutputSink, RootForm, RunOutcome, Stream, Tier,
};
pub use harden::harden_process;
pub use journal::{Birth, DeviceNode, Journal, Recorded, Seen};
pub use lazy::{Lazy, Made};
pub use namespace::{Launcher, NamespaceExecutor};
pub use probe::{Finding, ProbeReport, Reason, probe, probe_for};
pub use request::{LayersBelow, Mount, MountSource, Network, PrivateFile, Root, RunRequest};
pub use stage::{STAGE_ARGUMENT, run_stage_main};
#[doc(hidden)]
pub use translator::NO_MORE_CHECKS;
pub use translator::TranslatorExecutor;
pub use user::{ResolvedUser, UserError, resolve_user};
pub use userns::{EnterError, IdRange, MapWriter, UsernsKind, enter_user_namespace};
