//! Layer caches elsewhere: `--cache-from` and `--cache-to`, and Kaniko's `--cache` and its kin.

use std::time::Duration;

use cofferdam_engine::{CacheMode, Reference, RemoteCaches, split_fields};

use super::{Result, UsageError, form};
use crate::kaniko_door::KanikoCaches;

/// Where Kaniko's flags say a repository, the cache is this tag of it.
const TAG_IN_REPOSITORY: &str = "cofferdam";

/// `--cache-from` and `--cache-to` of `docker buildx build`.
pub fn from_docker(from: &[String], to: &[String]) -> Result<RemoteCaches> {
    let from = from.iter().map(|text| Ok(cache("--cache-from", text)?.0)).collect::<Result<_>>()?;
    let to = match to {
        [] => None,
        [text] => Some(cache("--cache-to", text)?),
        _ => return Err(UsageError::Combination("`--cache-to` can be given once".to_owned())),
    };
    Ok(RemoteCaches { from, to, ttl: None })
}

fn cache(flag: &'static str, text: &str) -> Result<(Reference, CacheMode)> {
    const FORM: &str = "type=registry,ref=REF[,mode=min|max], or a reference; other kinds of caches are not there yet";
    let wrong = || form(flag, text, FORM);
    let parse = |text: &str| text.parse::<Reference>().map_err(|_| wrong());
    if !text.contains('=') {
        return Ok((parse(text)?, CacheMode::Min));
    }
    let (mut kind, mut reference, mut mode) = (None, None, CacheMode::Min);
    for field in split_fields(text).ok_or_else(wrong)? {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value.to_owned()),
            Some(("ref", value)) => reference = Some(parse(value)?),
            Some(("mode", "min")) => mode = CacheMode::Min,
            Some(("mode", "max")) => mode = CacheMode::Max,
            // Ours is always one manifest of OCI's types, and never fails a build.
            Some(("image-manifest" | "oci-mediatypes" | "ignore-error", "true")) => {}
            _ => return Err(wrong()),
        }
    }
    match (kind.as_deref(), reference) {
        (Some("registry"), Some(reference)) => Ok((reference, mode)),
        _ => Err(wrong()),
    }
}

/// Kaniko's flags. `destinations` are where the image goes.
pub fn from_kaniko(arguments: &KanikoCaches, destinations: &[String], no_push: bool) -> Result<RemoteCaches> {
    if !arguments.switches.cache {
        return Ok(RemoteCaches::default());
    }
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
        (None, []) => return Ok(RemoteCaches::default()),
    };
    let wrong =
        || form("--cache-repo", &repository, "a repository of a registry; `oci:` directories are not there yet");
    if repository.starts_with("oci:") {
        return Err(wrong());
    }
    let parsed: Reference = repository.parse().map_err(|_| wrong())?;
    let reference = match (parsed.tag(), parsed.digest()) {
        (None, None) => format!("{repository}:{TAG_IN_REPOSITORY}").parse().map_err(|_| wrong())?,
        (Some(_), None) => parsed,
        _ => return Err(wrong()),
    };
    Ok(RemoteCaches {
        from: vec![reference.clone()],
        to: writes.then_some((reference, CacheMode::Max)),
        ttl: Some(duration(&arguments.cache_ttl)?),
    })
}

/// As Go's `time.ParseDuration` reads it, but for fractions: `336h0m0s`.
fn duration(text: &str) -> Result<Duration> {
    let wrong = || form("--cache-ttl", text, "a duration like 336h or 1h30m");
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).filter(|at| *at > 0).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_length =
            rest[digits..].find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + unit_length] {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return Err(wrong()),
        };
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = &rest[digits + unit_length..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_the_only_kind_of_caches() {
        let read = |text: &str| cache("--cache-to", text).map(|(reference, mode)| (reference.familiar(), mode)).ok();
        let expected = |mode| Some(("reg.example/a:b".to_owned(), mode));
        assert_eq!(read("type=registry,ref=reg.example/a:b,mode=max"), expected(CacheMode::Max));
        assert_eq!(read("type=registry,image-manifest=true,ref=reg.example/a:b"), expected(CacheMode::Min));
        assert_eq!(read("reg.example/a:b"), expected(CacheMode::Min));
        for text in
            ["type=gha", "type=registry", "type=local,dest=x", "type=registry,ref=A", "type=registry,ref=a,x=y", ""]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [("336h0m0s", 336 * 3600), ("1h30m", 5400), ("45s", 45), ("0s", 0)] {
            assert_eq!(duration(text).ok(), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "5", "5d", "-1h", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
