//! Layer caches elsewhere: `--cache-from` and `--cache-to`, and Kaniko's `--cache` and its kin.

use std::path::PathBuf;

use cofferdam_engine::{BaseImageCache, CacheLocation, CacheMode, CloudAccess, Reference, RemoteCaches, split_fields};

use super::{Result, UsageError, bucket_cache::BucketFields, duration, form};
use crate::kaniko_door::KanikoCaches;

/// Where Kaniko's flags say a repository or a directory, the cache is this tag of it.
const KANIKO_TAG: &str = "cofferdam";

/// The tag of a cache in a directory where none is said, as in BuildKit.
const LAYOUT_TAG: &str = "latest";

/// How Kaniko's `--cache-repo` names a directory.
const OCI_DIRECTORY: &str = "oci:";

/// `--cache-from` and `--cache-to` of `docker buildx build`. `inline` is that of BUILDKIT_INLINE_CACHE; `cloud` is for buckets whose
/// fields do not say everything.
pub fn from_docker(from: &[String], to: &[String], inline: bool, cloud: &CloudAccess) -> Result<RemoteCaches> {
    let mut caches = RemoteCaches { inline, ..RemoteCaches::default() };
    for text in from {
        caches.from.push(source(text, cloud).ok_or_else(|| {
            const FORM: &str = "a reference, type=registry,ref=REF, type=local,src=DIR[,tag=TAG], or \
                                type=s3,bucket=BUCKET[,region=REGION][,name=NAME][,endpoint_url=URL]…";
            form("--cache-from", &without_secrets(text), FORM)
        })?);
    }
    for text in to {
        let target = target(text, cloud).ok_or_else(|| {
            const FORM: &str = "a reference, type=registry,ref=REF[,mode=min|max], type=local,dest=DIR[,tag=TAG][,mode=min|max], \
                                type=s3,bucket=BUCKET[,region=REGION][,name=NAME][,endpoint_url=URL][,mode=min|max]…, or type=inline";
            form("--cache-to", &without_secrets(text), FORM)
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
    bucket: BucketFields,
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
                (name, value) => fields.bucket.take(name, value)?,
            }
        }
        Some(fields)
    }

    fn location(self, cloud: &CloudAccess) -> Option<CacheLocation> {
        let kind = self.kind.as_deref();
        if kind != Some("s3") && !self.bucket.is_empty() {
            return None;
        }
        match (kind, self.reference, self.directory, self.tag) {
            (Some("registry"), Some(reference), None, None) => Some(CacheLocation::Registry(reference)),
            (Some("local"), None, Some(directory), tag) => {
                Some(CacheLocation::Layout { directory, tag: tag.unwrap_or_else(|| LAYOUT_TAG.to_owned()) })
            }
            (Some("s3"), None, None, None) => self.bucket.cache(cloud).map(CacheLocation::Bucket),
            _ => None,
        }
    }
}

/// A flag as messages show it.
fn without_secrets(text: &str) -> String {
    let shown = text.split(',').map(|field| match field.split_once('=') {
        Some((name @ ("secret_access_key" | "session_token"), _)) => format!("{name}=…"),
        _ => field.to_owned(),
    });
    shown.collect::<Vec<_>>().join(",")
}

fn source(text: &str, cloud: &CloudAccess) -> Option<CacheLocation> {
    let fields = Fields::parse(text, "src")?;
    if fields.mode.is_some() && fields.kind.as_deref() != Some("registry") {
        return None;
    }
    fields.location(cloud)
}

fn target(text: &str, cloud: &CloudAccess) -> Option<Target> {
    let fields = Fields::parse(text, "dest")?;
    match (fields.kind.as_deref(), fields.mode) {
        (Some("inline"), None | Some(CacheMode::Min)) => {
            let is_all = fields.reference.is_none()
                && fields.directory.is_none()
                && fields.tag.is_none()
                && fields.bucket.is_empty();
            is_all.then_some(Target::Inline)
        }
        (_, mode) => Some(Target::At(fields.location(cloud)?, mode.unwrap_or(CacheMode::Min))),
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

    fn target(text: &str) -> Option<Target> {
        super::target(text, &CloudAccess::default())
    }

    fn source(text: &str) -> Option<CacheLocation> {
        super::source(text, &CloudAccess::default())
    }

    #[test]
    fn caches_are_in_buckets() {
        let text = "type=s3,bucket=b,region=r,name=n,endpoint_url=http://h,use_path_style=true,access_key_id=i,secret_access_key=s";
        let Some(Target::At(CacheLocation::Bucket(cache), CacheMode::Max)) = target(&format!("{text},mode=max")) else {
            panic!("no bucket")
        };
        assert_eq!((cache.bucket.as_str(), cache.document.as_str()), ("b", "manifests/n"));
        assert_eq!(source(text), Some(CacheLocation::Bucket(cache)));
        for text in [
            "type=s3",
            "type=s3,bucket=b,ref=a",
            "type=s3,bucket=b,tag=t",
            "type=local,src=x,bucket=b",
            "type=inline,bucket=b",
        ] {
            assert_eq!((source(text), target(text)), (None, None), "{text}");
        }
        assert_eq!(without_secrets("type=s3,secret_access_key=x,name=y"), "type=s3,secret_access_key=…,name=y");
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
