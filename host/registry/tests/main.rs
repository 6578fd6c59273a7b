//! The client against a real registry, a proxy with faults, and a token server.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the tests start servers and write their configuration"
)]

mod docker_registry;
mod faults;
mod support;
mod tokens;
mod uploads;
