//! Image config, manifest, index and the content store
