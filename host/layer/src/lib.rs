//! Layers in and out: tar, whiteouts, compression, both hashes in one pass
