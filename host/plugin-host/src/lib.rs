//! The WebAssembly host: engine, linkers, limits, grants, audit log
