//! From either front door's arguments to the one build request.

mod annotations;
mod bucket_cache;
mod caches;
mod docker;
mod kaniko;
mod secrets;
mod warmer;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use cofferdam_engine::{Allowance, Platform, PluginAccess, RegistryAccess, RegistryFiles, Timestamps};

use crate::{
    docker_door::{Bounds, RegistryFileArguments, SharedArguments},
    environment::Environment,
};

pub use annotations::{annotations, level};
pub use docker::{from_docker, registries_of_docker};
pub use kaniko::{from_kaniko, registries};
pub use warmer::from_warmer;

/// Arguments that contradict each other, or that have no meaning. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// `--build-arg =x`, `--label x`.
    #[error("`{flag} {value}` is not {form}")]
    Form {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is expected.
        form: &'static str,
    },
    /// The store can't be where it would be.
    #[error(transparent)]
    Store(#[from] cofferdam_image::StoreError),
    /// A flag needs another one.
    #[error("{0}")]
    Combination(String),
}

pub type Result<T> = std::result::Result<T, UsageError>;

/// `--credential-helpers`: nothing said is all of them, and an empty text is none.
fn credential_helpers(given: Option<Vec<String>>) -> Option<Vec<String>> {
    given.map(|names| names.into_iter().filter(|name| !name.is_empty()).collect())
}

/// The files that were named, and where they are otherwise.
fn registry_files(arguments: RegistryFileArguments, environment: &Environment) -> RegistryFiles {
    const HOSTS_DIRECTORIES: [&str; 3] = ["/etc/containerd/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"];
    let named = arguments.hosts_directories;
    RegistryFiles {
        registries_conf: arguments.registries_conf.filter(|path| !path.as_os_str().is_empty()),
        default_registries_conf: environment.registries_conf(),
        hosts_directories: if named.is_empty() { HOSTS_DIRECTORIES.map(PathBuf::from).to_vec() } else { named },
    }
}

/// What helpers may be granted of the environment.
pub fn credentials(environment: &Environment) -> RegistryAccess {
    RegistryAccess {
        docker_configs: environment.docker_configs(),
        docker_auth_config: environment.docker_auth_config(),
        credential_variables: environment.credential_variables(),
        credential_files: environment.credential_files(),
        ..RegistryAccess::default()
    }
}

/// Where plugins come from and what is granted, for builds and for the commands about plugins.
pub fn plugins(shared: &SharedArguments, environment: &Environment) -> Result<PluginAccess> {
    let allow = shared
        .allow_plugins
        .iter()
        .map(|text| text.parse::<Allowance>().map_err(|_| form("--allow-plugin", text, "NAME or NAME:CAPABILITY")));
    Ok(PluginAccess {
        directories: shared.plugin_directories.clone(),
        policy_file: shared.policy.clone(),
        sole_policy: false,
        allow: allow.collect::<Result<_>>()?,
        audit_log: shared.audit_log.clone(),
        // Beneath the store, which is this user's alone.
        compile_cache: Some(environment.store(shared.store.clone())?.join("compiled-plugins")),
        scratch: environment.scratch(),
    })
}

pub fn form(flag: &'static str, value: &str, form: &'static str) -> UsageError {
    UsageError::Form { flag, value: value.to_owned(), form }
}

fn patience(bounds: &Bounds) -> Result<Option<Duration>> {
    let seconds = |text: &String| match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(form("--registry-timeout", text, "a number of seconds from 1 to 86400")),
    };
    bounds.registry_timeout.as_ref().map(seconds).transpose()
}

fn layer_limit(bounds: &Bounds) -> Result<Option<u64>> {
    let size =
        |text: &String| bytes(text).ok_or_else(|| form("--layer-limit", text, "a size, for example 500m or 20g"));
    bounds.layer_limit.as_ref().map(size).transpose()
}

/// As Go's `time.ParseDuration` reads it, but for fractions, and with days: `336h0m0s`, `14d`.
pub fn duration(flag: &'static str, text: &str) -> Result<Duration> {
    seconds(text).map(Duration::from_secs).ok_or_else(|| form(flag, text, "a duration like 336h, 1h30m or 14d"))
}

fn seconds(text: &str) -> Option<u64> {
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).filter(|at| *at > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_length =
            rest[digits..].find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + unit_length] {
            "d" => 24 * 3600,
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more))?;
        rest = &rest[digits + unit_length..];
    }
    (!text.is_empty()).then_some(seconds)
}

/// A number of bytes, or of KiB, MiB, GiB, TiB with the letter.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn platform(text: &str) -> Result<Platform> {
    text.parse().map_err(|_| form("--platform", text, "OS/ARCHITECTURE, for example linux/arm64"))
}

/// Kaniko takes a variable that is not set for an empty one.
fn kaniko_build_arguments(texts: &[String], environment: &Environment) -> Result<BTreeMap<String, String>> {
    let unset = |text: &&String| !text.contains('=') && environment.variable(text).is_none();
    let empty = texts.iter().filter(unset).map(|text| (text.clone(), String::new()));
    let mut arguments: BTreeMap<String, String> = empty.collect();
    arguments.extend(build_arguments(texts, environment)?);
    Ok(arguments)
}

fn pairs(flag: &'static str, texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty())?;
        Some((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(|text| pair(text).ok_or_else(|| form(flag, text, "NAME=VALUE"))).collect()
}

/// `NAME=VALUE`; `NAME` alone takes the value from the environment and is left out if that has none.
fn build_arguments(texts: &[String], environment: &Environment) -> Result<BTreeMap<String, String>> {
    let mut arguments = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), environment.variable(text)),
        };
        if name.is_empty() {
            return Err(form("--build-arg", text, "NAME=VALUE"));
        }
        arguments.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(arguments)
}

/// `SOURCE_DATE_EPOCH` as a build argument, then as a variable of the environment (as BuildKit takes it).
fn epoch(environment: &Environment, build_arguments: &[String]) -> Result<Timestamps> {
    let given = build_arguments.iter().rev().find_map(|text| text.strip_prefix("SOURCE_DATE_EPOCH="));
    match given.map(str::to_owned).or_else(|| environment.variable("SOURCE_DATE_EPOCH")) {
        None => Ok(Timestamps::Automatic),
        Some(text) if text.is_empty() => Ok(Timestamps::Automatic),
        Some(text) => match text.parse() {
            Ok(seconds) => Ok(Timestamps::Epoch(seconds)),
            Err(_) => Err(form("SOURCE_DATE_EPOCH", &text, "a number of seconds since 1970")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos_and_have_days() {
        for (text, expected) in [("336h0m0s", 336 * 3600), ("1h30m", 5400), ("45s", 45), ("0s", 0), ("14d", 14 * 86400)]
        {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "h", "5", "5w", "-1h", "99999999999999999999h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in [("7", Some(7)), ("20g", Some(20 << 30)), ("500MB", Some(500 << 20)), ("1k", Some(1024))] {
            assert_eq!(bytes(text), size, "{text}");
        }
        for text in ["", "g", "-1", "1.5g", "1x", "99999999999t", "1 g"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
