//! Shared helpers of the integration tests: the program itself, real registries, runner environments, base images.

mod bases;
mod campaign;
mod events;
pub mod fault_proxy;
mod git_server;
mod image;
mod judge;
mod lab;
mod layer;
pub mod matrix;
mod noise;
mod own_image;
mod pipeline;
mod program;
mod registry;
mod requirement;
mod site;
mod ssh_server;
mod terminal;

pub use bases::base;
pub use campaign::{children_seconds, is_short, report};
pub use events::Events;
pub use git_server::{GitDaemon, GitHttp, Repositories};
pub use image::Image;
pub use judge::{Bundle, Running, document, read_json};
pub use lab::{Environment, Lab};
pub use layer::{Layer, LayerEntry};
pub use noise::noise;
pub use own_image::{Container, OwnImage, Variant, build_image};
pub use pipeline::{Job, pod_arguments};
pub use program::{Finished, Program, binary, cargo, hostile_archives, repository_root, run, shared, signal_child};
pub use registry::Registry;
pub use requirement::{is_root, skip, tool};
pub use site::Site;
pub use ssh_server::{KeyAgent, SshServer};
pub use terminal::{Ended, Terminal};
