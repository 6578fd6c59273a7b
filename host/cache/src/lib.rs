//! The layer cache
