//! Pushes of an image of many layers over a line on which each request fails with some chance.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use cofferdam_digest::Digest;
use cofferdam_tests::{
    Registry, Site,
    fault_proxy::{Fault, FaultProxy, Request},
    is_short, noise, report,
};

use crate::scene::{Scene, at_once, ends_well};

/// One request in so many fails.
const CHANCE: u64 = 10;

const LAYERS: usize = 10;

/// A number that looks like chance, the same for the same two. A hash, because the first numbers of a generator are too
/// alike for seeds that are.
fn chance(push: usize, request: usize) -> u64 {
    let hash = Digest::of(format!("{push} {request}").as_bytes()).hex();
    u64::from_str_radix(&hash[..16], 16).expect("hexadecimal")
}

/// What happens to a request of a push; with a name where that is a fault.
fn fault(push: usize, number: usize, request: &Request) -> (Option<&'static str>, Fault) {
    let drawn = chance(push, number);
    if !drawn.is_multiple_of(CHANCE) {
        return (None, Fault::None);
    }
    let is_put = request.method == "PUT";
    let wrong = format!("sha256:{}", "0".repeat(64));
    let target = format!("{}{}{}", request.path, if request.query.is_empty() { "" } else { "?" }, request.query);
    let (name, fault) = match drawn / CHANCE % 14 {
        0 => ("reset", Fault::Reset),
        1 => ("answer lost", Fault::LoseAnswer),
        2 => ("answer cut off", Fault::CutAnswer(10)),
        3 => ("request cut off", Fault::CutRequest(5000)),
        4 => ("stall of the request", Fault::StallRequest),
        5 => ("stall of the answer", Fault::StallAnswer(0)),
        6 => ("429", Fault::with_header(429, "Retry-After", "1", "")),
        7 => ("500", Fault::status(500, "")),
        8 => ("503", Fault::status(503, "busy")),
        9 => ("redirect to itself", Fault::with_header(307, "Location", &target, "")),
        10 => ("wrong length", Fault::Append(b"more than was announced".to_vec())),
        11 => ("no `Location`", Fault::WithoutHeader("location")),
        12 if is_put => ("wrong digest", Fault::with_header(201, "Docker-Content-Digest", &wrong, "")),
        13 if is_put => ("403", Fault::status(403, r#"{"errors":[{"code":"DENIED","message":"not now"}]}"#)),
        _ => ("502", Fault::status(502, "<html>")),
    };
    (Some(name), fault)
}

/// An image of ten layers, and another one that stands under some of the tags before.
fn site() -> Site {
    let site = Site::new();
    let mut dockerfile = "FROM scratch\n".to_owned();
    for number in 0..LAYERS {
        site.file(&format!("file-{number}"), noise(60_000 + 7000 * number, number as u64));
        dockerfile.push_str(&format!("COPY file-{number} /\n"));
    }
    site.dockerfile(&dockerfile);
    site
}

/// `scripts/campaign.sh pushes`.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    let Some(registry) = Registry::open() else { return };
    let scene = Scene::around(site());
    let store = scene.site.store();
    let old = scene.good(&["--push", "--tag", &format!("{}/old:1", registry.host()), "--label", "old=yes"]);
    let digest = scene.good(&[]);
    let count = if is_short() { 20 } else { 500 };
    let numbers: Vec<usize> = (0..count).collect();
    let (pushed, refused, requests) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let met: Mutex<BTreeMap<&'static str, usize>> = Mutex::default();
    at_once(&numbers, 6, |push| {
        let repository = format!("app-{push}");
        // What a failing push must not change: an older image, or that there is none.
        let before = push.is_multiple_of(3).then(|| {
            let name = |host: &str, name: &str| format!("docker://{host}/{name}:1");
            let host = registry.host();
            registry.skopeo(&["copy", &name(&host, "old"), &name(&host, &repository)]).expect("skopeo").success();
            old.clone()
        });
        let proxy = FaultProxy::start(Some(registry.port()), {
            let push = *push;
            move |request, number| fault(push, number, request).1
        });
        let tag = format!("{}/{repository}:1", proxy.host());
        let built = scene.program_in(&store, &["--push", "--tag", &tag, "--registry-timeout", "1"]).run();
        let all = proxy.requests();
        requests.fetch_add(all.len(), Ordering::Relaxed);
        for name in all.iter().enumerate().filter_map(|(number, request)| fault(*push, number, request).0) {
            *met.lock().expect("no panic inside").entry(name).or_default() += 1;
        }
        let is_there = || {
            let listed = registry.tags(&repository).expect("skopeo");
            (!listed.is_empty()).then(|| registry.digest(&format!("{repository}:1")).expect("skopeo"))
        };
        if built.code == 0 {
            assert_eq!(built.digest(), digest, "{push}");
            assert_eq!(is_there(), Some(digest.clone()), "{push}");
            // Every byte of it, with digests checked by another tool.
            let copy = tempfile::tempdir().expect("a temporary directory");
            let to = format!("dir:{}", copy.path().join("image").display());
            registry
                .skopeo(&["copy", &format!("docker://{}/{repository}:1", registry.host()), &to])
                .expect("skopeo")
                .success();
            let files = fs::read_dir(copy.path().join("image")).expect("copied").count();
            assert_eq!(files, LAYERS + 3, "ten layers, a configuration, a manifest, a version");
            pushed.fetch_add(1, Ordering::Relaxed);
        } else {
            ends_well(&built, &[&proxy.host()]);
            assert_eq!(is_there(), before, "{push}: a tag was moved\n{}", built.stderr);
            refused.fetch_add(1, Ordering::Relaxed);
        }
    });
    scene.nothing_left(&store);
    let (pushed, refused) = (pushed.into_inner(), refused.into_inner());
    let met = met.into_inner().expect("no panic inside");
    let faults: usize = met.values().sum();
    let requests = requests.into_inner();
    assert_eq!(pushed + refused, count);
    assert!(pushed * 10 >= count * 6, "{pushed} of {count} were pushed, {refused} refused");
    assert!(faults * 20 > requests, "{faults} faults in {requests} requests");
    let kinds: Vec<String> = met.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let text = format!(
        "Pushes: {count} of an image of {LAYERS} layers, each into a repository of its own; {faults} of {requests} requests failed \
         ({}). {pushed} images are there, and were copied by skopeo with every digest checked; {refused} pushes ended with one \
         error that names the registry, and left the tag as it was.\n",
        kinds.join(", ")
    );
    report("pushes", &text);
}
