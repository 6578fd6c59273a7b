//! From either front door's arguments to the one build request.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use cofferdam_engine::{
    Allowance, BuildRequest, CertificateFiles, Destination, Execution, GitOptions, Mirrors, Output, OutputKind,
    Platform, PluginAccess, RegistryAccess, RegistryHost, SecretSource, SourceAccess, SshSource, Timestamps,
};

use crate::{
    docker_door::{Bounds, BuildArguments, SharedArguments},
    environment::Environment,
    kaniko_door::ExecutorArguments,
    outputs::Outputs,
};

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

/// How often a request is tried in any case; `--push-retry` can only add to that.
const DEFAULT_ATTEMPTS: u32 = 6;

pub type Result<T> = std::result::Result<T, UsageError>;

/// `cofferdam build`.
pub fn from_docker(arguments: BuildArguments, environment: &Environment) -> Result<BuildRequest> {
    let outputs = Outputs::parse(&arguments.outputs)?;
    let references = [arguments.tags, outputs.names].concat();
    let push = arguments.push || outputs.push;
    if push && references.is_empty() {
        return Err(UsageError::Combination("`--push` needs a name: add `--tag REF`".to_owned()));
    }
    let image_format = match arguments.image_format.as_str() {
        "oci" => false,
        "docker" => true,
        _ => return Err(form("--image-format", &arguments.image_format, "oci or docker")),
    };
    let timestamps = match arguments.timestamps.as_str() {
        "epoch" => epoch(environment, &arguments.build_arguments)?,
        "real" => Timestamps::Real,
        _ => return Err(form("--timestamps", &arguments.timestamps, "epoch or real")),
    };
    Ok(BuildRequest {
        working_directory: environment.working_directory(),
        context: arguments.context,
        dockerfile: arguments.file,
        target: arguments.target,
        build_arguments: build_arguments(&arguments.build_arguments, environment)?,
        contexts: pairs("--build-context", &arguments.contexts)?,
        secrets: secrets(&arguments.secrets, environment)?,
        ssh: agents(&arguments.ssh, environment)?,
        labels: pairs("--label", &arguments.labels)?,
        platform: arguments.platform.as_deref().map(platform).transpose()?,
        destination: Destination {
            references,
            push,
            outputs: outputs.files,
            policies: arguments.tag_policies.uses()?,
            annotations: annotations(&arguments.annotations)?,
            check_push: false,
            digest_file: arguments.digest_file,
            docker_media_types: image_format,
        },
        no_cache: arguments.no_cache,
        timestamps,
        store: environment.store(arguments.shared.store.clone())?,
        sources: SourceAccess { credential: environment.git_credential(), ..SourceAccess::default() },
        registries: RegistryAccess {
            insecure_hosts: arguments.insecure_registries,
            skip_tls_verify_hosts: arguments.skip_tls_verify_registries,
            skip_tls_verify_push: arguments.skip_tls_verify,
            skip_tls_verify_pull: arguments.skip_tls_verify,
            docker_configs: environment.docker_configs(),
            docker_auth_config: environment.docker_auth_config(),
            credential_variables: environment.credential_variables(),
            credential_helpers: credential_helpers(arguments.credential_helpers),
            patience: patience(&arguments.bounds)?,
            ..RegistryAccess::default()
        },
        plugins: plugins(&arguments.shared, environment)?,
        execution: Execution { executor: arguments.executor, layer_limit_bytes: layer_limit(&arguments.bounds)? },
        variables: environment.ci_variables(),
    })
}

/// `executor`.
pub fn from_kaniko(arguments: ExecutorArguments, environment: &Environment) -> Result<BuildRequest> {
    if arguments.destinations.is_empty() && !arguments.no_push {
        let text = "`--destination REF` is needed, or `--no-push` to build without pushing".to_owned();
        return Err(UsageError::Combination(text));
    }
    if arguments.tar_path.is_some() && arguments.destinations.is_empty() {
        let text = "`--tar-path` needs `--destination REF` for the image's name in the archive".to_owned();
        return Err(UsageError::Combination(text));
    }
    if let Some(flag) = arguments.not_yet.given() {
        return Err(UsageError::Combination(format!("`{flag}` is not supported yet: build without it")));
    }
    let mirrors = mirrors(&arguments)?;
    let host_certificates = host_certificates(&arguments)?;
    let retries = arguments.push_retry.max(arguments.image_download_retry);
    let timestamps = match arguments.reproducible {
        true => match epoch(environment, &arguments.build_arguments)? {
            Timestamps::Automatic => Timestamps::Epoch(0),
            chosen => chosen,
        },
        false => epoch(environment, &arguments.build_arguments)?,
    };
    let tar = arguments.tar_path.map(|destination| Output { kind: OutputKind::DockerArchive, destination });
    let layout = arguments.oci_layout_path.map(|destination| Output { kind: OutputKind::OciDirectory, destination });
    let has_layout = layout.is_some();
    let shared = SharedArguments { store: arguments.store.clone(), ..SharedArguments::default() };
    Ok(BuildRequest {
        working_directory: environment.working_directory(),
        context: arguments.context,
        dockerfile: Some(arguments.dockerfile),
        target: arguments.target,
        build_arguments: build_arguments(&arguments.build_arguments, environment)?,
        contexts: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        labels: pairs("--label", &arguments.labels)?,
        platform: arguments.custom_platform.as_deref().map(platform).transpose()?,
        destination: Destination {
            references: arguments.destinations,
            push: !arguments.no_push,
            outputs: tar.into_iter().chain(layout).collect(),
            policies: Vec::new(),
            annotations: annotations(&arguments.annotations)?,
            check_push: !arguments.no_push && !arguments.skip_push_permission_check,
            digest_file: arguments.digest_file,
            // Kaniko's images have Docker's types; readers of OCI layouts know OCI's only.
            docker_media_types: !has_layout,
        },
        no_cache: false,
        timestamps,
        store: environment.store(arguments.store)?,
        sources: SourceAccess {
            credential: environment.git_credential(),
            kaniko_git: Some(git_options(&arguments.git)?),
            git_pull_method: environment.git_pull_method(),
            context_directory: arguments.context_sub_path,
        },
        registries: RegistryAccess {
            insecure_push: arguments.insecure,
            insecure_pull: arguments.insecure_pull,
            insecure_hosts: arguments.insecure_registries,
            skip_tls_verify_hosts: arguments.skip_tls_verify_registries,
            skip_tls_verify_push: arguments.skip_tls_verify,
            skip_tls_verify_pull: arguments.skip_tls_verify_pull,
            docker_configs: environment.docker_configs(),
            docker_auth_config: environment.docker_auth_config(),
            credential_variables: environment.credential_variables(),
            credential_helpers: credential_helpers(arguments.credential_helpers),
            mirrors,
            host_certificates,
            attempts: retries.map(|retries| retries.saturating_add(1).max(DEFAULT_ATTEMPTS)),
            patience: patience(&arguments.bounds)?,
        },
        plugins: plugins(&shared, environment)?,
        execution: Execution { layer_limit_bytes: layer_limit(&arguments.bounds)?, ..Execution::default() },
        variables: environment.ci_variables(),
    })
}

/// `--git KEY=VALUE`, whose pairs may stand in one flag or in several.
fn git_options(texts: &[String]) -> Result<GitOptions> {
    let mut options = GitOptions::default();
    for text in texts.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty()) {
        let wrong = || {
            let known =
                "branch=NAME, single-branch=BOOL, depth=COUNT, recurse-submodules=BOOL or insecure-skip-tls=BOOL";
            form("--git", text, known)
        };
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let flag = || crate::kaniko_door::go_bool(value).map_err(|_| wrong());
        match key {
            "branch" => options.branch = Some(value.to_owned()).filter(|branch| !branch.is_empty()),
            // Never more than one is fetched.
            "single-branch" => drop(flag()?),
            "depth" => options.depth = NonZeroU32::new(value.parse().map_err(|_| wrong())?),
            "recurse-submodules" => options.submodules = Some(flag()?),
            "insecure-skip-tls" => options.skip_tls_verify = flag()?,
            _ => return Err(wrong()),
        }
    }
    Ok(options)
}

/// `--credential-helpers`: nothing said is all of them, and an empty text is none.
fn credential_helpers(given: Option<Vec<String>>) -> Option<Vec<String>> {
    given.map(|names| names.into_iter().filter(|name| !name.is_empty()).collect())
}

/// `--registry-map`, then `--registry-mirror`, which is a map of Docker Hub.
fn mirrors(arguments: &ExecutorArguments) -> Result<Mirrors> {
    let mut mirrors = Mirrors::default();
    mirrors.instead = arguments.skip_default_registry_fallback;
    for text in arguments.registry_maps.iter().filter(|text| !text.is_empty()) {
        let wrong = || form("--registry-map", text, "HOST=HOST or HOST=HOST/PATH");
        let (from, to) = text.split_once('=').ok_or_else(wrong)?;
        mirrors.add(from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    }
    for text in arguments.registry_mirrors.iter().filter(|text| !text.is_empty()) {
        let mirror = text.parse().map_err(|_| form("--registry-mirror", text, "HOST or HOST/PATH"))?;
        mirrors.add(RegistryHost::docker_hub(), mirror);
    }
    Ok(mirrors)
}

/// `--registry-certificate` and `--registry-client-cert`, by host.
fn host_certificates(arguments: &ExecutorArguments) -> Result<BTreeMap<String, CertificateFiles>> {
    let mut all: BTreeMap<String, CertificateFiles> = BTreeMap::new();
    let host = |text: &str| text.parse::<RegistryHost>().ok().map(|host| host.to_string());
    for text in &arguments.registry_certificates {
        let parts = text.split_once('=').and_then(|(name, file)| Some((host(name)?, file)));
        let (host, file) = parts.ok_or_else(|| form("--registry-certificate", text, "HOST=FILE"))?;
        all.entry(host).or_default().ca.push(file.into());
    }
    for text in &arguments.registry_client_certificates {
        let parts = || {
            let (name, files) = text.split_once('=')?;
            let (certificate, key) = files.split_once(',')?;
            Some((host(name)?, certificate, key))
        };
        let (host, certificate, key) =
            parts().ok_or_else(|| form("--registry-client-cert", text, "HOST=CERTIFICATE,KEY"))?;
        all.entry(host).or_default().client = Some((certificate.into(), key.into()));
    }
    Ok(all)
}

/// `--annotation`, at the one level that there is.
fn annotations(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let at_manifest = |text: &String| {
        let Some((level, rest)) = text.split_once(':').filter(|(level, _)| !level.contains(['=', '.', '/'])) else {
            return Ok(text.clone());
        };
        match level {
            "manifest" => Ok(rest.to_owned()),
            _ => Err(form("--annotation", text, "KEY=VALUE or manifest:KEY=VALUE")),
        }
    };
    pairs("--annotation", &texts.iter().map(at_manifest).collect::<Result<Vec<_>>>()?)
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

/// A number of bytes, or of KiB, MiB, GiB, TiB with the letter.
fn bytes(text: &str) -> Option<u64> {
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
    if text.contains(',') {
        return Err(UsageError::Combination(format!("`--platform {text}`: build one platform at a time")));
    }
    text.parse().map_err(|_| form("--platform", text, "OS/ARCHITECTURE, for example linux/arm64"))
}

fn pairs(flag: &'static str, texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty())?;
        Some((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(|text| pair(text).ok_or_else(|| form(flag, text, "NAME=VALUE"))).collect()
}

/// `id=NAME` with a file, a variable, or neither: then it is the variable of that name, else the file.
fn secrets(texts: &[String], environment: &Environment) -> Result<BTreeMap<String, SecretSource>> {
    texts.iter().map(|text| secret(text, environment)).collect()
}

fn secret(text: &str, environment: &Environment) -> Result<(String, SecretSource)> {
    let wrong = || form("--secret", text, "id=NAME[,src=FILE|,env=VARIABLE][,type=file|env]");
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in cofferdam_engine::split_fields(text).ok_or_else(wrong)? {
        let (key, value) = field.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(wrong)?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            _ => return Err(wrong()),
        }
    }
    let id = id.ok_or_else(wrong)?;
    let (file, variable) = match (kind.as_deref(), file, variable) {
        (Some("env"), Some(name), None) => (None, Some(name)),
        (Some("env"), None, None) => (None, Some(id.clone())),
        (Some("file"), _, Some(_)) | (_, Some(_), Some(_)) => return Err(wrong()),
        (Some("file"), None, None) => (Some(id.clone()), None),
        (_, None, None) if environment.variable(&id).is_some() => (None, Some(id.clone())),
        (_, None, None) => (Some(id.clone()), None),
        (_, file, variable) => (file, variable),
    };
    let source =
        match (file, variable) {
            (_, Some(name)) => SecretSource::Value(environment.variable(&name).ok_or_else(|| {
                UsageError::Combination(format!("`--secret {text}`: the variable `{name}` is not set"))
            })?),
            (file, None) => SecretSource::File(PathBuf::from(file.ok_or_else(wrong)?)),
        };
    Ok((id, source))
}

/// `default`, which is the agent of SSH_AUTH_SOCK, `NAME=SOCKET`, or `NAME=KEY,KEY`.
fn agents(texts: &[String], environment: &Environment) -> Result<BTreeMap<String, SshSource>> {
    let agent = |text: &String| {
        let (id, paths) = match text.split_once('=') {
            Some((id, paths)) => (id, Some(paths.to_owned())),
            None => (text.as_str(), environment.variable("SSH_AUTH_SOCK")),
        };
        let paths: Vec<PathBuf> = paths
            .iter()
            .flat_map(|paths| paths.split(','))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect();
        match paths.is_empty() {
            _ if id.is_empty() => Err(form("--ssh", text, "default, NAME=SOCKET or NAME=KEY[,KEY]")),
            false => Ok((id.to_owned(), SshSource { paths })),
            true => Err(UsageError::Combination(format!("`--ssh {text}`: SSH_AUTH_SOCK is not set"))),
        }
    };
    texts.iter().map(agent).collect()
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
    fn git_options_stand_in_one_flag_or_several() {
        let read = |texts: &[&str]| git_options(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let together = read(&["branch=b,single-branch=true,depth=3,recurse-submodules=true,insecure-skip-tls=false"]);
        let apart = read(&["branch=b", "depth=3", "recurse-submodules=1"]);
        assert_eq!(together.unwrap(), apart.unwrap());
        let kaniko = read(&["branch=,single-branch=false,depth=0,recurse-submodules=false,insecure-skip-tls=false"]);
        assert_eq!(kaniko.unwrap(), GitOptions { submodules: Some(false), ..GitOptions::default() });
        for text in ["branch", "depth=x", "recursive=true", "single-branch=maybe"] {
            assert!(read(&[text]).is_err(), "{text}");
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
