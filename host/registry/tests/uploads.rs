//! Pushing while the registry, or the way to it, fails. The registry behind the proxy is a real one.

use std::{
    io::{self, Cursor, Read},
    sync::Arc,
};

use cofferdam_digest::Digest;
use cofferdam_registry::{
    Action, Client, ClientOptions, ManifestName, ManifestType, NoCredentials, RegistryError, Repository, Tag,
};
use cofferdam_tests::fault_proxy::{Fault, FaultProxy, Request};
use cofferdam_tests::noise;

use crate::support::{
    anonymous, blob, quick,
    registry::{Access, Registry},
    skipped,
};

/// A registry behind a proxy that does `fault` to the first `times` requests that match.
fn behind(
    matches: impl Fn(&Request) -> bool + Send + Sync + 'static,
    fault: Fault,
    times: usize,
) -> (Registry, FaultProxy) {
    let registry = Registry::start(&Access::Everyone);
    let left = std::sync::atomic::AtomicUsize::new(times);
    let proxy = FaultProxy::start(Some(registry.port()), move |request, _| {
        use std::sync::atomic::Ordering::SeqCst;
        if matches(request) && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return fault.clone();
        }
        Fault::None
    });
    (registry, proxy)
}

fn repository(proxy: &FaultProxy) -> Repository {
    format!("{}/app", proxy.host()).parse().unwrap()
}

#[tokio::test]
async fn an_upload_survives_passing_faults_in_every_request() {
    if skipped("docker-registry") {
        return;
    }
    let bytes = noise(2_000_000, 10);
    for method in ["HEAD", "POST", "PUT"] {
        for fault in [
            Fault::status(500, ""),
            Fault::status(429, ""),
            Fault::Reset,
            Fault::LoseAnswer,
            Fault::StallRequest,
            Fault::CutRequest(700_000),
        ] {
            if matches!(fault, Fault::CutRequest(_)) && method != "PUT" {
                continue;
            }
            let shown = format!("{method} {fault:?}");
            let (_registry, proxy) = behind(move |request| request.method == method, fault, 2);
            let repository = repository(&proxy);
            let client = anonymous();
            if let Err(error) = client.push_blob(&repository, &blob(&bytes)).await {
                panic!("{shown}: {error}");
            }
            let read = client.fetch_blob(&repository, Digest::of(&bytes), bytes.len() as u64, 3_000_000).await.unwrap();
            assert!(read == bytes, "{shown}");
        }
    }
}

/// Debian's registry signs the offset into its `Location` and so can't go on after a broken request: a case in the wild.
#[tokio::test]
async fn a_broken_upload_begins_again_where_the_registry_cannot_resume() {
    if skipped("docker-registry") {
        return;
    }
    let bytes = noise(2_000_000, 11);
    let (_registry, proxy) = behind(|request| request.method == "PUT", Fault::CutRequest(1_500_000), 1);
    let client = anonymous();
    client.push_blob(&repository(&proxy), &blob(&bytes)).await.unwrap();
    assert_eq!(proxy.count("POST", "/uploads/"), 2);
    assert!(client.blob_exists(&repository(&proxy), Digest::of(&bytes)).await.unwrap());
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_broke() {
    let bytes = noise(2_000_000, 15);
    let server = FaultProxy::start(None, |request, _| {
        let at = |location: &str, range: &str| {
            let headers = [("Location", location), ("Range", range)];
            Fault::Answer(204, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(), Vec::new())
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v2/") => Fault::status(200, "{}"),
            ("HEAD", _) => Fault::status(404, ""),
            ("POST", _) => Fault::with_header(202, "Location", "/v2/app/blobs/uploads/1", ""),
            ("PUT", "/v2/app/blobs/uploads/1") => Fault::Reset,
            ("GET", "/v2/app/blobs/uploads/1") => at("/v2/app/blobs/uploads/2?state=x", "0-1499999"),
            ("PATCH", "/v2/app/blobs/uploads/2") => Fault::with_header(202, "Location", "3", ""),
            ("PUT", "/v2/app/blobs/uploads/3") => Fault::status(201, ""),
            _ => Fault::status(400, "unexpected"),
        }
    });
    anonymous().push_blob(&repository(&server), &blob(&bytes)).await.unwrap();
    let requests = server.requests();
    let patch = requests.iter().find(|request| request.method == "PATCH").unwrap();
    assert_eq!((patch.header("content-range"), patch.query.as_str()), (Some("1500000-1999999"), "state=x"));
    assert!(patch.body == bytes[1_500_000..]);
    let put = requests.last().unwrap();
    assert_eq!(Request::fields(&put.query, "digest"), [Digest::of(&bytes).to_string()]);
    assert_eq!(put.header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_registry_that_refuses_a_large_request_gets_pieces() {
    if skipped("docker-registry") {
        return;
    }
    let bytes = noise(1_000_000, 12);
    for status in [413, 405] {
        let too_large = |request: &Request| {
            request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0u64) > 300_000
        };
        let (_registry, proxy) = behind(too_large, Fault::status(status, "too large"), usize::MAX);
        let client = Client::new(ClientOptions { chunk_bytes: 300_000, ..quick() }, Arc::new(NoCredentials));
        client.push_blob(&repository(&proxy), &blob(&bytes)).await.unwrap();
        assert_eq!(proxy.requests().iter().filter(|request| request.method == "PATCH").count(), 4);
        let size = bytes.len() as u64;
        let read = client.fetch_blob(&repository(&proxy), Digest::of(&bytes), size, size).await.unwrap();
        assert!(read == bytes);
    }
}

#[tokio::test]
async fn faults_that_stay_end_with_their_name_and_nothing_is_there() {
    if skipped("docker-registry") {
        return;
    }
    let bytes = noise(500_000, 13);
    type Check = fn(&RegistryError) -> bool;
    let cases: [(Fault, Check); 6] = [
        (Fault::status(500, "out of order"), |e| e.to_string().contains("out of order")),
        (Fault::status(403, r#"{"errors":[{"code":"DENIED","message":"quota"}]}"#), |e| {
            matches!(e, RegistryError::Denied { action: Action::Push, .. }) && e.to_string().contains("quota")
        }),
        (Fault::status(507, "disk full"), |e| e.to_string().contains("disk full")),
        (Fault::Reset, |e| matches!(e, RegistryError::Transport { .. })),
        (Fault::StallRequest, |e| matches!(e, RegistryError::Timeout { .. })),
        (Fault::status(413, "too large"), |e| e.remedy().unwrap().contains("limits the size")),
    ];
    for (fault, check) in cases {
        let shown = format!("{fault:?}");
        let sends = |request: &Request| matches!(request.method.as_str(), "PUT" | "PATCH");
        let (_registry, proxy) = behind(sends, fault, usize::MAX);
        let client = anonymous();
        let error = client.push_blob(&repository(&proxy), &blob(&bytes)).await.unwrap_err();
        assert!(check(&error), "{shown}: {error:?}");
        assert!(error.to_string().contains("/v2/app/blobs/uploads/"), "{error}");
        assert!(!client.blob_exists(&repository(&proxy), Digest::of(&bytes)).await.unwrap(), "{shown}");
    }
}

#[tokio::test]
async fn content_that_is_not_what_its_descriptor_says_is_never_stored() {
    if skipped("docker-registry") {
        return;
    }
    let registry = Registry::start(&Access::Everyone);
    let repository: Repository = format!("{}/app", registry.host()).parse().unwrap();
    let bytes = noise(400_000, 14);
    let source =
        |bytes: Vec<u8>| move || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(Cursor::new(bytes.clone()))) };
    let mut other = bytes.clone();
    other[7] ^= 1;
    let (longer, shorter) = ([&bytes[..], b"x"].concat(), bytes[..399_999].to_vec());
    type Check = fn(&RegistryError) -> bool;
    let cases: [(Vec<u8>, Check); 3] = [
        (other, |e| e.to_string().contains("DIGEST_INVALID")),
        (longer, |e| matches!(e, RegistryError::SourceSize { expected: 400_000, actual: 400_001, .. })),
        (shorter, |e| matches!(e, RegistryError::SourceSize { expected: 400_000, actual: 399_999, .. })),
    ];
    for (wrong, check) in cases {
        let mut upload = blob(&bytes);
        upload.source = Arc::new(source(wrong));
        let error = anonymous().push_blob(&repository, &upload).await.unwrap_err();
        assert!(check(&error), "{error:?}");
        assert!(!anonymous().blob_exists(&repository, upload.digest).await.unwrap());
    }
    let mut upload = blob(&bytes);
    upload.source = Arc::new(|| -> io::Result<Box<dyn Read + Send>> { Err(io::Error::other("the disk is on fire")) });
    let error = anonymous().push_blob(&repository, &upload).await.unwrap_err();
    let RegistryError::Source { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "the disk is on fire");
}

#[tokio::test]
async fn a_manifest_is_put_again_after_its_answer_was_lost_and_a_wrong_digest_is_told() {
    let put = |request: &Request| request.method == "PUT";
    let lost = FaultProxy::start(None, move |request, number| match number {
        _ if !put(request) => Fault::status(200, "{}"),
        1 => Fault::Reset,
        _ => Fault::status(201, ""),
    });
    let name = ManifestName::Tag(Tag::latest());
    let media_type = ManifestType::OciManifest.as_str();
    anonymous().put_manifest(&repository(&lost), &name, media_type, "{}".into()).await.unwrap();
    assert_eq!(lost.count("PUT", "/manifests/latest"), 2);

    let wrong = FaultProxy::start(None, move |request, _| {
        let digest = Digest::of(b"other").to_string();
        if put(request) {
            Fault::with_header(201, "Docker-Content-Digest", &digest, "")
        } else {
            Fault::status(200, "{}")
        }
    });
    let error = anonymous().put_manifest(&repository(&wrong), &name, media_type, "{}".into()).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn an_upload_goes_to_a_location_on_another_host_without_our_credentials() {
    let storage = FaultProxy::start(None, |_, _| Fault::status(201, ""));
    let target = format!("http://{}/put?token=t", storage.host());
    let registry =
        FaultProxy::start(None, move |request, _| match (request.method.as_str(), request.header("authorization")) {
            (_, None) => Fault::with_header(401, "WWW-Authenticate", "Basic realm=x", ""),
            ("HEAD", _) => Fault::status(404, ""),
            _ => Fault::with_header(202, "Location", &target, ""),
        });
    let (client, _) = crate::support::with(cofferdam_registry::Credential::Basic {
        username: "user".to_owned(),
        password: cofferdam_registry::Secret::new("pass"),
    });
    let upload = blob(b"content");
    client.push_blob(&repository(&registry), &upload).await.unwrap();
    let put = storage.requests().pop().unwrap();
    assert_eq!((put.method.as_str(), put.body.as_slice(), put.header("authorization")), ("PUT", &b"content"[..], None));
    assert_eq!(Request::fields(&put.query, "token"), ["t"]);
    assert_eq!(Request::fields(&put.query, "digest"), [upload.digest.to_string()]);
}
