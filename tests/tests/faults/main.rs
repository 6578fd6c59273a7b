//! Bad days: each ends with one message that names the thing and the remedy, a code that is not 0, no half-pushed tag, nothing
//! left behind, and a store that the next build can use.

#[path = "../../../host/plugin-host/tests/it/component.rs"]
#[allow(dead_code, reason = "the plugin host's own tests use all of it")]
mod component;
mod context;
mod crafted;
mod disk;
mod kills;
mod layers;
mod messages;
mod plugins;
mod pushes;
mod registry;
mod scene;
mod sharing;
mod store;
