//! Real commands under the translator, as whoever runs the tests and, if that is root, as an ordinary user too.
//!
//! The program is its own harness because it plays all parts: the builder, the stage process, and commands inside.

#![allow(unsafe_code, reason = "commands inside make raw system calls")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests make their own files and processes")]

#[cfg(not(target_arch = "x86_64"))]
fn main() {}

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    harness::main()
}

#[cfg(target_arch = "x86_64")]
mod attack;
#[cfg(target_arch = "x86_64")]
mod behaviour;
#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod harness;
#[cfg(target_arch = "x86_64")]
mod isolation;
#[cfg(target_arch = "x86_64")]
mod layers;
#[cfg(target_arch = "x86_64")]
mod operations;
#[cfg(target_arch = "x86_64")]
mod same;
#[cfg(target_arch = "x86_64")]
mod world;
