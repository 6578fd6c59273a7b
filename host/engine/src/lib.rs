//! Runs a plan and emits events
