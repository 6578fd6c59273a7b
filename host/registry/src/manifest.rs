//! Manifests: fetched with their digest verified, and put in place.

use bytes::Bytes;
use cofferdam_digest::Digest;
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    Client, ManifestType, RateLimit, Reference, RegistryError, Repository, RequestLine, Tag, auth::Scope,
    error::Missing, host::Call, http::Answer, media_type, options::Direction,
};

/// The most bytes of a manifest: what registries have to accept (distribution specification, "Pushing Manifests").
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// A manifest or an index as the registry has it; the bytes have this digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it is.
    pub media_type: ManifestType,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The bytes as they came, at most [`MAX_MANIFEST_BYTES`].
    pub bytes: Bytes,
    /// How many more images the registry gives, if it says so.
    pub rate_limit: Option<RateLimit>,
}

/// What a registry says about a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// What it is; none when it is nothing that this client reads.
    pub media_type: Option<ManifestType>,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, if the registry said so.
    pub size_bytes: Option<u64>,
}

/// The name under which a manifest is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestName {
    /// A tag, which then means this manifest.
    Tag(Tag),
    /// Its own digest only.
    Digest,
}

impl Client {
    /// Fetches the manifest or index that `reference` names (its digest, else its tag, else `latest`).
    ///
    /// The digest is computed here and compared with the reference's, and with what the registry says. The media type
    /// is the `Content-Type`; bytes that say something else about themselves are refused (CVE-2021-41190).
    pub async fn resolve(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        let host = self.host(reference.host(), Direction::Pull);
        let call = manifest_call(&host.endpoint().await?.url(&path(reference)), reference, Method::GET);
        let (answer, bytes) = host.fetch(&call, MAX_MANIFEST_BYTES).await?;
        let request = answer.request().clone();
        let digest = Digest::of(&bytes);
        for expected in reference.digest().into_iter().chain(announced_digest(&answer)) {
            if expected != digest {
                return Err(RegistryError::DigestMismatch { request, expected, actual: digest });
            }
        }
        let media_type = media_type(&answer, &bytes, &request)?;
        Ok(Manifest { media_type, digest, bytes, rate_limit: RateLimit::of(answer.headers()) })
    }

    /// Asks which manifest `reference` names now, without fetching it; none when there is none. Registries do not
    /// count this against their limits.
    pub async fn find_manifest(&self, reference: &Reference) -> Result<Option<ManifestHead>, RegistryError> {
        self.find_in(reference, Direction::Pull).await
    }

    /// The same for a reference that is going to be pushed to: with the options and the rights for pushing.
    pub async fn find_pushed_manifest(&self, reference: &Reference) -> Result<Option<ManifestHead>, RegistryError> {
        self.find_in(reference, Direction::Push).await
    }

    async fn find_in(
        &self,
        reference: &Reference,
        direction: Direction,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let host = self.host(reference.host(), direction);
        let mut call = manifest_call(&host.endpoint().await?.url(&path(reference)), reference, Method::HEAD);
        if direction == Direction::Push {
            call.scope = Scope::push(reference.repository());
        }
        let answer = match host.send(&call).await {
            Ok(answer) => answer,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(digest) = reference.digest().or_else(|| announced_digest(&answer)) {
            let media_type = content_type(&answer).and_then(|text| ManifestType::from_media_type(&text));
            return Ok(Some(ManifestHead { media_type, digest, size_bytes: answer.content_length() }));
        }
        // The header is optional: without it, only the bytes tell the digest.
        call.outgoing.method = Method::GET;
        let (answer, bytes) = host.fetch(&call, MAX_MANIFEST_BYTES).await?;
        let media_type = media_type(&answer, &bytes, answer.request()).ok();
        Ok(Some(ManifestHead { media_type, digest: Digest::of(&bytes), size_bytes: Some(bytes.len() as u64) }))
    }

    /// Puts a manifest in place and returns its digest, which the registry's answer has confirmed if it names one.
    /// Everything that the manifest refers to has to be there already.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        name: &ManifestName,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(&bytes);
        let reference = match name {
            ManifestName::Tag(tag) => Reference::tagged(repository.clone(), tag.clone()),
            ManifestName::Digest => Reference::by_digest(repository.clone(), digest),
        };
        let host = self.host(repository.host(), Direction::Push);
        let mut call = manifest_call(&host.endpoint().await?.url(&path(&reference)), &reference, Method::PUT);
        call.scope = Scope::push(repository);
        call.missing.0 = Missing::Repository;
        call.outgoing.headers.remove(ACCEPT);
        let value = HeaderValue::from_str(media_type).map_err(|_| RegistryError::UnsupportedMediaType {
            request: call.outgoing.line(),
            media_type: media_type.to_owned(),
        })?;
        call.outgoing.headers.insert(CONTENT_TYPE, value);
        call.outgoing.body = Some(bytes);
        let answer = host.send(&call).await?;
        if let Some(actual) = announced_digest(&answer)
            && actual != digest
        {
            return Err(RegistryError::DigestMismatch { request: answer.request().clone(), expected: digest, actual });
        }
        answer.finish().await;
        Ok(digest)
    }
}

fn path(reference: &Reference) -> String {
    format!("{}/manifests/{}", reference.repository().name(), reference.identifier())
}

fn manifest_call(url: &url::Url, reference: &Reference, method: Method) -> Call {
    let scope = Scope::pull(reference.repository());
    let mut call = Call::new(scope, (Missing::Manifest, reference.to_string()), method, url.clone());
    // Made of constants, all of them printable.
    if let Ok(accept) = HeaderValue::from_str(&media_type::accept(&ManifestType::ALL)) {
        call.outgoing.headers.insert(ACCEPT, accept);
    }
    call
}

/// `Docker-Content-Digest`, where it is a digest that this client can compute.
pub(crate) fn announced_digest(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest")?.trim().parse().ok()
}

fn content_type(answer: &Answer) -> Option<String> {
    let value = answer.header("content-type")?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}

/// The members that tell what a manifest is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

/// What the bytes are: the `Content-Type`, or where that is a general one, what they say themselves.
fn media_type(answer: &Answer, bytes: &[u8], request: &RequestLine) -> Result<ManifestType, RegistryError> {
    judge_media_type(content_type(answer), bytes, request)
}

fn judge_media_type(
    content_type: Option<String>,
    bytes: &[u8],
    request: &RequestLine,
) -> Result<ManifestType, RegistryError> {
    let unsupported = |media_type: String| RegistryError::UnsupportedMediaType { request: request.clone(), media_type };
    let answer = |reason: &str| RegistryError::Answer { request: request.clone(), reason: reason.to_owned() };
    if let Some(schema_1) = content_type.iter().find(|text| media_type::is_schema_1(text)) {
        return Err(unsupported(schema_1.clone()));
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(|_| match bytes {
        [] => answer("it is empty, not a manifest"),
        [0x1f, 0x8b, ..] => answer("it is compressed with gzip, which nobody asked for, and so is no manifest"),
        _ => answer("it is not the JSON of a manifest"),
    })?;
    if shape.schema_version == Some(1) {
        return Err(unsupported("application/vnd.docker.distribution.manifest.v1+json".to_owned()));
    }
    let general = |text: &str| matches!(text, "application/json" | "text/plain" | "application/octet-stream" | "");
    let said = match content_type.filter(|text| !general(text)) {
        Some(text) => Some(text),
        None => shape.media_type.as_ref().map(|text| text.to_ascii_lowercase()),
    };
    let media_type = match said {
        Some(text) => ManifestType::from_media_type(&text).ok_or_else(|| unsupported(text))?,
        // Early OCI images carry no media type at all.
        None if shape.manifests.is_some() => ManifestType::OciIndex,
        None if shape.layers.is_some() => ManifestType::OciManifest,
        None => return Err(answer("nothing says that it is a manifest")),
    };
    if shape.media_type.is_some_and(|inner| !inner.eq_ignore_ascii_case(media_type.as_str())) {
        return Err(answer("its bytes name another media type than its header"));
    }
    let fits = match media_type.is_index() {
        true => shape.layers.is_none() && shape.config.is_none(),
        false => shape.manifests.is_none(),
    };
    if !fits {
        return Err(answer("it is a manifest and an index at once"));
    }
    Ok(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(content_type: &str, bytes: &str) -> Result<ManifestType, String> {
        let url = url::Url::parse("http://registry.example/").unwrap();
        let request = RequestLine::new(&Method::GET, &url);
        let content_type = (!content_type.is_empty()).then(|| content_type.to_owned());
        judge_media_type(content_type, bytes.as_bytes(), &request).map_err(|error| error.to_string())
    }

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

    #[test]
    fn the_header_decides_and_general_headers_leave_it_to_the_bytes() {
        assert_eq!(judge(OCI, r#"{"schemaVersion":2,"layers":[]}"#), Ok(ManifestType::OciManifest));
        assert_eq!(judge("application/json", &format!(r#"{{"mediaType":"{LIST}"}}"#)), Ok(ManifestType::DockerList));
        assert_eq!(judge("", r#"{"manifests":[]}"#), Ok(ManifestType::OciIndex));
        assert_eq!(judge("text/plain", r#"{"layers":[]}"#), Ok(ManifestType::OciManifest));
    }

    #[test]
    fn bytes_that_can_be_read_in_two_ways_are_refused() {
        for (content_type, bytes) in [
            (OCI, format!(r#"{{"mediaType":"{LIST}"}}"#)),
            (OCI, r#"{"layers":[],"manifests":[]}"#.to_owned()),
            (LIST, r#"{"manifests":[],"config":{}}"#.to_owned()),
            (OCI, "[]".to_owned()),
            ("", "{}".to_owned()),
            ("application/vnd.example.chart", "{}".to_owned()),
        ] {
            judge(content_type, &bytes).unwrap_err();
        }
    }

    #[test]
    fn schema_1_is_named() {
        for (content_type, bytes) in
            [("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}"), ("", r#"{"schemaVersion":1}"#)]
        {
            assert!(judge(content_type, bytes).unwrap_err().contains("manifest.v1+"));
        }
    }
}
