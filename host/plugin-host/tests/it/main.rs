//! The plugin host with real components: those of this program, and hostile ones written by hand.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests make the files that they need")]

mod component;
mod first_party;
mod guest;
mod hostile;
mod loading;
mod reads;
mod scanners;
mod wasi;
