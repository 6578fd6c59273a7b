//! `cofferdam build`: the habits of `docker build`.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use cofferdam_engine::{
    AnnotationLevel, Attestations, BuildRequest, Compression, Destination, Execution, Output, OutputKind, Platform,
    Reference, RegistryAccess, RunSurroundings, SourceAccess, SshSource, Timestamps,
};

use super::{
    Result, UsageError, annotations, annotations::check_places, build_arguments, caches, credential_helpers,
    credentials, epoch, form, layer_limit, pairs, patience, platform, plugins, registry_files, secrets::secrets,
};
use crate::{
    attestations::{AttestationFlags, attestations},
    docker_door::{BuildArguments, RegistryArguments},
    environment::Environment,
    kaniko_door::go_bool,
    outputs::Outputs,
};

/// The argument by which Docker's users ask for `--cache-to type=inline`.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

/// `cofferdam build`.
pub fn from_docker(arguments: BuildArguments, environment: &Environment) -> Result<BuildRequest> {
    let outputs = Outputs::parse(&arguments.outputs)?;
    let references = [arguments.tags, outputs.names].concat();
    let push = arguments.push || outputs.push;
    if push && references.is_empty() {
        return Err(UsageError::Combination("`--push` needs a name: add `--tag REF`".to_owned()));
    }
    let platforms = platforms(&arguments.platforms)?;
    let is_docker_archive = |output: &Output| output.kind == OutputKind::DockerArchive;
    if platforms.len() > 1 && outputs.files.iter().any(is_docker_archive) {
        return Err(UsageError::Combination(
            "`--output type=docker` holds an image for one platform: write `type=oci`, or build one platform at a time"
                .to_owned(),
        ));
    }
    let docker_media_types = docker_media_types(arguments.image_format.as_deref(), outputs.docker_media_types)?;
    if docker_media_types && matches!(outputs.compression, Some(Compression::Zstd { .. })) {
        return Err(UsageError::Combination("`compression=zstd` needs OCI's media types".to_owned()));
    }
    let flags = AttestationFlags {
        provenance: arguments.provenance.as_deref(),
        sbom: arguments.sbom.as_deref(),
        attest: &arguments.attest,
    };
    let attestations = Attestations {
        as_artifacts: outputs.as_artifacts,
        ..attestations_of(flags, push, docker_media_types, environment)?
    };
    let mut annotations = annotations(&arguments.annotations, AnnotationLevel::Manifest)?;
    annotations.extend(outputs.annotations);
    check_places(&annotations, &platforms, attestations.is_any())?;
    if docker_media_types && !annotations.is_empty() {
        return Err(UsageError::Combination(
            "annotations need OCI's media types: Docker's have no place for them".to_owned(),
        ));
    }
    let policies = arguments.tag_policies.uses()?;
    if outputs.by_digest {
        check_by_digest(push, &references, policies.is_empty())?;
    }
    if arguments.refused.shm_size.is_some() {
        return Err(UsageError::Combination(
            "`--shm-size` is not supported: where nothing can be mounted, /dev/shm is the machine's; `RUN \
             --mount=type=tmpfs,target=DIR,size=SIZE` gives a command memory of its own"
                .to_owned(),
        ));
    }
    if !arguments.refused.limits.is_empty() {
        return Err(UsageError::Combination(
            "`--ulimit` is not supported: commands have the builder's limits; set them before it (`ulimit`), or in the RUN".to_owned(),
        ));
    }
    let timestamps = match arguments.timestamps.as_str() {
        "epoch" => epoch(environment, &arguments.build_arguments)?,
        "real" => Timestamps::Real,
        _ => return Err(form("--timestamps", &arguments.timestamps, "epoch or real")),
    };
    let build_arguments = build_arguments(&arguments.build_arguments, environment)?;
    let inline_cache = build_arguments.get(INLINE_CACHE).is_some_and(|value| go_bool(value).unwrap_or_default());
    // As Docker has it, a label without a value is an empty one.
    let label = |text: &String| if text.contains('=') { text.clone() } else { format!("{text}=") };
    let labels: Vec<String> = arguments.labels.iter().map(label).collect();
    Ok(BuildRequest {
        working_directory: environment.working_directory(),
        context: arguments.context,
        dockerfile: arguments.file,
        target: arguments.target,
        further_targets: Vec::new(),
        build_arguments,
        contexts: pairs("--build-context", &arguments.contexts)?,
        secrets: secrets(&arguments.secrets, environment)?,
        ssh: agents(&arguments.ssh, environment)?,
        labels: pairs("--label", &labels)?,
        platforms,
        destination: Destination {
            references,
            push,
            outputs: outputs.files,
            policies,
            annotations,
            by_digest: outputs.by_digest,
            canonical_names: outputs.canonical_names,
            force_compression: outputs.force_compression,
            attestations,
            check_push: false,
            digest_file: arguments.digest_file,
            docker_media_types,
            ..Destination::default()
        },
        no_cache: arguments.no_cache,
        caches: caches::from_docker(
            &arguments.caches_from,
            &arguments.caches_to,
            inline_cache,
            &environment.cloud_access(),
        )?,
        ignored_paths: Vec::new(),
        compression: outputs.compression.unwrap_or_default(),
        timestamps,
        store: environment.store(arguments.shared.store.clone())?,
        sources: SourceAccess {
            credential: environment.git_credential(),
            ssh_auth_socket: environment.ssh_auth_socket(),
            known_hosts: environment.known_hosts(),
            cloud: environment.cloud_access(),
            ..SourceAccess::default()
        },
        registries: RegistryAccess {
            patience: patience(&arguments.bounds)?,
            ..registries_of_docker(arguments.registries, environment)?
        },
        plugins: plugins(&arguments.shared, environment)?,
        execution: Execution {
            executor: arguments.executor,
            program_directories: environment.program_directories(),
            layer_limit_bytes: layer_limit(&arguments.bounds)?,
            surroundings: RunSurroundings {
                without_network: arguments.network.as_deref() == Some("none"),
                hosts: arguments.hosts.iter().map(|text| host(text)).collect::<Result<_>>()?,
            },
        },
        variables: environment.ci_variables(),
    })
}

/// `--image-format`, or `oci-mediatypes` of outputs.
fn docker_media_types(image_format: Option<&str>, of_outputs: Option<bool>) -> Result<bool> {
    let chosen = match image_format {
        None => return Ok(of_outputs.unwrap_or_default()),
        Some("oci") => false,
        Some("docker") => true,
        Some(other) => return Err(form("--image-format", other, "oci or docker")),
    };
    match of_outputs {
        Some(other) if other != chosen => {
            Err(UsageError::Combination("`--image-format` and `oci-mediatypes` contradict each other".to_owned()))
        }
        _ => Ok(chosen),
    }
}

/// `push-by-digest`: what has no tag has no use for a tag, nor for who decides about tags.
fn check_by_digest(push: bool, references: &[String], no_policies: bool) -> Result<()> {
    let wrong = |text: String| Err(UsageError::Combination(text));
    if !push {
        return wrong("`push-by-digest=true` needs `push=true`, or `--push`".to_owned());
    }
    if !no_policies {
        return wrong("`push-by-digest=true` pushes no tag, so `--tag-policy` has nothing to decide".to_owned());
    }
    match references.iter().find(|text| text.parse().is_ok_and(|name: Reference| name.tag().is_some())) {
        Some(text) => wrong(format!("`push-by-digest=true` pushes no tag: name the repository alone, not `{text}`")),
        None => Ok(()),
    }
}

/// `--platform`, each once, in the order in which they were named.
fn platforms(texts: &[String]) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for text in texts {
        let platform = platform(text)?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// What is said about the image. By default it is how it was built, as in `docker buildx build`, but only in a registry: what is
/// kept here or written to a file stays what it is.
fn attestations_of(
    flags: AttestationFlags<'_>,
    push: bool,
    docker_media_types: bool,
    environment: &Environment,
) -> Result<Attestations> {
    let none_by_default = environment.variable("BUILDX_NO_DEFAULT_ATTESTATIONS");
    let none_by_default = none_by_default.is_some_and(|text| go_bool(&text).unwrap_or(false));
    let attestations = attestations(flags, push && !docker_media_types && !none_by_default)?;
    if docker_media_types && attestations.is_any() {
        return Err(UsageError::Combination(
            "`--provenance` and `--sbom` need OCI's media types: leave `--image-format docker` out".to_owned(),
        ));
    }
    Ok(attestations)
}

/// How registries are reached, in builds, by `push` and by `login`.
pub fn registries_of_docker(arguments: RegistryArguments, environment: &Environment) -> Result<RegistryAccess> {
    Ok(RegistryAccess {
        insecure_hosts: arguments.insecure_registries,
        skip_tls_verify_hosts: arguments.skip_tls_verify_registries,
        skip_tls_verify_push: arguments.skip_tls_verify,
        skip_tls_verify_pull: arguments.skip_tls_verify,
        credential_helpers: credential_helpers(arguments.credential_helpers),
        files: registry_files(arguments.files, environment),
        ..credentials(environment)
    })
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets.
fn host(text: &str) -> Result<(String, IpAddr)> {
    let wrong = || form("--add-host", text, "NAME:ADDRESS, with an IPv4 or IPv6 address");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let address = address.parse().ok().filter(|_| is_name).ok_or_else(wrong)?;
    Ok((name.to_owned(), address))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_addresses() {
        for (text, name, address) in [
            ("db:10.0.0.1", "db", "10.0.0.1"),
            ("my.db=::1", "my.db", "::1"),
            ("db:[fe80::1]", "db", "fe80::1"),
            ("db:fe80::1", "db", "fe80::1"),
        ] {
            assert_eq!(host(text).unwrap(), (name.to_owned(), address.parse().unwrap()), "{text}");
        }
        for text in ["db", "db:", ":10.0.0.1", "db:host-gateway", "d b:10.0.0.1", "db:10.0.0.1\n10.0.0.2 x"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
