//! Token authentication: every field of the token requests, and a real registry that checks the tokens.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use cofferdam_registry::{
    Action, BlobOutcome, Client, ClientOptions, Credential, ManifestType, Reference, RegistryError, Repository, Secret,
};
use cofferdam_tests::fault_proxy::{Fault, FaultProxy, Request};
use cofferdam_tests::noise;

use crate::support::{
    anonymous, blob, quick,
    registry::{Access, Certificate, Registry},
    skipped, with,
};

const MANIFEST: &str = r#"{"schemaVersion":2,"layers":[]}"#;

fn basic() -> Credential {
    Credential::Basic { username: "user".to_owned(), password: Secret::new("pass") }
}

/// A registry that wants `Bearer <token>` with a token of `realm`.
fn registry(realm: String, token: &'static str) -> FaultProxy {
    FaultProxy::start(None, move |request, _| {
        if request.header("authorization") == Some(&format!("Bearer {token}")) {
            return Fault::with_header(200, "Content-Type", ManifestType::OciManifest.as_str(), MANIFEST);
        }
        let challenge = format!(r#"Bearer realm="{realm}",service="the service",scope="repository:app:pull aws""#);
        Fault::with_header(401, "WWW-Authenticate", &challenge, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
    })
}

fn reference(registry: &FaultProxy) -> Reference {
    format!("{}/app:v1", registry.host()).parse().unwrap()
}

fn given(token: &str) -> Fault {
    Fault::status(200, &format!(r#"{{"token":"{token}"}}"#))
}

#[tokio::test]
async fn a_token_is_got_with_the_password_and_used_until_it_expires() {
    let tokens = FaultProxy::start(None, |_, _| given("t1"));
    let registry = registry(format!("http://{}/token?account=a", tokens.host()), "t1");
    let (client, known) = with(basic());
    for _ in 0..3 {
        client.resolve(&reference(&registry)).await.unwrap();
    }
    let requests = tokens.requests();
    assert_eq!(requests.len(), 1, "one token serves all requests of a scope");
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/token"));
    assert_eq!(request.header("authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(Request::fields(&request.query, "account"), ["a"], "the realm's own query stays");
    assert_eq!(Request::fields(&request.query, "service"), ["the service"]);
    assert_eq!(Request::fields(&request.query, "scope"), ["repository:app:pull"]);
    assert_eq!(known.asked.lock().unwrap()[..], [(registry.host(), "app".to_owned(), vec![Action::Pull])]);
    let sent = registry.requests();
    assert!(
        sent.iter().all(|request| !request.header("authorization").is_some_and(|value| value.starts_with("Basic")))
    );
}

#[tokio::test]
async fn without_credentials_a_token_is_asked_for_anonymously() {
    let tokens = FaultProxy::start(None, |_, _| Fault::status(200, r#"{"access_token":"t1","expires_in":300}"#));
    let registry = registry(format!("http://{}/token", tokens.host()), "t1");
    anonymous().resolve(&reference(&registry)).await.unwrap();
    assert_eq!(tokens.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let tokens = FaultProxy::start(None, |_, _| Fault::status(200, r#"{"access_token":"t1"}"#));
    let registry = registry(format!("http://{}/token", tokens.host()), "t1");
    let (client, _) = with(Credential::IdentityToken(Secret::new("refresh me+/")));
    client.resolve(&reference(&registry)).await.unwrap();
    let request = &tokens.requests()[0];
    assert_eq!((request.method.as_str(), request.query.as_str()), ("POST", ""));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("authorization"), None);
    let form = std::str::from_utf8(&request.body).unwrap();
    for (name, value) in [
        ("grant_type", "refresh_token"),
        ("service", "the service"),
        ("client_id", "cofferdam"),
        ("scope", "repository:app:pull"),
        ("refresh_token", "refresh me+/"),
    ] {
        assert_eq!(Request::fields(form, name), [value], "{form}");
    }
}

#[tokio::test]
async fn a_token_server_without_post_gets_the_identity_token_by_get() {
    for status in [404, 405] {
        let tokens = FaultProxy::start(None, move |request, _| match request.method.as_str() {
            "POST" => Fault::status(status, ""),
            _ => given("t1"),
        });
        let registry = registry(format!("http://{}/token", tokens.host()), "t1");
        let (client, _) = with(Credential::IdentityToken(Secret::new("refresh")));
        client.resolve(&reference(&registry)).await.unwrap();
        let expected = format!("Basic {}", BASE64_STANDARD.encode("<token>:refresh"));
        assert_eq!(tokens.requests()[1].header("authorization"), Some(&*expected));
    }
}

#[tokio::test]
async fn a_registry_token_is_used_as_it_is() {
    let tokens = FaultProxy::start(None, |_, _| given("other"));
    let registry = registry(format!("http://{}/token", tokens.host()), "mine");
    let (client, _) = with(Credential::Bearer(Secret::new("mine")));
    client.resolve(&reference(&registry)).await.unwrap();
    assert_eq!(tokens.requests().len(), 0);
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_once_and_its_scope_widened_as_asked() {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let tokens = FaultProxy::start(None, move |_, _| {
        given(if count.fetch_add(1, Ordering::SeqCst) == 0 { "old" } else { "new" })
    });
    let registry = registry(format!("http://{}/token", tokens.host()), "new");
    let (client, _) = with(basic());
    client.resolve(&reference(&registry)).await.unwrap();
    let requests = tokens.requests();
    assert_eq!(requests.len(), 2);
    // The registry's challenge named a scope of its own.
    assert_eq!(Request::fields(&requests[1].query, "scope"), ["aws", "repository:app:pull"]);
}

#[tokio::test]
async fn a_refusal_names_who_refused_what_to_whom() {
    let tokens = FaultProxy::start(None, |_, _| Fault::status(401, r#"{"details":"incorrect username or password"}"#));
    let registry_1 = registry(format!("http://{}/token", tokens.host()), "t1");
    let (client, _) = with(basic());
    let error = client.resolve(&reference(&registry_1)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{text}");
    for part in
        [&registry_1.host(), "pull `app`", "/token", "a user name and password", "incorrect username or password"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("dXNlcjpwYXNz") && !text.contains("pass\""), "{text}");

    // A token that is given, but not for what was asked.
    let fewer = FaultProxy::start(None, |_, _| given("weak"));
    let registry_2 = registry(format!("http://{}/token", fewer.host()), "t1");
    let error = client.resolve(&reference(&registry_2)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("weak"));
}

#[tokio::test]
async fn nonsense_of_a_token_server_is_an_error_without_its_bytes() {
    for body in ["not json t0psecret", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, "{}"] {
        let tokens = FaultProxy::start(None, move |_, _| Fault::status(200, body));
        let registry = registry(format!("http://{}/token", tokens.host()), "t1");
        let error = anonymous().resolve(&reference(&registry)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Answer { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("t0psecret"));
    }
}

#[tokio::test]
async fn passing_faults_of_the_token_server_are_tried_again() {
    let tokens = FaultProxy::start(None, |_, number| match number {
        0 => Fault::status(503, ""),
        1 => Fault::Reset,
        _ => given("t1"),
    });
    let registry = registry(format!("http://{}/token", tokens.host()), "t1");
    anonymous().resolve(&reference(&registry)).await.unwrap();
}

#[tokio::test]
async fn a_token_server_that_redirects_gets_nothing_more() {
    let thief = FaultProxy::start(None, |_, _| given("t1"));
    let target = format!("http://{}/token", thief.host());
    let tokens = FaultProxy::start(None, move |_, _| Fault::with_header(307, "Location", &target, ""));
    let registry = registry(format!("http://{}/token", tokens.host()), "t1");
    let (client, _) = with(basic());
    let error = client.resolve(&reference(&registry)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Elsewhere { .. }), "{error:?}");
    assert_eq!(thief.requests().len(), 0);
}

#[tokio::test]
async fn a_realm_in_plain_http_on_another_host_gets_no_credentials() {
    let registry = registry("http://tokens.example/token".to_owned(), "t1");
    let (client, known) = with(basic());
    let error = client.resolve(&reference(&registry)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Elsewhere { .. }), "{error:?}");
    assert!(error.to_string().contains("tokens.example"), "{error}");
    assert!(known.asked.lock().unwrap().is_empty(), "the credentials were not even looked for");
}

/// A token for these scopes, as "Docker Registry v2 authentication, Token Specification" has it.
fn signed(issuer: &Certificate, scopes: &[String]) -> String {
    let pem = fs::read_to_string(issuer.certificate()).unwrap();
    let certificate: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let access: Vec<_> = scopes
        .iter()
        .map(|scope| {
            let mut parts = scope.split(':');
            let (kind, name, actions) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            serde_json::json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()})
        })
        .collect();
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = serde_json::json!({
        "iss": "test-issuer", "sub": "user", "aud": "test-registry", "jti": now.to_string(),
        "nbf": now - 10, "iat": now, "exp": now + 60, "access": access,
    });
    let encode = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &signed).unwrap();
    let output =
        Command::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(issuer.key()).arg(file.path()).output().unwrap();
    assert!(output.status.success());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(output.stdout))
}

/// A real registry and a token server that gives `user` everything but what `forbidden` says.
fn token_registry(issuer: &Arc<Certificate>, forbidden: fn(&str) -> bool) -> (FaultProxy, Registry) {
    let signer = Arc::clone(issuer);
    let tokens = FaultProxy::start(None, move |request, _| {
        if request.header("authorization") != Some("Basic dXNlcjpwYXNz") {
            return Fault::status(401, r#"{"details":"who are you"}"#);
        }
        let scopes: Vec<_> = Request::fields(&request.query, "scope").into_iter().filter(|s| !forbidden(s)).collect();
        given(&signed(&signer, &scopes))
    });
    let realm = format!("http://{}/token", tokens.host());
    let registry = Registry::start(&Access::Token { realm, certificate: issuer.certificate() });
    (tokens, registry)
}

#[tokio::test]
async fn a_real_registry_takes_our_tokens_and_mounts_with_a_scope_for_both_repositories() {
    if skipped("docker-registry") || skipped("openssl") {
        return;
    }
    let issuer = Arc::new(Certificate::new());
    let (tokens, registry) = token_registry(&issuer, |_| false);
    let repository = |name: &str| -> Repository { format!("{}/{name}", registry.host()).parse().unwrap() };
    let (first, second) = (repository("team/first"), repository("team/second"));
    let (client, _) = with(basic());
    let mut layer = blob(&noise(300_000, 20));
    assert_eq!(client.push_blob(&first, &layer).await.unwrap(), BlobOutcome::Uploaded);
    layer.mount_from = vec![first.clone()];
    assert_eq!(client.push_blob(&second, &layer).await.unwrap(), BlobOutcome::Mounted(first));
    let scopes: BTreeSet<_> =
        tokens.requests().iter().map(|request| Request::fields(&request.query, "scope").join(" ")).collect();
    assert_eq!(
        scopes.into_iter().collect::<Vec<_>>(),
        [
            "repository:team/first:pull repository:team/second:pull,push",
            "repository:team/first:pull,push",
            "repository:team/second:pull,push"
        ]
    );
    let asked = Request::fields(&tokens.requests()[0].query, "service");
    assert_eq!(asked, ["test-registry"]);
}

#[tokio::test]
async fn a_mount_that_is_not_allowed_becomes_an_upload_and_a_push_that_is_not_is_refused() {
    if skipped("docker-registry") || skipped("openssl") {
        return;
    }
    let issuer = Arc::new(Certificate::new());
    let (_tokens, registry) =
        token_registry(&issuer, |scope| scope.contains(":secret:") || scope.contains(":read:pull,push"));
    let repository = |name: &str| -> Repository { format!("{}/{name}", registry.host()).parse().unwrap() };
    let (client, _) = with(basic());
    let mut layer = blob(&noise(300_000, 21));
    layer.mount_from = vec![repository("secret")];
    assert_eq!(client.push_blob(&repository("app"), &layer).await.unwrap(), BlobOutcome::Uploaded);

    let error = client.check_push(&repository("read")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { action: Action::Push, .. }), "{error:?}");
    assert!(error.to_string().contains("push `read`"), "{error}");
}

#[tokio::test]
async fn parallel_requests_share_one_token() {
    let tokens = FaultProxy::start(None, |_, _| given("t1"));
    let registry = registry(format!("http://{}/token", tokens.host()), "t1");
    let known = Arc::new(crate::support::Known { credential: basic().into(), asked: Default::default() });
    let client = Client::new(ClientOptions { requests_per_host: 8, ..quick() }, known);
    let reference = reference(&registry);
    for result in futures_util::future::join_all((0..8).map(|_| client.resolve(&reference))).await {
        result.unwrap();
    }
    assert_eq!(tokens.requests().len(), 1);
}
