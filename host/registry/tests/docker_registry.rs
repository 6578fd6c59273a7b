//! Against Debian's `docker-registry`, with `skopeo` as the second opinion.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cofferdam_digest::Digest;
use cofferdam_registry::{
    Action, BlobOutcome, Client, ClientOptions, Credential, HostCertificates, ManifestName, ManifestType, Missing,
    NoCredentials, Reference, RegistryError, Repository, Secret, Tag,
};
use cofferdam_tests::fault_proxy::{Fault, FaultProxy};
use cofferdam_tests::noise;

use crate::support::{
    anonymous, blob, quick,
    registry::{Access, Certificate, PASSWORD, Registry, USER},
    skipped, with,
};

fn repository(registry: &Registry, name: &str) -> Repository {
    format!("{}/{name}", registry.host()).parse().unwrap()
}

fn password(password: &str) -> Credential {
    Credential::Basic { username: USER.to_owned(), password: Secret::new(password) }
}

/// Pushes an image of one layer and returns its manifest.
async fn push_image(client: &Client, repository: &Repository, tag: &str, layer: &[u8]) -> Bytes {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(layer)
    );
    for bytes in [config.as_bytes(), layer] {
        client.push_blob(repository, &blob(bytes)).await.unwrap();
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
        ManifestType::OciManifest,
        Digest::of(config.as_bytes()),
        config.len(),
        Digest::of(layer),
        layer.len()
    );
    let manifest = Bytes::from(manifest);
    let name = ManifestName::Tag(tag.parse().unwrap());
    let put = client.put_manifest(repository, &name, ManifestType::OciManifest.as_str(), manifest.clone());
    assert_eq!(put.await.unwrap(), Digest::of(&manifest));
    manifest
}

#[tokio::test]
async fn an_image_is_pushed_with_a_password_and_read_by_skopeo_and_by_us() {
    if skipped("docker-registry") || skipped("htpasswd") || skipped("skopeo") {
        return;
    }
    let registry = Registry::start(&Access::Password);
    let repository = repository(&registry, "team/app");
    let (client, known) = with(password(PASSWORD));
    let layer = noise(3_000_000, 1);
    let manifest = push_image(&client, &repository, "v1", &layer).await;

    let output = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", "--creds", &format!("{USER}:{PASSWORD}")])
        .arg(format!("docker://{repository}:v1"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, manifest);

    let reference: Reference = format!("{repository}:v1").parse().unwrap();
    let resolved = client.resolve(&reference).await.unwrap();
    assert_eq!((resolved.media_type, &resolved.bytes), (ManifestType::OciManifest, &manifest));
    let by_digest = client.resolve(&reference.with_digest(resolved.digest)).await.unwrap();
    assert_eq!(by_digest, resolved);
    let head = client.find_manifest(&reference).await.unwrap().unwrap();
    assert_eq!((head.digest, head.size_bytes), (resolved.digest, Some(manifest.len() as u64)));

    let stream = client.open_blob(&repository, Digest::of(&layer), layer.len() as u64).await.unwrap();
    let mut reader = stream.into_reader();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    assert_eq!(read.await.unwrap().unwrap(), layer);

    let asked = known.asked.lock().unwrap();
    assert!(asked.iter().all(|(host, name, _)| *host == registry.host() && name == "team/app"));
    assert!(asked.iter().any(|(_, _, actions)| actions[..] == [Action::Pull]));
    assert!(asked.len() <= 2, "the credential is asked for once for pulling and once for pushing: {asked:?}");
}

#[tokio::test]
async fn a_wrong_password_and_none_are_told_apart_and_never_shown() {
    if skipped("docker-registry") || skipped("htpasswd") {
        return;
    }
    let registry = Registry::start(&Access::Password);
    let repository = repository(&registry, "team/app");
    let (wrong, known) = with(password("not-the-password"));
    let error = wrong.check_push(&repository).await.unwrap_err();
    let text = format!("{error} {error:?} {}", error.remedy().unwrap());
    assert!(matches!(error, RegistryError::Unauthorized { action: Action::Push, .. }), "{text}");
    for part in [&registry.host(), "team/app", "push", "401", "a user name and password", "UNAUTHORIZED"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("not-the-password"), "{text}");
    assert_eq!(known.asked.lock().unwrap().len(), 2, "a refused credential is asked for once more");

    let error = anonymous().resolve(&format!("{repository}:v1").parse().unwrap()).await.unwrap_err();
    let text = format!("{error}; {}", error.remedy().unwrap());
    assert!(text.contains("no credentials") && text.contains("log in") && text.contains("pull"), "{text}");
}

#[tokio::test]
async fn what_is_there_is_not_sent_and_what_is_elsewhere_is_mounted() {
    if skipped("docker-registry") {
        return;
    }
    let registry = Registry::start(&Access::Everyone);
    let (first, second) = (repository(&registry, "first"), repository(&registry, "second"));
    let client = anonymous();
    let bytes = noise(1_000_000, 2);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let mut layer = blob(&bytes);
    layer.progress = Some(Arc::new(move |bytes| log.lock().unwrap().push(bytes)));

    assert!(!client.blob_exists(&first, layer.digest).await.unwrap());
    assert_eq!(client.push_blob(&first, &layer).await.unwrap(), BlobOutcome::Uploaded);
    assert!(client.blob_exists(&first, layer.digest).await.unwrap());
    {
        let sent = sent.lock().unwrap();
        assert!(sent.len() > 2 && sent.is_sorted() && sent.last() == Some(&1_000_000), "{sent:?}");
    }

    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    layer.source = Arc::new(move || -> std::io::Result<Box<dyn Read + Send>> {
        counted.fetch_add(1, Ordering::Relaxed);
        Err(std::io::Error::other("it must not be read"))
    });
    layer.mount_from = vec![repository(&registry, "none"), first.clone()];
    assert_eq!(client.push_blob(&first, &layer).await.unwrap(), BlobOutcome::Present);
    assert_eq!(client.push_blob(&second, &layer).await.unwrap(), BlobOutcome::Mounted(first.clone()));
    assert!(client.blob_exists(&second, layer.digest).await.unwrap());
    assert!(!client.mount_blob(&second, Digest::of(b"nowhere"), &first).await.unwrap());
    assert_eq!(reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_upload_goes_on_with_the_session_of_a_mount_that_failed() {
    if skipped("docker-registry") {
        return;
    }
    let registry = Registry::start(&Access::Everyone);
    let (first, second) = (repository(&registry, "first"), repository(&registry, "second"));
    let mut layer = blob(&noise(1000, 3));
    layer.mount_from = vec![first];
    let client = anonymous();
    assert_eq!(client.push_blob(&second, &layer).await.unwrap(), BlobOutcome::Uploaded);
    assert!(client.blob_exists(&second, layer.digest).await.unwrap());
}

#[tokio::test]
async fn the_empty_blob_and_an_index_by_digest_can_be_pushed() {
    if skipped("docker-registry") {
        return;
    }
    let registry = Registry::start(&Access::Everyone);
    let repository = repository(&registry, "app");
    let client = anonymous();
    client.push_blob(&repository, &blob(b"")).await.unwrap();
    assert_eq!(client.fetch_blob(&repository, Digest::of(b""), 0, 10).await.unwrap(), Bytes::new());

    let manifest = push_image(&client, &repository, "part", b"layer").await;
    let index = Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#,
        ManifestType::OciIndex,
        ManifestType::OciManifest,
        Digest::of(&manifest),
        manifest.len()
    ));
    let media_type = ManifestType::OciIndex.as_str();
    let digest = client.put_manifest(&repository, &ManifestName::Digest, media_type, index.clone()).await.unwrap();
    let resolved = client.resolve(&Reference::by_digest(repository, digest)).await.unwrap();
    assert_eq!((resolved.media_type, resolved.bytes), (ManifestType::OciIndex, index));
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    if skipped("docker-registry") {
        return;
    }
    let registry = Registry::start(&Access::Everyone);
    let repository = repository(&registry, "app");
    let client = anonymous();
    let reference = Reference::tagged(repository.clone(), "v9".parse::<Tag>().unwrap());
    assert_eq!(client.find_manifest(&reference).await.unwrap(), None);
    let error = client.resolve(&reference).await.unwrap_err();
    assert!(error.to_string().contains("unknown"), "{error}");
    push_image(&client, &repository, "v1", b"layer").await;
    let error = client.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { what: Missing::Manifest, .. }), "{error}");
    assert!(error.to_string().contains(&reference.to_string()), "{error}");
    let error = client.fetch_blob(&repository, Digest::of(b"nowhere"), 7, 10).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { what: Missing::Blob, .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_without_its_blobs_is_refused_in_the_registrys_words() {
    if skipped("docker-registry") {
        return;
    }
    let registry = Registry::start(&Access::Everyone);
    let repository = repository(&registry, "app");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{0}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{1}","size":1}},"layers":[]}}"#,
        ManifestType::OciManifest,
        Digest::of(b"nowhere")
    );
    let name = ManifestName::Tag(Tag::latest());
    let put = anonymous().put_manifest(&repository, &name, ManifestType::OciManifest.as_str(), manifest.into()).await;
    let text = put.unwrap_err().to_string();
    assert!(text.contains("BLOB_UNKNOWN") && text.contains("PUT ") && text.contains("/manifests/latest"), "{text}");
}

#[tokio::test]
async fn a_pull_survives_what_happens_to_answers_on_their_way_or_says_what_it_was() {
    if skipped("docker-registry") {
        return;
    }
    let registry = Registry::start(&Access::Everyone);
    let layer = noise(500_000, 4);
    push_image(&anonymous(), &repository(&registry, "app"), "v1", &layer).await;
    type Check = fn(&Result<Bytes, RegistryError>) -> bool;
    let cases: [(Fault, usize, Check); 10] = [
        (Fault::CutAnswer(200_000), 1, Result::is_ok),
        (Fault::CutAnswer(0), 2, Result::is_ok),
        (Fault::StallAnswer(300_000), 1, Result::is_ok),
        (Fault::LoseAnswer, 2, Result::is_ok),
        (Fault::WithoutHeader("content-length"), 1, Result::is_ok),
        (Fault::Spoil(1234), 1, |result| matches!(result, Err(RegistryError::DigestMismatch { .. }))),
        (Fault::Append(b"more".to_vec()), 1, |result| matches!(result, Err(RegistryError::SizeMismatch { .. }))),
        (Fault::DripAnswer(Duration::from_millis(20)), 1, Result::is_ok),
        (
            Fault::DripAnswer(Duration::from_millis(20)),
            usize::MAX,
            |result| matches!(result, Err(error @ RegistryError::TooSlow { .. }) if error.remedy().is_some()),
        ),
        (Fault::StallAnswer(0), usize::MAX, |result| matches!(result, Err(RegistryError::Timeout { .. }))),
    ];
    for (fault, times, check) in cases {
        let (shown, left) = (format!("{fault:?}"), Mutex::new(times));
        let proxy = FaultProxy::start(Some(registry.port()), move |request, _| {
            let mut left = left.lock().unwrap();
            if request.path.contains("/blobs/") && *left > 0 {
                *left -= 1;
                return fault.clone();
            }
            Fault::None
        });
        let repository: Repository = format!("{}/app", proxy.host()).parse().unwrap();
        let result = anonymous().fetch_blob(&repository, Digest::of(&layer), 500_000, 500_000).await;
        assert!(check(&result), "{shown}: {:?}", result.as_ref().map(Bytes::len));
        assert!(result.is_err() || result.is_ok_and(|bytes| bytes == layer), "{shown}");
    }
}

#[tokio::test]
async fn certificates_of_a_host_are_for_that_host_alone() {
    if skipped("docker-registry") || skipped("openssl") {
        return;
    }
    let certificate = Certificate::new();
    let registry = Registry::start_tls(&Access::ClientCertificate, &certificate);
    let repository = repository(&registry, "app");
    let ca_pem = std::fs::read(certificate.certificate()).unwrap();
    let key = std::fs::read(certificate.key()).unwrap();
    let client_pem = [&ca_pem[..], &key].concat();
    let check = async |host: String, certificates: HostCertificates| {
        let host_certificates = BTreeMap::from([(host, certificates)]);
        let client = Client::new(ClientOptions { host_certificates, ..quick() }, Arc::new(NoCredentials));
        client.check_push(&repository).await
    };
    let both = HostCertificates { ca_pem: ca_pem.clone(), client_pem: client_pem.clone() };
    check(registry.host(), both.clone()).await.unwrap();
    check(registry.host(), HostCertificates { ca_pem: ca_pem.clone(), ..HostCertificates::default() })
        .await
        .unwrap_err();
    let other = check("other.example".to_owned(), both.clone()).await.unwrap_err();
    assert!(matches!(other, RegistryError::Tls { certificate: true, .. }), "{other:?}");
    let wrong = HostCertificates { client_pem: ca_pem.clone(), ca_pem };
    let error = check(registry.host(), wrong).await.unwrap_err().to_string();
    assert!(error.contains("client certificate") && error.contains(&registry.host()), "{error}");
    assert!(!format!("{both:?}").contains("PRIVATE"), "{both:?}");
}

#[tokio::test]
async fn a_certificate_is_checked_unless_the_user_says_otherwise_and_tls_is_never_left() {
    if skipped("docker-registry") || skipped("openssl") {
        return;
    }
    let certificate = Certificate::new();
    let registry = Registry::start_tls(&Access::Everyone, &certificate);
    let repository = repository(&registry, "app");
    let error = anonymous().check_push(&repository).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { certificate: true, .. }), "{error:?}");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("CA certificate") && remedy.contains("--skip-tls-verify"), "{remedy}");

    let trusting =
        ClientOptions { ca_certificates_pem: vec![std::fs::read(certificate.certificate()).unwrap()], ..quick() };
    let host = BTreeSet::from([registry.host()]);
    let careless = ClientOptions { skip_tls_verify_hosts: host.clone(), ..quick() };
    let insecure = ClientOptions { insecure_hosts: host, ..quick() };
    for (number, options) in [trusting, careless, insecure].into_iter().enumerate() {
        let client = Client::new(options, Arc::new(NoCredentials));
        // The registry's `Location` begins with http: the upload still goes over TLS.
        let layer = noise(300_000, 30 + number as u64);
        push_image(&client, &repository, "v1", &layer).await;
        let size = layer.len() as u64;
        assert_eq!(client.fetch_blob(&repository, Digest::of(&layer), size, size).await.unwrap(), layer);
    }

    let only_push = ClientOptions { skip_tls_verify_push: true, ..quick() };
    let client = Client::new(only_push, Arc::new(NoCredentials));
    client.check_push(&repository).await.unwrap();
    let pull = client.resolve(&Reference::tagged(repository, "v1".parse().unwrap())).await;
    assert!(matches!(pull, Err(RegistryError::Tls { .. })), "{pull:?}");
}
