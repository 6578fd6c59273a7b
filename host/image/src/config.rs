//! The image configuration, with Docker's extensions.

use std::collections::BTreeMap;

use cofferdam_digest::Digest;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Descriptor, Family, ImageError, MediaType, Platform, json};

/// An image's configuration document (OCI image specification, config.md), with the fields that Docker adds.
///
/// Fields that neither knows, and those that only described the container in which Docker built the image (`container`,
/// `container_config`, `docker_version`), are dropped: they say nothing of the image that is built on top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339, see [`created`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
    /// Only Windows images have one.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Version of the instruction set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What running the image means.
    #[serde(default, deserialize_with = "json::null_is_default")]
    pub config: RuntimeConfig,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
    /// Base first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "json::null_is_default")]
    pub history: Vec<History>,
    /// What steps of the build gave, for later builds (`type=inline`). Never read with the rest: an image has nothing to say of
    /// its base's cache.
    #[serde(rename = "cofferdam.cache.v1", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub inline_cache: Option<serde_json::Value>,
}

/// What running an image means: the `config` object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RuntimeConfig {
    /// As USER spells it; empty is root.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "json::null_is_default")]
    pub user: String,
    /// `port/protocol` → nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::null_is_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "json::null_is_default")]
    pub env: Vec<String>,
    /// `None` is not set, which differs from set to nothing while a stage is built; in the image both are absent.
    #[serde(skip_serializing_if = "is_nothing")]
    pub entrypoint: Option<Vec<String>>,
    /// As [`Self::entrypoint`].
    #[serde(skip_serializing_if = "is_nothing")]
    pub cmd: Option<Vec<String>>,
    /// Path → nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::null_is_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// Absolute; empty is `/`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "json::null_is_default")]
    pub working_dir: String,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// A name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's, for Windows: the command is one string, already quoted.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "json::null_is_default")]
    pub args_escaped: bool,
    /// Docker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker's: triggers for images built on this one.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "json::null_is_default")]
    pub on_build: Vec<String>,
    /// Docker's: the shell of the shell form.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "none_if_empty")]
    pub shell: Option<Vec<String>>,
}

/// The empty object that Go programs use as the value of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Empty {}

// Docker wrote `null` here at times, and whatever else stands here means the same.
impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self {})
    }
}

/// Docker's health check; durations in nanoseconds, 0 means the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`; or `CMD` or `CMD-SHELL` and the command.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "json::null_is_default")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Of one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks of the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures before the container is unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers as the configuration names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    kind: String,
    /// DiffIDs, base first.
    #[serde(deserialize_with = "json::null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// How one layer, or one change of the configuration, came about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339, see [`created`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether no layer belongs to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// A moment as configurations write it: seconds since 1970-01-01T00:00:00Z as RFC 3339 in UTC. Moments outside the years
/// -9999 to 9999 become the nearest that can be written.
pub fn created(epoch_seconds: i64) -> String {
    let (first, last) = (jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
    jiff::Timestamp::from_second(epoch_seconds.clamp(first, last)).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

impl ImageConfig {
    /// The configuration of an image without layers, as `FROM scratch` starts.
    pub fn new(platform: &Platform) -> Self {
        Self {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            variant: platform.variant.clone(),
            config: RuntimeConfig::default(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
            history: Vec::new(),
            inline_cache: None,
        }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// Too large, not JSON, or not of this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let config: Self = json::parse("the image's configuration", bytes)?;
        if config.rootfs.kind != "layers" {
            let why = format!("has a rootfs of type `{}`; only `layers` is defined", config.rootfs.kind);
            return Err(ImageError::Invalid { what: "the image's configuration".to_owned(), why });
        }
        Ok(config)
    }

    /// Where the image runs.
    pub fn platform(&self) -> Platform {
        let normal = Platform::new(&self.os, &self.architecture, self.variant.as_deref());
        Platform { os_version: self.os_version.clone(), ..normal }
    }

    /// Adds a layer and the history entry that made it.
    pub fn push_layer(&mut self, diff_id: Digest, history: History) {
        self.rootfs.diff_ids.push(diff_id);
        self.history.push(History { empty_layer: false, ..history });
    }

    /// Adds a history entry that made no layer.
    pub fn push_empty(&mut self, history: History) {
        self.history.push(History { empty_layer: true, ..history });
    }

    /// The canonical JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json::canonical(self)
    }

    /// The descriptor of the canonical JSON.
    pub fn descriptor(&self, family: Family) -> Descriptor {
        Descriptor::of(MediaType::Config(family), &self.to_json())
    }
}

impl RuntimeConfig {
    /// The variables as pairs. An entry without `=` is a name with an empty value.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")))
    }

    /// Sets a variable: in place if the name is there already, else at the end.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let position = self.variables().position(|(known, _)| known == name);
        match position {
            Some(position) => self.env[position] = entry,
            None => self.env.push(entry),
        }
    }

    /// Adds a port, as `port/protocol`.
    pub fn expose(&mut self, port: &str) {
        self.exposed_ports.insert(port.to_owned(), Empty {});
    }

    /// Adds a volume.
    pub fn add_volume(&mut self, path: &str) {
        self.volumes.insert(path.to_owned(), Empty {});
    }
}

fn is_nothing(words: &Option<Vec<String>>) -> bool {
    words.as_ref().is_none_or(Vec::is_empty)
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn none_if_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.filter(|words| !words.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"{"architecture":"amd64","config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,
        "Tty":false,"ExposedPorts":{"80/tcp":{}},"Env":["PATH=/usr/bin:/bin","EMPTY="],"Cmd":["nginx","-g","daemon off;"],
        "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000,"Retries":3},"ArgsEscaped":true,"Image":"sha256:1",
        "Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null,"Shell":["/bin/bash","-c"],
        "StopSignal":"SIGQUIT"},"container":"f0","container_config":{"Hostname":"f0","Cmd":["x"]},
        "created":"2024-01-02T03:04:05.678901234Z","docker_version":"20.10.7","history":[{"created":"2024-01-02T03:04:05Z",
        "created_by":"/bin/sh -c #(nop) ADD file:1 in / "},{"created_by":"CMD","empty_layer":true}],"os":"linux",
        "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
        "variant":"v1"}"#;

    #[test]
    fn dockers_own_fields_are_kept_and_those_of_its_container_dropped() {
        let config = ImageConfig::parse(DOCKER.as_bytes()).unwrap();
        let health = config.config.healthcheck.as_ref().unwrap();
        assert_eq!((health.interval, health.retries, health.timeout), (30_000_000_000, 3, 0));
        assert_eq!(config.config.shell.as_deref().unwrap()[0], "/bin/bash");
        assert_eq!(config.config.entrypoint, None);
        assert!(config.config.args_escaped);
        assert_eq!(config.platform().to_string(), "linux/amd64");
        assert!(config.history[1].empty_layer);
        let text = String::from_utf8(config.to_json()).unwrap();
        assert!(!text.contains("container") && !text.contains("Hostname") && !text.contains("null"), "{text}");
        assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), config);
    }

    #[test]
    fn the_same_configuration_is_the_same_bytes_and_the_oci_crate_reads_them() {
        let mut config = ImageConfig::new(&Platform::new("linux", "arm", None));
        config.created = Some(created(0));
        config.config.set_variable("B", "1");
        config.config.set_variable("A", "2");
        config.config.set_variable("B", "3=4");
        config.config.labels.extend([("z", "1"), ("a", "2")].map(|(key, value)| (key.to_owned(), value.to_owned())));
        config.config.expose("80/tcp");
        config.config.cmd = Some(Vec::new());
        config.push_layer(Digest::of(b""), History { created_by: Some("RUN true".to_owned()), ..History::default() });
        config.push_empty(History::default());
        let text = String::from_utf8(config.to_json()).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"created":"1970-01-01T00:00:00Z","architecture":"arm","os":"linux","variant":"v7","config":{"#,
                r#""ExposedPorts":{"80/tcp":{}},"Env":["B=3=4","A=2"],"Labels":{"a":"2","z":"1"}},"#,
                r#""rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"#,
                r#""history":[{"created_by":"RUN true"},{"empty_layer":true}]}"#
            )
        );
        let theirs = oci_spec::image::ImageConfiguration::from_reader(text.as_bytes()).unwrap();
        assert_eq!(theirs.config().as_ref().unwrap().env().as_ref().unwrap()[1], "A=2");
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(created(1_700_000_000), "2023-11-14T22:13:20Z");
        assert!(created(i64::MAX).starts_with("9999-"));
    }

    #[test]
    fn documents_beyond_the_limit_or_of_another_shape_are_refused() {
        let big = vec![b' '; json::DOCUMENT_LIMIT_BYTES as usize + 1];
        assert!(matches!(ImageConfig::parse(&big), Err(ImageError::TooLarge { .. })));
        assert!(matches!(ImageConfig::parse(b"[]"), Err(ImageError::Json { .. })));
        let deep = "[".repeat(100_000);
        assert!(matches!(ImageConfig::parse(deep.as_bytes()), Err(ImageError::Json { .. })));
    }
}
