//! Layer caches elsewhere: what another machine finds in a registry, a directory, a bucket or an image, and what it does not believe.

mod bucket;

use std::{fs, path::Path};

use cofferdam_tests::{
    Finished, Program, Registry, Site, base,
    fault_proxy::{Fault, FaultProxy, Request},
    noise,
};
use serde_json::Value;

/// A context with two stages, and a registry with a password that has the base.
struct Scene {
    site: Site,
    registry: Registry,
}

const STEPS: usize = 5;

impl Scene {
    fn new() -> Option<Self> {
        let registry = Registry::with_password()?;
        registry.load(&base("alpine")?, "latest", "library/alpine:latest")?;
        let site = Site::new();
        let alpine = format!("{}/library/alpine:latest", registry.host());
        site.file("file", "content\n").dockerfile(&format!(
            "FROM {alpine} AS builder
COPY file /source
ARG UNUSED
RUN cat /source /source > /built
FROM {alpine}
COPY --from=builder /built /app
COPY file /file
RUN echo done > /done
"
        ));
        Some(Self { site, registry })
    }

    fn with(&self, program: Program) -> Finished {
        program.env("DOCKER_CONFIG", self.registry.docker_config()).run()
    }

    /// A build by a machine that has never built anything.
    fn build_anew(&self, arguments: &[&str]) -> Finished {
        let _ = fs::remove_dir_all(self.site.store());
        self.with(self.site.program(arguments))
    }

    fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    fn cache(&self, name: &str, mode: &str) -> String {
        format!("type=registry,ref={},mode={mode}", self.reference(name))
    }

    fn layers(&self, name: &str) -> Vec<String> {
        let manifest = self.registry.manifest(name).expect("pushed");
        let digest = |layer: &Value| layer["digest"].as_str().expect("a digest").to_owned();
        manifest["layers"].as_array().expect("layers").iter().map(digest).collect()
    }

    fn has_blob(&self, digest: &str) -> bool {
        self.site.store().join("blobs").join(digest.replace(':', "/")).exists()
    }
}

fn cached(built: &Finished) -> usize {
    built.stderr.lines().filter(|line| line.ends_with(" CACHED")).count()
}

/// What an image is, wherever it was built.
fn outputs(place: &Path) -> [String; 2] {
    ["-o".to_owned(), format!("type=oci,dest={},tar=false", place.display())]
}

#[test]
fn another_machine_makes_nothing_again_and_fetches_nothing() {
    let Some(scene) = Scene::new() else { return };
    let (to, from) = (scene.cache("cache:main", "max"), scene.cache("cache:main", "min"));
    let first = scene.build_anew(&["--cache-to", &to, "--push", "-t", &scene.reference("app:1")]).success();
    assert_eq!(cached(&first), 0, "{}", first.stderr);
    let second = scene.build_anew(&["--cache-from", &from, "--push", "-t", &scene.reference("other:2")]).success();
    assert_eq!(second.digest(), first.digest());
    assert_eq!(cached(&second), STEPS - 2, "{}", second.stderr);
    for layer in scene.layers("other:2") {
        assert!(!scene.has_blob(&layer), "{layer} was fetched: {}", second.stderr);
    }
    // An argument that nothing uses is nothing; a file that has changed is.
    let unused = scene.build_anew(&["--cache-from", &from, "--build-arg", "UNUSED=x", "-t", "x"]).success();
    assert_eq!(unused.digest(), first.digest());
    scene.site.file("file", "changed\n");
    let changed = scene.build_anew(&["--cache-from", &from, "-t", "x"]).success();
    let without = scene.build_anew(&["-t", "x"]).success();
    assert_eq!(changed.digest(), without.digest());
    assert_ne!(changed.digest(), first.digest());
}

#[test]
fn a_small_cache_has_the_layers_of_the_image_alone() {
    let Some(scene) = Scene::new() else { return };
    let image = scene.reference("app:1");
    scene.build_anew(&["--cache-to", &scene.cache("small", "min"), "--push", "-t", &image]).success();
    let small = scene.layers("small");
    let own: Vec<String> = scene.layers("app:1").split_off(1);
    assert!(small.iter().all(|layer| own.contains(layer)), "{small:?} {own:?}");
    let again = scene.build_anew(&["--cache-from", &scene.reference("small"), "--push", "-t", &image]).success();
    assert_eq!(cached(&again), 3, "{}", again.stderr);
    // Another build adds to the cache, and takes nothing away.
    scene.site.file("file", "changed\n");
    scene.build_anew(&["--cache-to", &scene.cache("small", "max"), "-t", "x"]).success();
    assert!(scene.layers("small").len() > small.len());
    assert!(small.iter().all(|layer| scene.layers("small").contains(layer)));
}

#[test]
fn what_is_damaged_is_made_again() {
    let Some(scene) = Scene::new() else { return };
    let (to, from) = (scene.cache("cache:main", "max"), scene.reference("cache:main"));
    let image = scene.reference("app:1");
    let right = scene.build_anew(&["--cache-to", &to, "--push", "-t", &image]).success().digest();
    let place = scene.site.path().join("image");
    let build = |what: &str| {
        let _ = fs::remove_dir_all(&place);
        let [flag, output] = outputs(&place);
        let built = scene.build_anew(&["--cache-from", &from, &flag, &output]);
        assert_eq!(built.code, 0, "{what}: {}", built.stderr);
        assert_eq!(built.digest(), right, "{what}");
        built
    };
    assert!(!build("nothing").stderr.contains("warning"));
    let layer = scene.layers("app:1").pop().expect("layers");
    let file = scene.registry.blob_file(&layer);
    let bytes = fs::read(&file).expect("the registry's");
    let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    for (what, damage) in [("shorter", &bytes[..bytes.len() / 2]), ("other bytes", &other), ("nothing", &[])] {
        fs::write(&file, damage).expect("ours");
        let built = build(what);
        assert!(built.stderr.contains("begins again without it"), "{what}: {}", built.stderr);
    }
    fs::remove_file(&file).expect("ours");
    assert!(build("gone").stderr.contains("begins again without it"));
    fs::write(&file, &bytes).expect("ours");
    // The document itself.
    let document = scene.registry.manifest("cache:main").expect("written")["config"]["digest"].clone();
    let file = scene.registry.blob_file(document.as_str().expect("a digest"));
    fs::write(&file, "{}").expect("ours");
    assert!(build("no document").stderr.contains("is not used"));
}

#[test]
fn what_is_no_cache_is_told_and_fails_nothing() {
    let Some(scene) = Scene::new() else { return };
    let right = scene.build_anew(&["-t", "x"]).success().digest();
    let image = scene.reference("library/alpine:latest");
    let built = scene.build_anew(&["--cache-from", &image, "-t", "x"]).success();
    assert!(built.stderr.contains("is no cache of ours"), "{}", built.stderr);
    let missing = scene.build_anew(&["--cache-from", &scene.reference("nothing:here"), "-t", "x"]).success();
    assert!(!missing.stderr.contains("warning"), "{}", missing.stderr);
    let proxy = FaultProxy::start(None, |_, _| Fault::status(403, "no"));
    let reference = format!("type=registry,ref={}/cache:x", proxy.host());
    let refused = scene.build_anew(&["--cache-from", &reference, "--cache-to", &reference, "-t", "x"]).success();
    assert!(refused.stderr.contains("is not used") && refused.stderr.contains("was not written"), "{}", refused.stderr);
    for digest in [built.digest(), missing.digest(), refused.digest()] {
        assert_eq!(digest, right);
    }
}

#[test]
fn kanikos_flags_lead_to_a_cache_beside_the_image() {
    let Some(scene) = Scene::new() else { return };
    let image = scene.reference("team/app:1");
    let build = |arguments: &[&str]| {
        let _ = fs::remove_dir_all(scene.site.store());
        scene.with(
            scene.site.executor(&[&["--context", "context"], arguments].concat()).env("BUILDKIT_PROGRESS", "plain"),
        )
    };
    let first = build(&["--cache=true", "--no-push-cache", "-d", &image]).success();
    assert_eq!(scene.registry.tags("team/app/cache").expect("skopeo"), Vec::<String>::new());
    build(&["--cache=true", "--cache-ttl=6h", "-d", &image]).success();
    assert_eq!(scene.registry.tags("team/app/cache").expect("skopeo"), ["cofferdam"]);
    let second = build(&["--cache", "--cache-copy-layers", "-d", &image]).success();
    assert_eq!((second.digest(), cached(&second)), (first.digest(), STEPS - 2), "{}", second.stderr);
    let repository = scene.reference("caches/all");
    build(&["--cache", "--cache-repo", &repository, "-d", &image]).success();
    let third = build(&["--cache", "--cache-repo", &repository, "--no-push"]).success();
    assert!(cached(&third) >= 3, "{}", third.stderr);
    // Too old.
    let old = build(&["--cache", "--cache-ttl=0s", "--cache-repo", &repository, "--no-push"]).success();
    assert_eq!(cached(&old), 0, "{}", old.stderr);
    assert_eq!(build(&["--cache", "--no-push"]).code, 2);
    // A directory.
    let directory = format!("oci:{}", scene.site.path().join("cache").display());
    let into = build(&["--cache", "--cache-repo", &directory, "--no-push"]).success();
    assert_eq!(cached(&into), 0, "{}", into.stderr);
    let from = build(&["--cache", "--cache-repo", &directory, "-d", &image]).success();
    assert_eq!((from.digest(), cached(&from)), (first.digest(), STEPS - 2), "{}", from.stderr);
    assert_eq!(build(&["--cache", "--cache-repo=oci:", "-d", &image]).code, 2);
}

#[test]
fn no_layer_is_sent_twice_to_a_registry() {
    let Some(registry) = Registry::open() else { return };
    let site = Site::new();
    site.file("one", noise(300_000, 1)).file("two", noise(200_000, 2)).dockerfile(
        "FROM scratch AS parts\nCOPY two /part\nFROM scratch\nCOPY one /one\nCOPY --from=parts /part /two\n",
    );
    let proxy = FaultProxy::start(Some(registry.port()), |_, _| Fault::None);
    let cache = format!("type=registry,ref={}/cache,mode=max", proxy.host());
    let image = format!("{}/app:1", proxy.host());
    site.build(&["--cache-to", &cache, "--push", "-t", &image]).success();
    let requests = proxy.requests();
    let length = |request: &Request| -> usize {
        request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or_default()
    };
    let sent: usize = requests.iter().map(length).sum();
    let kept = registry.manifest("cache").expect("written")["layers"].as_array().expect("layers").len();
    let lines: Vec<String> =
        requests.iter().map(|request| format!("{} {} {}", request.method, request.path, length(request))).collect();
    // Two layers of the image, and the one that no image has.
    assert!(kept == 3 && (700_000..750_000).contains(&sent), "{kept} layers, {sent} bytes: {lines:#?}");
}

#[test]
fn a_directory_has_what_another_machine_needs() {
    let Some(scene) = Scene::new() else { return };
    let directory = scene.site.path().join("cache");
    let (to, from) = (
        format!("type=local,dest={},mode=max", directory.display()),
        format!("type=local,src={}", directory.display()),
    );
    let nothing = scene.build_anew(&["--cache-from", &from, "-t", "x"]).success();
    assert!(!nothing.stderr.contains("warning"), "{}", nothing.stderr);
    let first = scene.build_anew(&["--cache-to", &to, "--push", "-t", &scene.reference("app:1")]).success();
    assert_eq!(first.digest(), nothing.digest());
    let second = scene.build_anew(&["--cache-from", &from, "--push", "-t", &scene.reference("app:2")]).success();
    assert_eq!((second.digest(), cached(&second)), (first.digest(), STEPS - 2), "{}", second.stderr);
    for layer in scene.layers("app:2") {
        assert!(!scene.has_blob(&layer), "{layer} was fetched: {}", second.stderr);
    }
    // Beside the other tag, and with what it has.
    let other = format!("type=local,dest={},tag=other", directory.display());
    scene.build_anew(&["--cache-from", &from, "--cache-to", &other, "-t", "x"]).success();
    let index: Value = serde_json::from_slice(&fs::read(directory.join("index.json")).expect("written")).expect("JSON");
    assert_eq!(index["manifests"].as_array().expect("manifests").len(), 2);
    // What is broken is told and made again.
    let build = |what: &str| {
        let built = scene.build_anew(&["--cache-from", &from, "-t", "x"]);
        assert_eq!(built.code, 0, "{what}: {}", built.stderr);
        assert_eq!(built.digest(), first.digest(), "{what}");
        built
    };
    let layer = scene.layers("app:1").pop().expect("layers");
    let file = directory.join("blobs").join(layer.replace(':', "/"));
    let bytes = fs::read(&file).expect("the cache's");
    let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    for (what, damage) in [("shorter", &bytes[..bytes.len() / 2]), ("other bytes", &other), ("nothing", &[])] {
        fs::write(&file, damage).expect("ours");
        let built = build(what);
        assert!(built.stderr.contains("begins again without it"), "{what}: {}", built.stderr);
    }
    fs::write(&file, &bytes).expect("ours");
    fs::write(directory.join("index.json"), "[]").expect("ours");
    assert!(build("no index").stderr.contains("is not used"));
    // A build that can't write its cache is a build.
    let nowhere = format!("type=local,dest={}/file", scene.site.context().join("file").display());
    let unwritten = scene.build_anew(&["--cache-to", &nowhere, "-t", "x"]).success();
    assert!(unwritten.stderr.contains("was not written"), "{}", unwritten.stderr);
}

#[test]
fn an_image_is_its_own_cache() {
    let Some(scene) = Scene::new() else { return };
    let (image, other) = (scene.reference("app:1"), scene.reference("app:2"));
    let plain = scene.build_anew(&["--push", "-t", &scene.reference("app:plain")]).success();
    let first = scene.build_anew(&["--cache-to", "type=inline", "--push", "-t", &image]).success();
    assert_ne!(first.digest(), plain.digest());
    // Nothing is made again, not even in the stage whose layers no image has; and the image is the same, cache and all.
    let again = ["--cache-from", &image, "--build-arg", "BUILDKIT_INLINE_CACHE=1", "--push", "-t", &other];
    let second = scene.build_anew(&again).success();
    assert_eq!((second.digest(), cached(&second)), (first.digest(), STEPS - 2), "{}", second.stderr);
    for layer in scene.layers("app:2") {
        assert!(!scene.has_blob(&layer), "{layer} was fetched: {}", second.stderr);
    }
    // On a machine that has all of it, too.
    let warm = scene.with(scene.site.program(&["--cache-to", "type=inline", "--push", "-t", &other])).success();
    assert_eq!(warm.digest(), first.digest());
    // A cache is the image's own business: what is built on it says nothing of it.
    scene.site.dockerfile(&format!("FROM {image}\nRUN echo more > /more\n"));
    scene.build_anew(&["--push", "-t", &scene.reference("app:3")]).success();
    let config = |name: &str| {
        let digest = scene.registry.manifest(name).expect("pushed")["config"]["digest"].clone();
        fs::read_to_string(scene.registry.blob_file(digest.as_str().expect("a digest"))).expect("the registry's")
    };
    assert!(config("app:1").contains("cofferdam.cache") && !config("app:3").contains("cofferdam.cache"));
    let none = scene.build_anew(&["--cache-from", &scene.reference("app:3"), "-t", "x"]).success();
    assert!(none.stderr.contains("is an image without a cache in it"), "{}", none.stderr);
}

/// Puts another configuration into the one image of a layout.
fn rewrite(directory: &Path, change: impl Fn(&Value, &mut Value)) {
    let read = |digest: &Value| -> Value {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        serde_json::from_slice(&fs::read(directory.join("blobs").join(digest)).expect("a blob")).expect("JSON")
    };
    let put = |document: &Value, descriptor: &mut Value| {
        let bytes = serde_json::to_vec(document).expect("JSON");
        let digest = cofferdam_digest::Digest::of(&bytes);
        fs::write(directory.join("blobs/sha256").join(digest.hex()), &bytes).expect("ours");
        (descriptor["digest"], descriptor["size"]) = (digest.to_string().into(), bytes.len().into());
    };
    let index_path = directory.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&index_path).expect("written")).expect("JSON");
    let mut manifest = read(&index["manifests"][0]["digest"]);
    let mut config = read(&manifest["config"]["digest"]);
    change(&manifest, &mut config);
    put(&config, &mut manifest["config"]);
    put(&manifest, &mut index["manifests"][0]);
    fs::write(&index_path, serde_json::to_vec(&index).expect("JSON")).expect("ours");
}

#[test]
fn a_layer_of_another_media_type_than_the_cache_says_is_not_used() {
    let Some(scene) = Scene::new() else { return };
    let directory = scene.site.path().join("cache");
    let to = format!("type=local,dest={},mode=max", directory.display());
    let first = scene.build_anew(&["--cache-to", &to, "-t", "x"]).success();
    rewrite(&directory, |_, document| {
        for record in document["records"].as_object_mut().expect("records").values_mut() {
            if let Some(layer) = record["entry"]["layer"].as_object_mut() {
                layer.insert("compression".to_owned(), "zstd".into());
            }
        }
    });
    let from = format!("type=local,src={}", directory.display());
    let built = scene.build_anew(&["--cache-from", &from, "-t", "x"]).success();
    assert!(built.stderr.contains("names a layer otherwise"), "{}", built.stderr);
    assert_eq!((built.digest(), cached(&built)), (first.digest(), 0));
}

#[test]
fn every_platform_of_an_index_is_its_own_cache() {
    let Some(scene) = Scene::new() else { return };
    scene.site.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n");
    let image = scene.reference("app:1");
    let arguments = ["--platform", "linux/amd64,linux/arm64", "--push", "-t", &image, "--cache-to", "type=inline"];
    let first = scene.build_anew(&arguments).success();
    let second = scene.build_anew(&[&arguments[..], &["--cache-from", &image]].concat()).success();
    assert_eq!((second.digest(), cached(&second)), (first.digest(), 2), "{}", second.stderr);
}

#[test]
fn a_cache_in_an_image_names_nothing_that_the_image_does_not_have() {
    let Some(scene) = Scene::new() else { return };
    let directory = scene.site.path().join("image");
    let output = format!("type=oci,dest={},tar=false", directory.display());
    let first = scene.build_anew(&["--cache-to", "type=inline", "-t", "app:1", "-o", &output]).success();
    // The last two layers change places in what the cache says: both are there, and neither is what the other one is.
    rewrite(&directory, |manifest, config| {
        let layers = manifest["layers"].as_array().expect("layers");
        let (last, before) = (layers[layers.len() - 1]["digest"].clone(), layers[layers.len() - 2]["digest"].clone());
        for record in config["cofferdam.cache.v1"]["records"].as_object_mut().expect("records").values_mut() {
            let digest = &mut record["entry"]["layer"]["digest"];
            *digest = if *digest == last { before.clone() } else { last.clone() };
        }
    });
    let from = format!("type=local,src={},tag=1", directory.display());
    let built = scene.build_anew(&["--cache-from", &from, "--cache-to", "type=inline", "-t", "x"]).success();
    assert!(built.stderr.contains("a layer that the image does not have"), "{}", built.stderr);
    assert_eq!(built.digest(), first.digest());
}
