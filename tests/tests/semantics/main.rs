//! What Dockerfiles mean: the image's configuration and its file system, as other tools see them, against what the
//! Dockerfile reference says.

mod add;
mod cache;
mod cache_keys;
mod configuration;
mod copy;
mod mounts;
mod run;
mod stages;
mod variables;

use cofferdam_tests::Environment;

/// How commands are run: with mounts, with a root of their own, and without either; in a runner environment, as it has them.
fn executors() -> &'static [&'static str] {
    if Environment::under_test().is_some() { &["auto"] } else { &["auto", "chroot", "emulated"] }
}
