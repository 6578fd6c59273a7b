//! Shared helpers of the integration tests: the program itself, real registries, runner environments, base images.

mod bases;
mod lab;
mod program;
mod registry;
mod requirement;

pub use bases::base;
pub use lab::{Environment, Lab};
pub use program::{Finished, Program, binary, repository_root, run, shared};
pub use registry::Registry;
pub use requirement::{is_root, skip, tool};
