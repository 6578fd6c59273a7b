//! `warmer`: base images that are fetched ahead, and builds that use them.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use cofferdam_tests::{
    Finished, Program, Registry, Site, base, binary,
    fault_proxy::{Fault, FaultProxy},
};

struct Scene {
    site: Site,
    registry: Registry,
    /// Sees what is asked of it.
    proxy: FaultProxy,
    /// The base, as the Dockerfile names it.
    alpine: String,
}

impl Scene {
    fn new() -> Option<Self> {
        let registry = Registry::open()?;
        registry.load(&base("alpine")?, "latest", "library/alpine:3")?;
        let site = Site::new();
        let proxy = FaultProxy::start(Some(registry.port()), |_, _| Fault::None);
        let alpine = format!("{}/library/alpine:3", proxy.host());
        site.dockerfile("ARG BASE\nFROM $BASE AS builder\nRUN echo built > /built\nFROM $BASE\nCOPY --from=builder /built /\nRUN cat /built\n");
        Some(Self { site, registry, proxy, alpine })
    }

    fn cache(&self) -> PathBuf {
        self.site.path().join("bases")
    }

    fn warmer(&self, arguments: &[&str]) -> Finished {
        let name = self.site.path().join("warmer");
        if !name.exists() {
            symlink(binary(), &name).expect("writable");
        }
        let program = Program::called(&name, &self.site.path().join("warm-store")).args(["--cache-dir", "bases"]);
        self.with(program.args(arguments).current_dir(self.site.path()))
    }

    fn with(&self, program: Program) -> Finished {
        program.env("BUILDKIT_PROGRESS", "plain").run()
    }

    /// A build by a machine that has never built anything, and how many blobs it asked for.
    fn build(&self, arguments: &[&str]) -> (Finished, usize) {
        let _ = fs::remove_dir_all(self.site.store());
        let argument = format!("BASE={}", self.alpine);
        let common = ["--context", "context", "--build-arg", &argument, "--no-push", "--no-push-cache"];
        let before = self.blobs_asked_for();
        let built = self.with(self.site.executor(&[&common, arguments].concat())).success();
        (built, self.blobs_asked_for() - before)
    }

    /// Blobs that were asked for. Configurations are blobs as well.
    fn blobs_asked_for(&self) -> usize {
        self.proxy
            .requests()
            .iter()
            .filter(|request| request.method == "GET" && request.path.contains("/blobs/"))
            .count()
    }

    fn layouts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache()).into_iter().flatten();
        entries.map(|entry| entry.expect("readable").path()).collect()
    }
}

#[test]
fn a_build_pulls_no_base_that_was_fetched_ahead() {
    let Some(scene) = Scene::new() else { return };
    let (right, sent) = scene.build(&[]);
    assert!(sent > 0);
    let warmed = scene.warmer(&["--image", &scene.alpine]).success();
    let [layout] = &scene.layouts()[..] else { panic!("{:?}", scene.layouts()) };
    let digest = layout.file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(warmed.stdout, format!("{}@{digest}\n", scene.alpine));
    // As Kaniko's warmer leaves it, and other tools read it.
    let index = cofferdam_tests::read_json(&layout.join("index.json"));
    assert_eq!(index["manifests"][0]["digest"], digest);
    let cached = ["--cache", "--cache-dir", "bases"];
    let (built, sent) = scene.build(&cached);
    assert_eq!((built.digest(), sent), (right.digest(), 0), "{}", built.stderr);
    // Without `--cache` it is not looked at, and what is too old is not used.
    assert!(scene.build(&["--cache-dir", "bases"]).1 > 0);
    assert!(scene.build(&["--cache", "--cache-dir", "bases", "--cache-ttl", "0s"]).1 > 0);
    // It is there, unless it is to be fetched again.
    let again = scene.warmer(&["--image", &scene.alpine]).success();
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    for arguments in [&["-f"][..], &["--force"], &["--cache-ttl=0s"]] {
        let forced = scene.warmer(&[&["-i", &scene.alpine], arguments].concat()).success();
        assert!(forced.stderr.contains("fetched to"), "{}", forced.stderr);
    }
    // What is damaged comes from the registry, with a warning, and is mended the next time.
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("there");
    let layer =
        blobs.map(|blob| blob.expect("readable").path()).max_by_key(|path| path.metadata().expect("there").len());
    let layer = layer.expect("blobs");
    let mut bytes = fs::read(&layer).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, &bytes).expect("ours");
    let (built, sent) = scene.build(&cached);
    assert!(built.stderr.contains("the cached base image") && sent > 0, "{}", built.stderr);
    assert_eq!(built.digest(), right.digest());
    scene.warmer(&["-f", "-i", &scene.alpine]).success();
    assert_eq!(scene.build(&cached).1, 0);
    fs::write(layout.join("index.json"), "[]").expect("ours");
    assert_eq!(scene.build(&cached).0.digest(), right.digest());
}

#[test]
fn the_images_of_a_dockerfile_are_fetched() {
    let Some(scene) = Scene::new() else { return };
    let argument = format!("BASE={}", scene.alpine);
    let warmed = scene.warmer(&["--dockerfile", "context/Dockerfile", "--build-arg", &argument]).success();
    assert!(warmed.stdout.starts_with(&scene.alpine), "{}", warmed.stdout);
    assert_eq!(scene.layouts().len(), 1);
    assert_eq!(scene.build(&["--cache", "--cache-dir", "bases"]).1, 0);
    let missing = format!("{}/no/such:image", scene.registry.host());
    let failed = scene.warmer(&["--image", &missing]);
    assert!(failed.code == 1 && failed.stderr.contains("no/such:image"), "{}", failed.stderr);
    assert_eq!(scene.warmer(&[]).code, 2);
}
