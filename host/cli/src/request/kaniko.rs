//! `executor`: Kaniko's flags.

use std::{collections::BTreeMap, num::NonZeroU32};

use cofferdam_engine::{
    AnnotationLevel, Attestations, BuildRequest, CertificateFiles, Compression, Destination, Execution, GitOptions,
    Mirrors, Output, OutputKind, Platform, RegistryAccess, RegistryHost, SourceAccess, Timestamps,
};

use super::{
    Result, UsageError, annotations, annotations::check_places, caches, credential_helpers, credentials, epoch, form,
    kaniko_build_arguments, layer_limit, pairs, patience, platform, plugins, registry_files, secrets::secrets,
};
use crate::{
    docker_door::SharedArguments,
    environment::Environment,
    kaniko_door::{ExecutorArguments, KanikoRegistries},
};

/// What the library behind it takes.
const ZSTD_DEFAULT_LEVEL: i32 = 3;

/// How often a request is tried in any case; `--push-retry` can only add to that.
const DEFAULT_ATTEMPTS: u32 = 6;

/// `executor`.
pub fn from_kaniko(arguments: ExecutorArguments, environment: &Environment) -> Result<BuildRequest> {
    let switches = &arguments.switches;
    let combination = |text: &str| Err(UsageError::Combination(text.to_owned()));
    if arguments.destinations.is_empty() && !switches.no_push && !switches.dry_run {
        return combination("`--destination REF` is needed, or `--no-push` to build without pushing");
    }
    if arguments.tar_path.is_some() && arguments.destinations.is_empty() {
        return combination("`--tar-path` needs `--destination REF` for the image's name in the archive");
    }
    let compression = compression(arguments.compression.as_deref().unwrap_or_default(), arguments.compression_level);
    let is_zstd = matches!(compression, Compression::Zstd { .. });
    // Docker's media types have no name for it.
    if is_zstd && arguments.image_format.as_deref() == Some("docker") {
        return combination("`--compression=zstd` needs OCI's media types: leave out `--image-format=docker`");
    }
    if is_zstd && arguments.tar_path.is_some() {
        return combination("`--compression=zstd` is not for `--tar-path`: no `docker load` reads it");
    }
    let docker_media_types = match arguments.image_format.as_deref() {
        Some("docker") if arguments.oci_layout_path.is_some() => {
            return combination(
                "`--image-format=docker` is not for `--oci-layout-path`: readers of layouts know OCI's types only",
            );
        }
        Some("docker") if !arguments.annotations.is_empty() => {
            return combination("`--annotation` needs OCI's media types: leave out `--image-format=docker`");
        }
        Some("docker") => true,
        Some("oci") => false,
        // Kaniko's images have Docker's types; readers of OCI layouts know OCI's only, and only these have annotations.
        _ => arguments.oci_layout_path.is_none() && !is_zstd && arguments.annotations.is_empty(),
    };
    let mut targets = arguments.targets.into_iter();
    let timestamps = match (epoch(environment, &arguments.build_arguments)?, switches.reproducible) {
        (Timestamps::Automatic, true) => Timestamps::Epoch(0),
        (chosen, _) => chosen,
    };
    let tar = arguments.tar_path.map(|destination| Output { kind: OutputKind::DockerArchive, destination });
    let layout = arguments.oci_layout_path.map(|destination| Output { kind: OutputKind::OciDirectory, destination });
    // The default of the flag leaves out what a cluster mounts beneath /var/run; nothing of that is seen here.
    let var_run = arguments.ignore_var_run.unwrap_or_default().then(|| "/var/run".to_owned());
    let shared = SharedArguments { store: arguments.store.clone(), ..SharedArguments::default() };
    let caches = caches::from_kaniko(&arguments.caches, &arguments.destinations, switches.no_push)?;
    let platforms: Vec<Platform> =
        arguments.custom_platform.as_deref().map(platform).transpose()?.into_iter().collect();
    let annotations = annotations(&arguments.annotations, AnnotationLevel::Manifest)?;
    check_places(&annotations, &platforms, false)?;
    Ok(BuildRequest {
        working_directory: environment.working_directory(),
        context: context(arguments.context, arguments.bucket),
        dockerfile: Some(arguments.dockerfile),
        target: targets.next(),
        further_targets: targets.collect(),
        build_arguments: kaniko_build_arguments(&arguments.build_arguments, environment)?,
        contexts: BTreeMap::new(),
        secrets: secrets(&arguments.secrets, environment)?,
        ssh: BTreeMap::new(),
        labels: pairs("--label", &arguments.labels)?,
        platforms,
        destination: Destination {
            references: arguments.destinations,
            push: !switches.no_push,
            outputs: tar.into_iter().chain(layout).collect(),
            policies: Vec::new(),
            annotations,
            check_push: !switches.no_push && !switches.skip_push_permission_check,
            digest_file: arguments.digest_file,
            // Kaniko pushes the image alone.
            attestations: Attestations::default(),
            docker_media_types,
            single_layer: switches.single_snapshot,
            ignore_immutable_tags: switches.push_ignore_immutable_tag_errors,
            ..Destination::default()
        },
        no_cache: false,
        caches,
        ignored_paths: arguments.ignored_paths.into_iter().chain(var_run).collect(),
        compression,
        timestamps,
        store: environment.store(arguments.store)?,
        sources: SourceAccess {
            credential: environment.git_credential(),
            kaniko_git: Some(git_options(&arguments.git)?),
            git_pull_method: environment.git_pull_method(),
            ssh_auth_socket: environment.ssh_auth_socket(),
            known_hosts: environment.known_hosts(),
            cloud: environment.cloud_access(),
            context_directory: arguments.context_sub_path,
        },
        registries: RegistryAccess {
            patience: patience(&arguments.bounds)?,
            ..registries(arguments.registries, environment)?
        },
        plugins: plugins(&shared, environment)?,
        execution: Execution {
            layer_limit_bytes: layer_limit(&arguments.bounds)?,
            program_directories: environment.program_directories(),
            ..Execution::default()
        },
        variables: environment.ci_variables(),
    })
}

/// Where Kaniko looks for a context that nobody names.
const DEFAULT_CONTEXT: &str = "/workspace/";

/// `--context`, else `--bucket`, which counts before a context that is not a path; a bucket without a scheme is Google's.
fn context(context: Option<String>, bucket: Option<String>) -> String {
    let context = context.filter(|context| !context.is_empty());
    match bucket.filter(|bucket| !bucket.is_empty()) {
        Some(bucket) if context.as_ref().is_none_or(|context| context.contains("://")) => {
            if bucket.contains("://") {
                bucket
            } else {
                format!("gs://{bucket}")
            }
        }
        _ => context.unwrap_or_else(|| DEFAULT_CONTEXT.to_owned()),
    }
}

/// `--compression` and `--compression-level`, of which only values above 0 mean anything.
fn compression(format: &str, level: i32) -> Compression {
    let given = Some(level).filter(|level| *level > 0);
    match (format, given) {
        ("zstd", level) => Compression::Zstd { level: level.unwrap_or(ZSTD_DEFAULT_LEVEL) },
        (_, Some(level)) => Compression::Gzip { level: level.unsigned_abs() },
        (_, None) => Compression::default(),
    }
}

/// How registries are reached.
pub fn registries(arguments: KanikoRegistries, environment: &Environment) -> Result<RegistryAccess> {
    let retries = arguments.push_retry.max(arguments.image_download_retry);
    Ok(RegistryAccess {
        mirrors: mirrors(&arguments)?,
        host_certificates: host_certificates(&arguments)?,
        insecure_push: arguments.switches.insecure,
        insecure_pull: arguments.switches.insecure_pull,
        insecure_hosts: arguments.insecure_registries,
        skip_tls_verify_hosts: arguments.skip_tls_verify_registries,
        skip_tls_verify_push: arguments.switches.skip_tls_verify,
        skip_tls_verify_pull: arguments.switches.skip_tls_verify_pull,
        credential_helpers: credential_helpers(arguments.credential_helpers),
        files: registry_files(arguments.files, environment),
        attempts: retries.map(|retries| retries.saturating_add(1).max(DEFAULT_ATTEMPTS)),
        ..credentials(environment)
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

/// `--registry-map`, then `--registry-mirror`, which is a map of Docker Hub.
fn mirrors(arguments: &KanikoRegistries) -> Result<Mirrors> {
    let mut mirrors = Mirrors::default();
    mirrors.instead = arguments.switches.skip_default_registry_fallback;
    for text in arguments.maps.iter().filter(|text| !text.is_empty()) {
        let wrong = || form("--registry-map", text, "HOST=HOST or HOST=HOST/PATH");
        let (from, to) = text.split_once('=').ok_or_else(wrong)?;
        mirrors.add(from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    }
    for text in arguments.mirrors.iter().filter(|text| !text.is_empty()) {
        let mirror = text.parse().map_err(|_| form("--registry-mirror", text, "HOST or HOST/PATH"))?;
        mirrors.add(RegistryHost::docker_hub(), mirror);
    }
    Ok(mirrors)
}

/// `--registry-certificate` and `--registry-client-cert`, by host.
fn host_certificates(arguments: &KanikoRegistries) -> Result<BTreeMap<String, CertificateFiles>> {
    let mut all: BTreeMap<String, CertificateFiles> = BTreeMap::new();
    let host = |text: &str| text.parse::<RegistryHost>().ok().map(|host| host.to_string());
    for text in &arguments.certificates {
        let parts = text.split_once('=').and_then(|(name, file)| Some((host(name)?, file)));
        let (host, file) = parts.ok_or_else(|| form("--registry-certificate", text, "HOST=FILE"))?;
        all.entry(host).or_default().ca.push(file.into());
    }
    for text in &arguments.client_certificates {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_context_where_no_directory_is_named() {
        let read =
            |given: Option<&str>, bucket: Option<&str>| context(given.map(str::to_owned), bucket.map(str::to_owned));
        assert_eq!(read(None, None), "/workspace/");
        assert_eq!(read(None, Some("b/k.tar.gz")), "gs://b/k.tar.gz");
        assert_eq!(read(Some(""), Some("s3://b/k")), "s3://b/k");
        assert_eq!(read(Some("/src"), Some("b")), "/src");
        assert_eq!(read(Some("gs://x/y"), Some("b")), "gs://b");
    }

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
}
