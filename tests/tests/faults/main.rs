//! Bad days: each ends with one message that names the thing and the remedy, a code that is not 0, no half-pushed tag, nothing
//! left behind, and a store that the next build can use.

mod context;
mod crafted;
mod disk;
mod layers;
mod registry;
mod scene;
