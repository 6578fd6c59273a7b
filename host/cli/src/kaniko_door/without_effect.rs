//! Flags for what this builder does not have or always does.

use std::path::PathBuf;

use clap::Args;

use super::switches::switches;

/// Taken so that a pipeline need not change (docs/kaniko.md).
#[derive(Debug, Args)]
pub struct WithoutEffect {
    #[command(flatten)]
    switches: IdleSwitches,

    /// Changes are known, not searched for
    #[arg(long, alias = "snapshotMode", hide = true, value_name = "MODE", default_value = "full",
        value_parser = ["full", "redo", "time"])]
    snapshot_mode: String,

    /// There is no tool directory
    #[arg(long, env = "KANIKO_DIR", hide = true, value_name = "DIR")]
    kaniko_dir: Option<PathBuf>,

    /// Nothing is unpacked over the network
    #[arg(long, hide = true, value_name = "COUNT")]
    image_fs_extract_retry: Option<u32>,
}

impl WithoutEffect {
    #[cfg(test)]
    pub fn compressed_caching(&self) -> bool {
        self.switches.compressed_caching
    }
}

switches! {
    /// Those that are on or off.
    pub struct IdleSwitches {
        /// The cache has the results of all steps
        #[arg(hide = true)]
        pub cache_copy_layers,

        /// As `cache_copy_layers`
        #[arg(hide = true, default_value = "true")]
        pub cache_run_layers,

        /// The machine's own file system is never touched
        #[arg(env = "KANIKO_CLEANUP", hide = true)]
        pub cleanup,

        /// As `cleanup`
        #[arg(env = "KANIKO_PRE_CLEANUP", hide = true)]
        pub pre_cleanup,

        /// The context is never changed
        #[arg(env = "KANIKO_PRESERVE_CONTEXT", hide = true)]
        pub preserve_context,

        /// It may run outside of a container
        #[arg(hide = true)]
        pub force,

        /// Configuration steps never make layers
        #[arg(hide = true)]
        pub force_build_metadata,

        /// Memory is flat in any case
        #[arg(hide = true, default_value = "true")]
        pub compressed_caching,

        /// Stages that nothing needs are never built
        #[arg(hide = true)]
        pub skip_unused_stages,

        /// Changes are known, not searched for
        #[arg(hide = true)]
        pub use_new_run,

        /// What is needed of a base is unpacked
        #[arg(hide = true)]
        pub materialize,

        /// Lines of the log have no times
        #[arg(hide = true)]
        pub log_timestamp,
    }
}
