//! A registry, or the way to it, that fails: while a base is pulled, and while an image is pushed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use cofferdam_tests::{
    fault_proxy::{Fault, FaultProxy, Rules, When},
    is_short, report,
};

use crate::scene::{RegistryScene, at_once, ends_well};

/// Every kind of request of a pull and a push: method, path, and whether it belongs to the pull.
const KINDS: [(&str, &str); 9] = [
    ("GET", "/v2/"),
    ("GET", "/v2/library/base/manifests/1"),
    ("GET", "/v2/library/base/blobs/*"),
    ("HEAD", "/v2/NAME/blobs/*"),
    ("POST", "/v2/NAME/blobs/uploads/"),
    ("PATCH", "/v2/NAME/blobs/uploads/*"),
    ("PUT", "/v2/NAME/blobs/uploads/*"),
    ("PUT", "/v2/NAME/manifests/sha256:*"),
    ("PUT", "/v2/NAME/manifests/1"),
];

/// A proxy that takes no blob in one request where that is wanted, so that PATCH is used, and else follows the rules; `hit`
/// tells whether one applied.
fn proxy(scene: &RegistryScene, in_pieces: bool, rules: Rules, hit: Arc<AtomicBool>) -> FaultProxy {
    FaultProxy::start(Some(scene.port()), move |request, _| {
        let whole = request.method == "PUT" && request.header("content-length").is_some_and(|length| length != "0");
        match in_pieces && whole && request.path.contains("/blobs/uploads/") {
            true => Fault::status(413, ""),
            false => {
                let fault = rules.decide(request);
                hit.fetch_or(!matches!(fault, Fault::None), Ordering::Relaxed);
                fault
            }
        }
    })
}

fn with_header(status: u16, name: &str, value: &str) -> Fault {
    Fault::with_header(status, name, value, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slowly"}]}"#)
}

/// Faults that pass.
fn passing_faults() -> [(&'static str, Fault); 8] {
    [
        ("429", with_header(429, "Retry-After", "1")),
        ("500", Fault::status(500, "")),
        ("503", Fault::status(503, "")),
        ("reset", Fault::Reset),
        ("lost", Fault::LoseAnswer),
        ("cut", Fault::CutAnswer(20)),
        ("stall", Fault::StallRequest),
        ("stalls-inside", Fault::StallAnswer(20)),
    ]
}

#[test]
fn faults_that_pass_are_survived_in_every_kind_of_request() {
    let Some(scene) = RegistryScene::new() else { return };
    let direct = scene.from(&scene.registry.host());
    let digest = scene.scene.good(&["-f", &direct]);
    let faults = passing_faults();
    at_once(&faults, faults.len(), |(name, fault)| {
        for in_pieces in [false, true] {
            let repository = format!("app-{name}-{in_pieces}");
            let rules = KINDS.iter().fold(Rules::new(), |rules, (method, path)| {
                rules.on(method, &path.replace("NAME", &repository), When::First(1), fault.clone())
            });
            let proxy = proxy(&scene, in_pieces, rules, Arc::default());
            let tag = format!("{}/{repository}:1", proxy.host());
            let file = scene.from(&proxy.host());
            let store = scene.store(&repository);
            let arguments = ["-f", &file, "--push", "--tag", &tag, "--registry-timeout", "1"];
            assert_eq!(scene.scene.good_in(&store, &arguments), digest, "{name}");
            assert_eq!(scene.registry.digest(&format!("{repository}:1")), Some(digest.clone()), "{name}");
            assert!(proxy.count("GET", "/manifests/1") >= 2, "{name}: the fault was met");
            assert_eq!(proxy.requests().iter().any(|request| request.method == "PATCH"), in_pieces);
        }
    });
}

#[test]
fn faults_that_stay_are_explained_and_move_no_tag() {
    let Some(scene) = RegistryScene::new() else { return };
    let faults = [
        (401, Fault::with_header(401, "WWW-Authenticate", "Basic realm=\"x\"", "")),
        (403, Fault::status(403, r#"{"errors":[{"code":"DENIED","message":"not you"}]}"#)),
        (404, Fault::status(404, "")),
        (429, with_header(429, "Retry-After", "7200")),
        (418, Fault::status(418, "")),
    ];
    let cases: Vec<_> = KINDS.iter().flat_map(|kind| faults.iter().map(move |fault| (kind, fault))).collect();
    at_once(&cases, 3, |((method, path), (status, fault))| {
        let repository =
            format!("app-{status}-{}", KINDS.iter().position(|kind| kind == &(*method, *path)).expect("one of them"));
        let rules = Rules::new().on(method, &path.replace("NAME", &repository), When::Always, fault.clone());
        fails(&scene, &repository, *method == "PATCH", rules, (method, path, *status));
    });
}

/// A push over a proxy with these rules fails, but for requests whose refusal means something else.
fn fails(scene: &RegistryScene, repository: &str, in_pieces: bool, rules: Rules, case: (&str, &str, u16)) {
    let (method, path, status) = case;
    // What the tag was before.
    let file = scene.from(&scene.registry.host());
    let before = format!("{}/{repository}:1", scene.registry.host());
    let store = scene.store(repository);
    let old = scene.scene.good_in(&store, &["-f", &file, "--push", "--tag", &before, "--label", "old=yes"]);
    std::fs::remove_dir_all(&store).expect("ours");

    let proxy = proxy(scene, in_pieces, rules, Arc::default());
    let file = scene.from(&proxy.host());
    let tag = format!("{}/{repository}:1", proxy.host());
    let arguments = ["-f", &file, "--push", "--tag", &tag, "--registry-timeout", "1"];
    let begun = Instant::now();
    let built = scene.scene.program_in(&store, &arguments).run();
    scene.scene.nothing_left(&store);
    // Registries whose greeting is a 401 with a Basic challenge, a 404 or the like are asked nevertheless: what counts is
    // what they say to the requests themselves. A blob that is not there (404) is sent.
    if path == "/v2/" && status != 429 || method == "HEAD" && status == 404 {
        built.success();
    } else {
        ends_well(&built, &[]);
        let said = &built.stderr;
        assert!(said.contains(&status.to_string()) && said.contains(&proxy.host()), "{method} {path} {status}: {said}");
        let last = said.trim_end().lines().rfind(|line| !line.contains("no tag was moved")).expect("lines");
        assert!(last.starts_with("  ") || status == 418, "a remedy: {method} {path} {status}: {said}");
        if status == 429 {
            assert!(begun.elapsed().as_secs() < 60 && said.contains("7200 s"), "{said}");
            assert!(method == "HEAD" || said.contains("slowly"), "the registry's own words: {said}");
        }
        assert_eq!(scene.registry.digest(&format!("{repository}:1")), Some(old), "{method} {path} {status}");
    }
    drop(proxy);
    let file = scene.from(&scene.registry.host());
    let new = scene.scene.good_in(&store, &["-f", &file, "--push", "--tag", &before]);
    assert_eq!(scene.registry.digest(&format!("{repository}:1")), Some(new));
}

#[test]
fn faults_of_the_line_that_stay_end_after_some_attempts() {
    let Some(scene) = RegistryScene::new() else { return };
    let faults = [
        ("500", Fault::status(500, "out of order"), "500 Internal Server Error: out of order"),
        ("reset", Fault::Reset, "the connection broke"),
        ("stall", Fault::StallRequest, "no answer came for 1 s"),
    ];
    let requests = [("GET", "/v2/library/base/manifests/1"), ("PUT", "/v2/NAME/manifests/1")];
    let cases: Vec<_> = faults.iter().flat_map(|fault| requests.iter().map(move |kind| (fault, kind))).collect();
    at_once(&cases, cases.len(), |((name, fault, says), (method, path))| {
        let repository = format!("app-{name}-{}", method.to_lowercase());
        let path = path.replace("NAME", &repository);
        let proxy = scene.proxy(Rules::new().on(method, &path, When::Always, fault.clone()));
        let (file, tag) = (scene.from(&proxy.host()), format!("{}/{repository}:1", proxy.host()));
        let arguments = ["-f", &file, "--push", "--tag", &tag, "--registry-timeout", "1"];
        let remedy = if *name == "500" { "run the same command again later" } else { "run the same command again" };
        scene.scene.bad_in(&scene.store(&repository), &arguments, &[&path, says, remedy]);
        assert_eq!(proxy.count(method, &path), 6);
        assert_eq!(scene.registry.tags(&repository), Some(Vec::new()));
    });
}

#[test]
fn content_that_is_not_what_was_asked_for_is_refused_and_the_next_build_fetches_it_again() {
    let Some(scene) = RegistryScene::new() else { return };
    let manifest = scene.registry.manifest("library/base:1").expect("skopeo");
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().expect("a digest").to_owned();
        (format!("/v2/library/base/blobs/{digest}"), digest)
    };
    let (config, layer) = (blob(&manifest["config"]), blob(&manifest["layers"][1]));
    let size = manifest["layers"][1]["size"].as_u64().expect("a size");
    let of_manifest = "/v2/library/base/manifests/1".to_owned();
    let direct = scene.from(&scene.registry.host());
    let digest = scene.scene.good(&["-f", &direct]);
    let sizes = format!("has at least {} bytes, expected {size}", size + 4);
    let cases: [(&str, &str, Fault, &[&str]); 10] = [
        (
            "manifest-other",
            &of_manifest,
            Fault::Spoil(40),
            &["manifests/1", "content's digest is", "sends other bytes"],
        ),
        ("manifest-short", &of_manifest, Fault::CutAnswer(100), &["manifests/1", "the connection broke"]),
        (
            "manifest-long",
            &of_manifest,
            Fault::Append(vec![b' '; 5 << 20]),
            &["manifests/1", "longer than 4194304 bytes"],
        ),
        ("manifest-more", &of_manifest, Fault::Append(b"    ".to_vec()), &["manifests/1", "content's digest is"]),
        ("config-other", &config.0, Fault::Spoil(40), &[&config.1, "content's digest is", "sends other bytes"]),
        ("config-short", &config.0, Fault::CutAnswer(10), &[&config.1, "ended after"]),
        ("config-long", &config.0, Fault::Append(b"more".to_vec()), &[&config.1, "bytes, expected"]),
        ("layer-other", &layer.0, Fault::Spoil(5000), &[&layer.1, "content's digest is", "sends other bytes"]),
        ("layer-short", &layer.0, Fault::CutAnswer(5000), &[&layer.1, "ended after"]),
        ("layer-long", &layer.0, Fault::Append(b"more".to_vec()), &[&layer.1, &sizes]),
    ];
    // An index that says another size of its manifest than it has.
    let bytes =
        scene.registry.skopeo(&["inspect", "--raw", &format!("docker://{}/library/base:1", scene.registry.host())]);
    let bytes = bytes.expect("skopeo").success().stdout;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": manifest["mediaType"],
            "digest": scene.registry.digest("library/base:1").expect("skopeo"),
            "size": bytes.len() + 1,
            "platform": { "os": "linux", "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" } },
        }],
    });
    let fault = Fault::with_header(200, "Content-Type", "application/vnd.oci.image.index.v1+json", &index.to_string());
    let proxy = scene.proxy(Rules::new().on("GET", &of_manifest, When::Always, fault));
    let says = format!("has {} bytes, but the index of the image says {}", bytes.len(), bytes.len() + 1);
    scene.scene.bad_in(&scene.store("index"), &["-f", &scene.from(&proxy.host())], &[&says]);

    // Not always the same bytes are missing: a transfer that is cut is resumed, and cut again.
    at_once(&cases, cases.len(), |(name, path, fault, says)| {
        let proxy = scene.proxy(Rules::new().on("GET", path, When::Always, fault.clone()));
        let file = scene.from(&proxy.host());
        let store = scene.store(name);
        scene.scene.bad_in(&store, &["-f", &file, "--registry-timeout", "1"], says);
        assert_eq!(scene.scene.good_in(&store, &["-f", &direct]), digest, "{name}");
    });
}

#[test]
fn redirects_are_followed_as_far_as_they_may_be() {
    let Some(scene) = RegistryScene::new() else { return };
    let direct = scene.from(&scene.registry.host());
    let digest = scene.scene.good(&["-f", &direct]);
    let to = |target: &str| Fault::with_header(307, "Location", target, "");
    // Storage is another server here: the registry itself, under its own address.
    let manifest = scene.registry.manifest("library/base:1").expect("skopeo");
    let mut rules = Rules::new();
    let descriptors = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
    for descriptor in descriptors {
        let path = format!("/v2/library/base/blobs/{}", descriptor["digest"].as_str().expect("a digest"));
        let target = format!("http://{}{path}", scene.registry.host());
        rules = rules.on("GET", &path, When::Always, to(&target));
    }
    let proxy = scene.proxy(rules);
    let (file, store) = (scene.from(&proxy.host()), scene.store("storage"));
    let tag = format!("{}/storage:1", proxy.host());
    assert_eq!(scene.scene.good_in(&store, &["-f", &file, "--push", "--tag", &tag]), digest);

    let cases = [
        ("circle", "GET", "/v2/library/base/manifests/1", "/v2/library/base/manifests/1", "redirects lead on and on"),
        ("nowhere", "GET", "/v2/library/base/blobs/*", "http://127.0.0.1:1/x", "no connection to `127.0.0.1:1`"),
        ("file", "GET", "/v2/library/base/blobs/*", "file:///etc/passwd", "`Location`"),
        ("post", "POST", "/v2/post/blobs/uploads/", "/v2/post/blobs/uploads/", "redirects lead on and on"),
        ("tag", "PUT", "/v2/tag/manifests/1", "/v2/tag/manifests/1", "redirects lead on and on"),
    ];
    at_once(&cases, cases.len(), |(name, method, path, target, says)| {
        let proxy = scene.proxy(Rules::new().on(method, path, When::Always, to(target)));
        let (file, tag) = (scene.from(&proxy.host()), format!("{}/{name}:1", proxy.host()));
        scene.scene.bad_in(&scene.store(name), &["-f", &file, "--push", "--tag", &tag], &[says]);
        assert_eq!(scene.registry.tags(name), Some(Vec::new()), "{name}");
    });
}

#[test]
fn a_token_server_that_fails_is_told_from_the_registry() {
    let Some(scene) = RegistryScene::new() else { return };
    let direct = scene.from(&scene.registry.host());
    let digest = scene.scene.good(&["-f", &direct]);
    let token = || Fault::status(200, r#"{"token":"let-me-in"}"#);
    let cases: [(&str, Fault, usize, &[&str]); 6] = [
        ("passes", Fault::status(503, ""), 1, &[]),
        ("rate", with_header(429, "Retry-After", "1"), 1, &[]),
        ("wrong", Fault::status(401, "no"), usize::MAX, &["/token answered 401", "log in to"]),
        ("denied", Fault::status(403, "no"), usize::MAX, &["/token answered 403", "log in with an account"]),
        ("nonsense", Fault::status(200, "<html>"), usize::MAX, &["/token", "not the JSON of a token server"]),
        ("empty", Fault::status(200, "{}"), usize::MAX, &["/token", "no token in it"]),
    ];
    at_once(&cases, cases.len(), |(name, fault, times, says)| {
        let fault = fault.clone();
        let seen = AtomicUsize::new(0);
        let times = *times;
        let proxy = FaultProxy::start(Some(scene.port()), move |request, _| {
            if request.path == "/token" {
                let number = seen.fetch_add(1, Ordering::Relaxed);
                return if number < times { fault.clone() } else { token() };
            }
            if request.header("authorization") == Some("Bearer let-me-in") {
                return Fault::None;
            }
            let host = request.header("host").unwrap_or_default();
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
            Fault::with_header(401, "WWW-Authenticate", &challenge, "")
        });
        let (file, tag) = (scene.from(&proxy.host()), format!("{}/{name}:1", proxy.host()));
        let (store, arguments) = (scene.store(name), ["-f", &file, "--push", "--tag", &tag]);
        if says.is_empty() {
            assert_eq!(scene.scene.good_in(&store, &arguments), digest);
        } else {
            scene.scene.bad_in(&store, &arguments, says);
            assert_eq!(scene.registry.tags(name), Some(Vec::new()));
        }
    });
}

#[test]
fn a_base_that_does_not_exist_is_named_with_what_to_check() {
    let Some(scene) = RegistryScene::new() else { return };
    let host = scene.registry.host();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let closed = format!("127.0.0.1:{free}/library/base:1");
    for (name, says) in [
        (format!("{host}/library/base:none"), ["manifest `", "does not exist", "check the tag"]),
        (format!("{host}/library/none:1"), ["library/none", "does not exist", "check the"]),
        (format!("{host}/library/base@sha256:{:064}", 7), ["manifest `", "does not exist", "check the tag"]),
        (closed, ["no connection to", "Connection refused", "spelt right"]),
        ("registry.invalid/x:1".to_owned(), ["no connection to `registry.invalid`", "", "spelt right"]),
    ] {
        scene.scene.site.dockerfile(&format!("FROM scratch AS one\nFROM {name}\nCOPY file /\n"));
        let said = scene.scene.bad(&[], &says);
        assert!(said.contains(&name) && said.contains(&format!("   2 | >>> FROM {name}")), "{said}");
    }
}

#[test]
fn a_proxy_that_fails_is_named() {
    let scene = crate::scene::Scene::new();
    scene.site.dockerfile("FROM registry.invalid/x:1\n");
    let refuses = FaultProxy::start(None, |_, _| Fault::status(403, "not through me"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    for (variable, proxy) in [
        ("HTTPS_PROXY", format!("http://user:s3cret@127.0.0.1:{free}")),
        ("ALL_PROXY", format!("http://127.0.0.1:{free}")),
        ("HTTPS_PROXY", format!("http://{}", refuses.host())),
    ] {
        let built = scene.program(&[]).env(variable, &proxy).run();
        let shown = proxy.replace("user:s3cret@", "");
        ends_well(
            &built,
            &["registry.invalid", &format!("through the proxy `{shown}`"), "check the proxy", "NO_PROXY"],
        );
        assert!(!built.stderr.contains("s3cret"), "{}", built.stderr);
        let built = scene.program(&[]).env(variable, &proxy).env("NO_PROXY", "registry.invalid").run();
        ends_well(&built, &["registry.invalid", "spelt right"]);
        assert!(!built.stderr.contains(&shown), "{}", built.stderr);
    }
}

/// A part of `scripts/campaign.sh faults`: each fault alone, in each kind of request, at each of its first occurrences.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    let Some(scene) = RegistryScene::new() else { return };
    let direct = scene.from(&scene.registry.host());
    let digest = scene.scene.good(&["-f", &direct]);
    let faults = passing_faults();
    let occurrences = if is_short() { 1 } else { 3 };
    let mut cases = Vec::new();
    for (fault, name) in faults.iter().map(|(name, fault)| (fault, name)) {
        for (kind, (method, path)) in KINDS.iter().enumerate() {
            cases.extend(
                (0..occurrences).map(|number| (format!("{name}-{kind}-{number}"), fault, *method, *path, number)),
            );
        }
    }
    if is_short() {
        cases.retain(|(name, ..)| !name.contains("stall") && !name.starts_with("429"));
    }
    let met = AtomicUsize::new(0);
    at_once(&cases, 8, |(name, fault, method, path, number)| {
        let repository = format!("campaign-{name}");
        let path = path.replace("NAME", &repository);
        let hit = Arc::new(AtomicBool::new(false));
        let rules = Rules::new().on(method, &path, When::Nth(*number), (*fault).clone());
        let proxy = proxy(&scene, *method == "PATCH", rules, hit.clone());
        let (file, store) = (scene.from(&proxy.host()), scene.store(&repository));
        let tag = format!("{}/{repository}:1", proxy.host());
        let arguments = ["-f", &file, "--push", "--tag", &tag, "--registry-timeout", "1"];
        assert_eq!(scene.scene.good_in(&store, &arguments), digest, "{name}");
        assert_eq!(scene.registry.digest(&format!("{repository}:1")), Some(digest.clone()), "{name}");
        met.fetch_add(usize::from(hit.load(Ordering::Relaxed)), Ordering::Relaxed);
        std::fs::remove_dir_all(store).expect("ours");
    });
    let text = format!(
        "Registry: {} builds, each with one fault of {} kinds in one of {} kinds of requests, at its first to {occurrences}. \
         occurrence; {} met it. Each ended with the right digest under its tag.\n",
        cases.len(),
        faults.len(),
        KINDS.len(),
        met.into_inner()
    );
    report("registry", &text);
}
