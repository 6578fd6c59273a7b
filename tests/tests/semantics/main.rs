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
