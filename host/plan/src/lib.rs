//! The stage graph, pruning, platforms and cache keys, as a pure state machine

pub mod step;
