//! What Dockerfiles mean: the image's configuration and its file system, as other tools see them, against what the
//! Dockerfile reference says.

mod add;
mod cache;
mod configuration;
mod copy;
mod mounts;
mod run;
mod stages;
mod variables;

/// How commands are run: with mounts where the machine has them, and without, on a real root and on none.
const EXECUTORS: [&str; 3] = ["auto", "chroot", "emulated"];
