//! Pulling while the registry, or the way to it, fails.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cofferdam_digest::Digest;
use cofferdam_registry::{
    Client, ClientOptions, Credential, ManifestType, NoCredentials, Reference, RegistryError, Repository, Secret,
};
use cofferdam_tests::fault_proxy::{Fault, FaultProxy, Request};
use cofferdam_tests::noise;

use crate::support::{anonymous, quick, with};

const MANIFEST: &str = r#"{"schemaVersion":2,"layers":[]}"#;

fn reference(server: &FaultProxy) -> Reference {
    format!("{}/app:v1", server.host()).parse().unwrap()
}

fn repository(server: &FaultProxy) -> Repository {
    reference(server).repository().clone()
}

fn manifest() -> Fault {
    Fault::with_header(200, "Content-Type", ManifestType::OciManifest.as_str(), MANIFEST)
}

/// A server that greets as registries do and leaves the rest to the test, which gets the number of the request among
/// those with the same method and path.
fn server(answer: impl Fn(&Request, usize) -> Fault + Send + Sync + 'static) -> FaultProxy {
    let seen = Mutex::new(Vec::new());
    FaultProxy::start(None, move |request, _| {
        if request.is("GET", "/v2/") {
            return Fault::status(200, "{}");
        }
        let key = (request.method.clone(), request.path.clone());
        let mut seen = seen.lock().unwrap();
        let number = seen.iter().filter(|other| **other == key).count();
        seen.push(key);
        answer(request, number)
    })
}

#[tokio::test]
async fn passing_faults_are_tried_again() {
    for fault in [
        Fault::status(500, ""),
        Fault::status(503, ""),
        Fault::status(429, ""),
        Fault::Reset,
        Fault::StallRequest,
        Fault::with_header(200, "Content-Length", "999", "short"),
    ] {
        let shown = format!("{fault:?}");
        let server = server(move |_, number| if number < 2 { fault.clone() } else { manifest() });
        let resolved = anonymous().resolve(&reference(&server)).await;
        assert_eq!(
            resolved.map(|resolved| resolved.bytes).map_err(|error| error.to_string()),
            Ok(MANIFEST.into()),
            "{shown}"
        );
        assert_eq!(server.count("GET", "/manifests/v1"), 3, "{shown}");
    }
}

#[tokio::test]
async fn faults_that_stay_end_after_the_last_attempt_with_their_name() {
    type Check = fn(&RegistryError) -> bool;
    let cases: [(Fault, usize, Check); 8] = [
        (Fault::status(500, "out of order"), 4, |e| {
            matches!(e, RegistryError::Status { .. })
                && e.to_string().ends_with("500 Internal Server Error: out of order")
        }),
        (Fault::status(429, ""), 4, |e| matches!(e, RegistryError::RateLimited { .. })),
        (Fault::Reset, 4, |e| matches!(e, RegistryError::Transport { .. })),
        (Fault::StallRequest, 4, |e| matches!(e, RegistryError::Timeout { .. })),
        (Fault::status(400, ""), 1, |e| matches!(e, RegistryError::Status { .. })),
        (Fault::status(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), 1, |e| {
            matches!(e, RegistryError::Denied { .. }) && e.to_string().contains("DENIED: no")
        }),
        (Fault::status(404, ""), 1, |e| matches!(e, RegistryError::NotFound { .. })),
        (Fault::status(401, ""), 2, |e| matches!(e, RegistryError::Unauthorized { .. })),
    ];
    for (fault, requests, check) in cases {
        let shown = format!("{fault:?}");
        let server = server(move |_, _| fault.clone());
        let error = anonymous().resolve(&reference(&server)).await.unwrap_err();
        assert!(check(&error), "{shown}: {error:?}");
        assert!(error.to_string().contains("/v2/app/manifests/v1"), "{error}");
        assert_eq!(server.count("GET", "/manifests/v1"), requests, "{shown}");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_up_to_its_bound() {
    let server_1 = server(|_, number| match number {
        0 => Fault::with_header(429, "Retry-After", "1", ""),
        _ => manifest(),
    });
    let started = Instant::now();
    anonymous().resolve(&reference(&server_1)).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));

    let server_2 =
        server(|_, _| Fault::with_header(429, "Retry-After", "3600", r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#));
    let error = anonymous().resolve(&reference(&server_2)).await.unwrap_err().to_string();
    assert!(error.contains("3600 s") && error.contains("TOOMANYREQUESTS"), "{error}");
    assert_eq!(server_2.count("GET", "/manifests/v1"), 1);
}

#[tokio::test]
async fn manifests_with_a_wrong_digest_or_too_many_bytes_are_refused() {
    let other = Digest::of(b"other");
    let announced = server(move |_, _| Fault::with_header(200, "Docker-Content-Digest", &other.to_string(), MANIFEST));
    let error = anonymous().resolve(&reference(&announced)).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { expected, .. } if expected == other), "{error}");

    let plain = server(|_, _| manifest());
    let error = anonymous().resolve(&reference(&plain).with_digest(other)).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { expected, .. } if expected == other), "{error}");

    let long = server(|_, _| Fault::status(200, &" ".repeat(4 * 1024 * 1024 + 1)));
    let error = anonymous().resolve(&reference(&long)).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    assert_eq!(long.count("GET", "/manifests/v1"), 1);

    let schema_1 = server(|_, _| {
        Fault::with_header(200, "Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws", "{}")
    });
    let error = anonymous().resolve(&reference(&schema_1)).await.unwrap_err();
    assert!(error.remedy().unwrap().contains("schema 1"), "{error}");
}

/// A server of one blob, which cuts its first answers short and knows ranges or does not.
fn blob_server(bytes: &[u8], ranges: bool, cuts: usize) -> FaultProxy {
    let bytes = bytes.to_vec();
    server(move |request, number| {
        let asked =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let start: usize = asked.filter(|_| ranges).unwrap_or(0);
        let rest = &bytes[start..];
        let mut headers = vec![("Content-Length".to_owned(), rest.len().to_string())];
        if start > 0 {
            headers.push(("Content-Range".to_owned(), format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())));
        }
        let cut = if number < cuts { rest.len().min((number + 1) * bytes.len() / 5) } else { rest.len() };
        Fault::Answer(if start > 0 { 206 } else { 200 }, headers, rest[..cut].to_vec())
    })
}

async fn fetch(server: &FaultProxy, bytes: &[u8]) -> Result<Bytes, RegistryError> {
    anonymous().fetch_blob(&repository(server), Digest::of(bytes), bytes.len() as u64, 100_000_000).await
}

#[tokio::test]
async fn a_truncated_blob_is_resumed_with_and_without_ranges() {
    let bytes = noise(700_000, 4);
    for ranges in [true, false] {
        let server = blob_server(&bytes, ranges, 3);
        assert_eq!(fetch(&server, &bytes).await.unwrap(), bytes, "ranges: {ranges}");
        let asked: Vec<_> = server.requests().iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
        assert!(!asked.is_empty() && asked.iter().all(|range| range != "bytes=0-"), "{asked:?}");
    }
}

#[tokio::test]
async fn a_line_that_breaks_after_every_two_megabytes_brings_a_large_blob_home() {
    const PIECE: usize = 2 << 20;
    let bytes = noise(25 << 20, 7);
    let whole = bytes.clone();
    let server = server(move |request, _| {
        let asked =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let start: usize = asked.unwrap_or(0);
        let rest = &whole[start..];
        let mut headers = vec![("Content-Length".to_owned(), rest.len().to_string())];
        if start > 0 {
            headers.push(("Content-Range".to_owned(), format!("bytes {start}-{}/{}", whole.len() - 1, whole.len())));
        }
        Fault::Answer(if start > 0 { 206 } else { 200 }, headers, rest[..rest.len().min(PIECE)].to_vec())
    });
    assert_eq!(fetch(&server, &bytes).await.unwrap(), bytes);
    assert!(server.requests().len() >= 12);
}

#[tokio::test]
async fn a_blob_that_never_comes_whole_is_an_error_that_says_how_far_it_came() {
    let bytes = noise(1000, 5);
    let truncated = bytes[..400].to_vec();
    let server = server(move |request, _| match request.header("range") {
        None => Fault::Answer(200, vec![("Content-Length".to_owned(), "1000".to_owned())], truncated.clone()),
        Some(_) => Fault::Reset,
    });
    let error = fetch(&server, &bytes).await.unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Transport { .. } | RegistryError::Truncated { received: 400, expected: 1000, .. }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn over_long_short_and_other_blobs_are_refused_at_once() {
    let bytes = noise(100_000, 6);
    let longer = [&bytes[..], b"more"].concat();
    let mut other = bytes.clone();
    other[50_000] ^= 1;
    type Check = fn(&RegistryError) -> bool;
    type Case = (Vec<(String, String)>, Vec<u8>, Check);
    let cases: [Case; 4] = [
        (vec![], longer.clone(), |e| matches!(e, RegistryError::SizeMismatch { actual: 100_004, .. })),
        (vec![("Content-Length".into(), "".into())], longer, |e| {
            matches!(e, RegistryError::SizeMismatch { .. } | RegistryError::Transport { .. })
        }),
        (vec![], bytes[..99_999].to_vec(), |e| matches!(e, RegistryError::SizeMismatch { actual: 99_999, .. })),
        (vec![], other, |e| matches!(e, RegistryError::DigestMismatch { .. })),
    ];
    for (headers, body, check) in cases {
        let server = server(move |_, _| Fault::Answer(200, headers.clone(), body.clone()));
        let error = fetch(&server, &bytes).await.unwrap_err();
        assert!(check(&error), "{error:?}");
    }
}

#[tokio::test]
async fn a_reader_fails_again_after_it_failed() {
    use std::io::Read;
    let mut bytes = noise(100_000, 7);
    let digest = Digest::of(&bytes);
    bytes[0] ^= 1;
    let size = bytes.len() as u64;
    let server = server(move |_, _| Fault::Answer(200, vec![], bytes.clone()));
    let mut reader = anonymous().open_blob(&repository(&server), digest, size).await.unwrap().into_reader();
    let outcome = tokio::task::spawn_blocking(move || {
        let mut read = Vec::new();
        let first = reader.read_to_end(&mut read).unwrap_err();
        assert!(reader.read(&mut [0; 10]).is_err(), "a failed reader must not look like an ended one");
        first
    });
    let error = outcome.await.unwrap();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RegistryError>());
    assert!(matches!(inner, Some(RegistryError::DigestMismatch { .. })), "{error:?}");
}

fn basic() -> Credential {
    Credential::Basic { username: "user".to_owned(), password: Secret::new("pass") }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let bytes = noise(5000, 8);
    let body = bytes.clone();
    let storage = FaultProxy::start(None, move |_, _| Fault::Answer(200, vec![], body.clone()));
    let target = format!("http://someone:else@{}/data?signature=secret", storage.host());
    let registry = FaultProxy::start(None, move |request, _| match request.header("authorization") {
        None => Fault::with_header(401, "WWW-Authenticate", "Basic realm=\"test\"", ""),
        Some(_) => Fault::with_header(307, "Location", &target, ""),
    });
    let (client, _) = with(basic());
    let fetched = client.fetch_blob(&repository(&registry), Digest::of(&bytes), 5000, 5000).await.unwrap();
    assert_eq!(fetched, bytes);
    let requests = storage.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].query, "signature=secret");
    assert_eq!(requests[0].header("authorization"), None, "{requests:?}");
    assert!(registry.requests().iter().any(|request| request.header("authorization") == Some("Basic dXNlcjpwYXNz")));
}

#[tokio::test]
async fn a_signature_in_a_redirect_is_not_shown_when_storage_fails() {
    let storage = FaultProxy::start(None, |_, _| Fault::status(403, "expired"));
    let target = format!("http://{}/data?signature=secret", storage.host());
    let registry = server(move |_, _| Fault::with_header(307, "Location", &target, ""));
    let error = fetch(&registry, b"x").await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("403") && text.contains("expired") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let server = server(|_, _| Fault::with_header(307, "Location", "/v2/app/manifests/v1", ""));
    let error = anonymous().resolve(&reference(&server)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirects { .. }), "{error}");
    assert!(error.remedy().is_some_and(|remedy| !remedy.contains("insecure")));
    assert!(server.requests().len() < 10);
}

#[tokio::test]
async fn a_host_that_was_not_called_insecure_is_never_asked_in_plain_http() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = FaultProxy::start(None, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Fault::status(200, "{}")
    });
    // A name that means this machine, but is not one of those that are trusted for it.
    let port = server.host().rsplit_once(':').unwrap().1.to_owned();
    let host = format!("0.0.0.0:{port}");
    let reference: Reference = format!("{host}/app:v1").parse().unwrap();
    let error = anonymous().resolve(&reference).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. } | RegistryError::Connect { .. }), "{error:?}");
    assert!(error.remedy().is_some());
    assert_eq!(asked.load(Ordering::Relaxed), 0);

    let options = ClientOptions { insecure_hosts: BTreeSet::from([host]), ..quick() };
    let insecure = Client::new(options, Arc::new(NoCredentials));
    let error = insecure.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, RegistryError::Answer { .. } | RegistryError::UnsupportedMediaType { .. }), "{error:?}");
    assert!(asked.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_that_names_the_host() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = anonymous().resolve(&format!("127.0.0.1:{port}/app").parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Connect { .. }), "{error:?}");
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")) && error.to_string().contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn requests_to_one_host_are_limited_in_number() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (n, m) = (Arc::clone(&now), Arc::clone(&most));
    let server = FaultProxy::start(None, move |_, _| {
        m.fetch_max(n.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        n.fetch_sub(1, Ordering::SeqCst);
        manifest()
    });
    let client = Client::new(ClientOptions { requests_per_host: 3, ..quick() }, Arc::new(NoCredentials));
    let reference = reference(&server);
    let all = (0..20).map(|_| client.resolve(&reference));
    for result in futures_util::future::join_all(all).await {
        result.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
