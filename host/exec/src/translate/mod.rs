//! RUN where nothing can be mounted: the translator.
//!
//! One process, with one thread, traces the command and all that comes of it. A seccomp filter stops the calls that name
//! files or ids (ptrace carries the answer out), so that the command sees a flat tree as `/`, is root in it, and changes
//! owners, modes and devices that exist in the journal only. [`calls`] is the table of what is answered how; [`registers`]
//! the one file that knows the processor.
//!
//! The translator is not the boundary. A thread may change a path after it was checked; what keeps the command from the
//! builder's files then is the Landlock domain that it entered before its program began ([`domain`]).

pub mod access;
pub mod affinity;
pub mod bindings;
pub mod bounded;
pub mod calls;
pub mod directories;
pub mod domain;
pub mod exec;
pub mod filter;
pub mod footing;
pub mod handlers;
pub mod identity;
pub mod locks;
pub mod memory;
mod mounts;
mod network;
mod pass;
pub mod privileged;
pub mod protected;
pub mod registers;
pub mod resolve;
pub mod start;
pub mod terminals;
pub mod tracee;
pub mod tracer;
pub mod views;
