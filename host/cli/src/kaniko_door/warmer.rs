//! Called as `warmer`, with Kaniko's flags.

use std::path::PathBuf;

use clap::Parser;

use super::{CACHE_DIRECTORY, CACHE_TTL, KanikoLog, KanikoRegistries, switches::switches};
use crate::docker_door::Bounds;

/// Fetches base images ahead, into a directory that builds use with `--cache --cache-dir` (Kaniko's command line)
#[derive(Debug, Parser)]
#[command(
    name = "warmer",
    version,
    after_help = "Example:
  warmer --cache-dir /cache --image registry.example/base:1 --dockerfile Dockerfile"
)]
pub struct Warmer {
    /// Image to fetch; may be repeated
    #[arg(short, long = "image", value_name = "REF")]
    pub images: Vec<String>,

    /// Dockerfile whose images are fetched
    #[arg(short, long, value_name = "FILE")]
    pub dockerfile: Option<String>,

    /// Value of an ARG; `NAME` alone takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_arguments: Vec<String>,

    /// Directory that the images go to
    #[arg(short, long, value_name = "DIR", default_value = CACHE_DIRECTORY)]
    pub cache_dir: PathBuf,

    /// How old an image may be that is there
    #[arg(long, value_name = "DURATION", default_value = CACHE_TTL)]
    pub cache_ttl: String,

    /// Platform of the images, for example linux/arm64 [default: this machine's]
    #[arg(long, alias = "customPlatform", value_name = "OS/ARCH")]
    pub custom_platform: Option<String>,

    #[command(flatten)]
    pub log: KanikoLog,

    /// Directory that keeps layers between builds [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "COFFERDAM_STORE")]
    pub store: Option<PathBuf>,

    #[command(flatten)]
    pub switches: WarmerSwitches,

    #[command(flatten)]
    pub registries: KanikoRegistries,

    #[command(flatten)]
    pub bounds: Bounds,
}

switches! {
    /// What is on or off.
    pub struct WarmerSwitches {
        /// Fetches images that are there, too
        #[arg(short)]
        pub force,

        /// Lines of the log have no times
        #[arg(hide = true)]
        pub log_timestamp,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_sound_and_kanikos() {
        Warmer::command().debug_assert();
        let flags = [
            "warmer",
            "-i",
            "a",
            "--image=b",
            "-c",
            "/x",
            "-f",
            "-d",
            "Dockerfile",
            "--build-arg",
            "A=1",
            "-v",
            "debug",
        ];
        let parsed = Warmer::try_parse_from(flags).unwrap();
        assert_eq!((parsed.images.len(), parsed.switches.force), (2, true));
        assert_eq!(parsed.cache_dir, PathBuf::from("/x"));
    }
}
