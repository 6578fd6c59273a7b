//! Layer caches elsewhere: `--cache-from` and `--cache-to`, and Kaniko's `--cache` and its kin.

use std::path::PathBuf;

use cofferdam_engine::{BaseImageCache, CacheLocation, CacheMode, Reference, RemoteCaches, split_fields};

use super::{Result, UsageError, duration, form};
use crate::kaniko_door::KanikoCaches;

/// Where Kaniko's flags say a repository or a directory, the cache is this tag of it.
const KANIKO_TAG: &str = "cofferdam";

/// The tag of a cache in a directory where none is said, as in BuildKit.
const LAYOUT_TAG: &str = "latest";

/// How Kaniko's `--cache-repo` names a directory.
const OCI_DIRECTORY: &str = "oci:";

/// `--cache-from` and `--cache-to` of `docker buildx build`. `inline` is that of BUILDKIT_INLINE_CACHE.
pub fn from_docker(from: &[String], to: &[String], inline: bool) -> Result<RemoteCaches> {
    let mut caches = RemoteCaches { inline, ..RemoteCaches::default() };
    for text in from {
        caches.from.push(source(text).ok_or_else(|| {
            const FORM: &str = "a reference, type=registry,ref=REF, or type=local,src=DIR[,tag=TAG]";
            form("--cache-from", text, FORM)
        })?);
    }
    for text in to {
        let target = target(text).ok_or_else(|| {
            const FORM: &str = "a reference, type=registry,ref=REF[,mode=min|max], type=local,dest=DIR[,tag=TAG][,mode=min|max], \
                                or type=inline";
            form("--cache-to", text, FORM)
        })?;
        match target {
            Target::Inline => caches.inline = true,
            Target::At(location, mode) => caches.to.push((location, mode)),
        }
    }
    Ok(caches)
}

/// Where a build writes what it found out.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Into the image.
    Inline,
    /// To a place of its own.
    At(CacheLocation, CacheMode),
}

/// The fields of a cache that both flags have, and those that only one has.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    reference: Option<Reference>,
    directory: Option<PathBuf>,
    tag: Option<String>,
    mode: Option<CacheMode>,
}

impl Fields {
    /// `directory` is what the flag calls one. A text without fields is a reference.
    fn parse(text: &str, directory: &str) -> Option<Self> {
        if !text.contains('=') {
            return Some(Self {
                kind: Some("registry".to_owned()),
                reference: Some(text.parse().ok()?),
                ..Self::default()
            });
        }
        let mut fields = Self::default();
        for field in split_fields(text)? {
            match field.split_once('=')? {
                ("type", value) => fields.kind = Some(value.to_owned()),
                ("ref", value) => fields.reference = Some(value.parse().ok()?),
                ("tag", value) if !value.is_empty() => fields.tag = Some(value.to_owned()),
                (name, value) if name == directory && !value.is_empty() => fields.directory = Some(value.into()),
                ("mode", "min") => fields.mode = Some(CacheMode::Min),
                ("mode", "max") => fields.mode = Some(CacheMode::Max),
                // Ours is always one manifest of OCI's types, and never fails a build.
                ("image-manifest" | "oci-mediatypes" | "ignore-error", "true") => {}
                _ => return None,
            }
        }
        Some(fields)
    }

    fn location(self) -> Option<CacheLocation> {
        match (self.kind.as_deref(), self.reference, self.directory, self.tag) {
            (Some("registry"), Some(reference), None, None) => Some(CacheLocation::Registry(reference)),
            (Some("local"), None, Some(directory), tag) => {
                Some(CacheLocation::Layout { directory, tag: tag.unwrap_or_else(|| LAYOUT_TAG.to_owned()) })
            }
            _ => None,
        }
    }
}

fn source(text: &str) -> Option<CacheLocation> {
    let fields = Fields::parse(text, "src")?;
    if fields.mode.is_some() && fields.kind.as_deref() != Some("registry") {
        return None;
    }
    fields.location()
}

fn target(text: &str) -> Option<Target> {
    let fields = Fields::parse(text, "dest")?;
    match (fields.kind.as_deref(), fields.mode) {
        (Some("inline"), None | Some(CacheMode::Min)) => {
            let is_all = fields.reference.is_none() && fields.directory.is_none() && fields.tag.is_none();
            is_all.then_some(Target::Inline)
        }
        (_, mode) => Some(Target::At(fields.location()?, mode.unwrap_or(CacheMode::Min))),
    }
}

/// Kaniko's flags. `destinations` are where the image goes.
pub fn from_kaniko(arguments: &KanikoCaches, destinations: &[String], no_push: bool) -> Result<RemoteCaches> {
    let ttl = Some(duration("--cache-ttl", &arguments.cache_ttl)?);
    if !arguments.switches.cache {
        return Ok(RemoteCaches::default());
    }
    let bases = Some(BaseImageCache { directory: arguments.cache_dir.clone(), ttl });
    let writes = !arguments.switches.no_push_cache;
    let repository = match (arguments.cache_repository.as_deref().filter(|text| !text.is_empty()), destinations) {
        (Some(repository), _) => repository.to_owned(),
        (None, _) if no_push && writes => {
            let text = "`--cache` with `--no-push` needs `--cache-repo REPOSITORY`, or `--no-push-cache`";
            return Err(UsageError::Combination(text.to_owned()));
        }
        (None, [first, ..]) => {
            let first: Reference = first.parse().map_err(|_| form("--destination", first, "a reference"))?;
            format!("{}/cache", first.repository().familiar())
        }
        (None, []) => return Ok(RemoteCaches { bases, ..RemoteCaches::default() }),
    };
    let location = kaniko_location(&repository)
        .ok_or_else(|| form("--cache-repo", &repository, "a repository of a registry, or oci:DIR"))?;
    Ok(RemoteCaches {
        from: vec![location.clone()],
        to: if writes { vec![(location, CacheMode::Max)] } else { Vec::new() },
        inline: false,
        ttl,
        bases,
    })
}

fn kaniko_location(repository: &str) -> Option<CacheLocation> {
    if let Some(directory) = repository.strip_prefix(OCI_DIRECTORY) {
        let tag = KANIKO_TAG.to_owned();
        return (!directory.is_empty()).then(|| CacheLocation::Layout { directory: directory.into(), tag });
    }
    let parsed: Reference = repository.parse().ok()?;
    match (parsed.tag(), parsed.digest()) {
        (None, None) => format!("{repository}:{KANIKO_TAG}").parse().ok().map(CacheLocation::Registry),
        (Some(_), None) => Some(CacheLocation::Registry(parsed)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(text: &str) -> CacheLocation {
        CacheLocation::Registry(text.parse().unwrap())
    }

    fn layout(directory: &str, tag: &str) -> CacheLocation {
        CacheLocation::Layout { directory: directory.into(), tag: tag.to_owned() }
    }

    #[test]
    fn caches_are_in_registries_directories_and_images() {
        for (text, location, mode) in [
            ("type=registry,ref=reg.example/a:b,mode=max", registry("reg.example/a:b"), CacheMode::Max),
            ("type=registry,image-manifest=true,ref=reg.example/a:b", registry("reg.example/a:b"), CacheMode::Min),
            ("reg.example/a:b", registry("reg.example/a:b"), CacheMode::Min),
            ("type=local,dest=some/where,mode=max", layout("some/where", "latest"), CacheMode::Max),
            ("type=local,dest=/x,tag=main", layout("/x", "main"), CacheMode::Min),
        ] {
            assert_eq!(target(text), Some(Target::At(location, mode)), "{text}");
        }
        assert_eq!(target("type=inline"), Some(Target::Inline));
        assert_eq!(source("type=local,src=/x,tag=main"), Some(layout("/x", "main")));
        assert_eq!(source("type=registry,ref=reg.example/a:b,mode=max"), Some(registry("reg.example/a:b")));
        for text in [
            "type=gha",
            "type=registry",
            "type=local",
            "type=local,src=x",
            "type=local,dest=",
            "type=inline,mode=max",
            "type=inline,ref=a",
            "type=registry,ref=A",
            "type=registry,ref=a,x=y",
            "",
        ] {
            assert_eq!(target(text), None, "{text}");
        }
        for text in ["type=inline", "type=local,dest=x", "type=local,src=x,mode=max", "type=registry,src=x"] {
            assert_eq!(source(text), None, "{text}");
        }
    }

    #[test]
    fn kaniko_names_a_repository_or_a_directory() {
        assert_eq!(kaniko_location("oci:/x"), Some(layout("/x", "cofferdam")));
        assert_eq!(kaniko_location("reg.example/a"), Some(registry("reg.example/a:cofferdam")));
        assert_eq!(kaniko_location("reg.example/a:b"), Some(registry("reg.example/a:b")));
        for text in ["oci:", "", "A"] {
            assert_eq!(kaniko_location(text), None, "{text}");
        }
    }
}
