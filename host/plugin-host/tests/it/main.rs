//! The plugin host with real components: those of this program, and hostile ones written by hand.

mod first_party;
mod guest;
mod hostile;
mod loading;
mod reads;
mod wasi;
