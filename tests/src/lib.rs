//! Shared helpers of the integration tests: the program itself, real registries, runner environments, base images.

mod bases;
mod events;
mod image;
mod judge;
mod lab;
mod program;
mod registry;
mod requirement;
mod site;
mod terminal;

pub use bases::base;
pub use events::Events;
pub use image::Image;
pub use judge::{Bundle, Running, document, read_json};
pub use lab::{Environment, Lab};
pub use program::{Finished, Program, binary, repository_root, run, shared};
pub use registry::Registry;
pub use requirement::{is_root, skip, tool};
pub use site::Site;
pub use terminal::{Ended, Terminal};
