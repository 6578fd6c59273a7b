//! Indexes of images that separate builders pushed, annotations at every place, and the forms that images are pushed in.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use cofferdam_tests::{
    Finished, Job, Program, Registry, Site, binary,
    fault_proxy::{Fault, FaultProxy},
    repository_root, run,
};
use serde_json::{Value, json};

/// An image with one file, on a base that has both platforms.
fn site() -> Option<Site> {
    let site = Site::with_base("platforms")?;
    site.dockerfile("FROM base\nCOPY Dockerfile /made\n");
    Some(site)
}

fn index(site: &Site, registry: &Registry, arguments: &[&str]) -> Finished {
    let program = Program::new(&site.store()).args(["index", "create", "--progress", "quiet"]).args(arguments);
    program.env("DOCKER_CONFIG", registry.docker_config()).current_dir(site.path()).run()
}

fn build(site: &Site, registry: &Registry, arguments: &[&str]) -> Finished {
    site.program(arguments).env("DOCKER_CONFIG", registry.docker_config()).run()
}

/// Pushes one platform by digest alone, and answers the digest.
fn pushed_by_digest(site: &Site, registry: &Registry, repository: &str, platform: &str) -> String {
    let output =
        format!("type=image,name={}/{repository},push-by-digest=true,name-canonical=true,push=true", registry.host());
    build(site, registry, &["--platform", platform, "--output", &output]).success().digest()
}

fn entries(index: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = index["manifests"].as_array().expect("an index").iter();
    entries.map(|entry| (text(&entry["platform"]["architecture"]), text(&entry["digest"]))).collect()
}

#[test]
fn images_that_were_pushed_by_digest_are_joined_without_a_layer_being_sent() {
    let (Some(site), Some(registry)) = (site(), Registry::with_password()) else { return };
    let repository = format!("{}/team/app", registry.host());
    let one = pushed_by_digest(&site, &registry, "team/app", "linux/amd64");
    let two = pushed_by_digest(&site, &registry, "team/app", "linux/arm64");
    assert_eq!(registry.tags("team/app").expect("skopeo"), Vec::<String>::new());
    let proxy = FaultProxy::start(Some(registry.port()), |_, _| Fault::None);
    let through = |name: &str| format!("{}/team/app{name}", proxy.host());
    let config = registry.docker_config();
    let text = fs::read_to_string(config.join("config.json")).expect("there").replace(&registry.host(), &proxy.host());
    fs::write(config.join("config.json"), text).expect("writable");
    let program = Program::new(&site.store()).args(["index", "create", "--insecure-registry", &proxy.host()]);
    let arguments = ["-t", &through(":1"), "-t", &through(":2"), &through(&format!("@{one}")), &two];
    let made = program.args(arguments).env("DOCKER_CONFIG", config).current_dir(site.path()).run().success();
    let index = registry.manifest("team/app:1").expect("an index");
    assert_eq!(entries(&index), [("amd64".to_owned(), one), ("arm64".to_owned(), two)]);
    assert_eq!(
        [registry.digest("team/app:2"), registry.digest("team/app:1")],
        [Some(made.digest()), Some(made.digest())]
    );
    assert!(proxy.requests().iter().all(|request| !request.path.contains("/blobs/uploads")), "no blob is sent");
    assert!(made.stderr.contains(&format!("pushed {}@{}", through(":1"), made.digest())), "{}", made.stderr);
    // Each can be had from there.
    let Some(tool) = cofferdam_tests::tool("skopeo") else { return };
    let (user, password) = registry.credentials().expect("it has a password");
    for architecture in ["amd64", "arm64"] {
        let mut skopeo = Command::new(&tool);
        skopeo.args(["--override-arch", architecture, "inspect", "--config", "--tls-verify=false"]);
        skopeo.arg(format!("--creds={user}:{password}")).arg(format!("docker://{repository}:1"));
        let config: Value = serde_json::from_str(&run(&mut skopeo).success().stdout).expect("JSON");
        assert_eq!(config["architecture"], architecture);
    }
}

#[test]
fn an_index_takes_images_of_other_repositories_and_registries_along() {
    let (Some(site), Some(registry), Some(elsewhere)) = (site(), Registry::with_password(), Registry::open()) else {
        return;
    };
    pushed_by_digest(&site, &registry, "one", "linux/amd64");
    let names = [format!("{}/one:x", registry.host()), format!("{}/two:x", registry.host())];
    for (name, platform) in names.iter().zip(["linux/amd64", "linux/arm64"]) {
        build(&site, &registry, &["--platform", platform, "--push", "-t", name]).success();
    }
    for target in [format!("{}/both:1", registry.host()), format!("{}/both:1", elsewhere.host())] {
        index(&site, &registry, &["-t", &target, &names[0], &names[1]]).success();
    }
    let made = [registry.manifest("both:1"), elsewhere.manifest("both:1")].map(|index| index.expect("an index"));
    assert_eq!(made[0], made[1]);
    // All of it is there: skopeo copies the whole index.
    let source = format!("docker://{}/both:1", elsewhere.host());
    let target = format!("dir:{}", site.path().join("copy").display());
    elsewhere.skopeo(&["copy", "--all", &source, &target]).expect("skopeo").success();
}

#[test]
fn what_an_index_has_may_stay_and_one_platform_has_one_image() {
    let (Some(site), Some(registry)) = (site(), Registry::with_password()) else { return };
    let name = format!("{}/app:1", registry.host());
    let one = pushed_by_digest(&site, &registry, "app", "linux/amd64");
    let two = pushed_by_digest(&site, &registry, "app", "linux/arm64");
    site.file("Dockerfile", "FROM base\nCOPY Dockerfile /another\n");
    let newer = pushed_by_digest(&site, &registry, "app", "linux/arm64");
    let refused = index(&site, &registry, &["-t", &name, &one, &two, &newer]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains(&format!("{two} and {newer} are both for linux/arm64")), "{}", refused.stderr);
    assert_eq!(registry.tags("app").expect("skopeo"), Vec::<String>::new());
    index(&site, &registry, &["-t", &name, &one, &two]).success();
    // The same again is the same; only a look changes nothing.
    let dry = index(&site, &registry, &["-t", &name, "--dry-run", "--annotation", "a=b", &one]).success();
    let printed: Value = serde_json::from_str(&dry.stdout).expect("JSON");
    assert_eq!((entries(&printed).len(), &printed["annotations"]), (1, &json!({"a": "b"})));
    assert_eq!(entries(&registry.manifest("app:1").expect("an index")).len(), 2);
    let arguments = ["-t", &name, "--append", "--annotation", "manifest-descriptor[linux/arm64]:new=yes", &newer];
    index(&site, &registry, &arguments).success();
    let made = registry.manifest("app:1").expect("an index");
    assert_eq!(entries(&made), [("amd64".to_owned(), one), ("arm64".to_owned(), newer)]);
    assert_eq!(made["manifests"][1]["annotations"], json!({"new": "yes"}));
    assert_eq!(made["manifests"][0]["annotations"], Value::Null);
}

#[test]
fn a_push_by_digest_has_no_tag() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    for (arguments, said) in [
        (&["--output", "type=image,name=reg.example/a:1,push-by-digest=true,push=true"][..], "reg.example/a:1"),
        (&["--output", "type=image,name=reg.example/a,push-by-digest=true"], "push=true"),
        (&["--output", "type=registry,name=reg.example/a,push-by-digest=true", "--tag-policy", "git"], "--tag-policy"),
    ] {
        let built = site.build(arguments);
        assert_eq!((built.code, built.stderr.contains(said)), (2, true), "{}", built.stderr);
    }
}

#[test]
fn annotations_stand_where_they_were_put() {
    let Some(site) = site() else { return };
    let layout = site.path().join("layout");
    let annotated = "type=oci,dest=layout,tar=false,annotation.plain=1,annotation-index-descriptor.beside=2";
    let given = ["manifest[linux/arm64]:only=arm", "index,manifest-descriptor:two=places", "manifest:plain=over"];
    let mut arguments = vec!["--platform", "linux/amd64,linux/arm64", "-o", annotated, "--metadata-file", "metadata"];
    given.iter().for_each(|text| arguments.extend(["--annotation", text]));
    site.build(&arguments).success();
    let read = |digest: &Value| -> Value {
        let blob = layout.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"));
        serde_json::from_slice(&fs::read(blob).expect("there")).expect("JSON")
    };
    let root: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).expect("there")).expect("JSON");
    assert_eq!(root["manifests"][0]["annotations"], json!({"beside": "2"}));
    let index = read(&root["manifests"][0]["digest"]);
    assert_eq!(index["annotations"], json!({"two": "places"}));
    let at = |number: usize| (&index["manifests"][number]["annotations"], read(&index["manifests"][number]["digest"]));
    for (number, annotations) in [(0, json!({"plain": "1"})), (1, json!({"plain": "1", "only": "arm"}))] {
        let (of_descriptor, manifest) = at(number);
        assert_eq!((of_descriptor, &manifest["annotations"]), (&json!({"two": "places"}), &annotations));
    }
    let metadata: Value =
        serde_json::from_slice(&fs::read(site.path().join("metadata")).expect("there")).expect("JSON");
    assert_eq!(metadata["containerimage.descriptor"]["annotations"], json!({"beside": "2"}));
    for (arguments, said) in [
        (["--annotation", "index:a=b", "--platform", "linux/amd64"], "no index"),
        (["--annotation", "manifest[linux/s390x]:a=b", "--platform", "linux/amd64"], "linux/s390x"),
        (["--annotation", "a=b", "--image-format", "docker"], "OCI"),
    ] {
        let built = site.build(&arguments);
        assert_eq!((built.code, built.stderr.contains(said)), (2, true), "{}", built.stderr);
    }
}

#[test]
fn layers_and_documents_have_the_form_that_was_asked_for() {
    let (Some(site), Some(registry)) = (site(), Registry::with_password()) else { return };
    for (form, index_type, layer_type) in [
        ("oci-mediatypes=true", "oci.image.index.v1+json", "oci.image.layer.v1.tar+gzip"),
        ("oci-mediatypes=false", "docker.distribution.manifest.list.v2+json", "docker.image.rootfs.diff.tar.gzip"),
        (
            "compression=zstd,compression-level=19,force-compression=true",
            "oci.image.index.v1+json",
            "oci.image.layer.v1.tar+zstd",
        ),
        ("compression=uncompressed,force-compression=true", "oci.image.index.v1+json", "oci.image.layer.v1.tar"),
    ] {
        let output = format!("type=registry,name={}/app:1,{form}", registry.host());
        build(&site, &registry, &["--platform", "linux/amd64,linux/arm64", "-o", &output]).success();
        let index = registry.manifest("app:1").expect("an index");
        assert_eq!(index["mediaType"], format!("application/vnd.{index_type}"), "{form}");
        for (_, digest) in entries(&index) {
            let manifest = registry.manifest(&format!("app@{digest}")).expect("a manifest");
            let layers = manifest["layers"].as_array().expect("layers");
            assert_eq!(layers.len(), 2);
            for layer in layers {
                assert_eq!(layer["mediaType"], format!("application/vnd.{layer_type}"), "{form}");
            }
        }
        // Every layer is what it says that it is: skopeo decompresses all.
        let source = format!("docker://{}/app:1", registry.host());
        let target = format!("oci:{}:x", site.path().join(format!("copy-{}", layer_type.replace('.', "-"))).display());
        registry.skopeo(&["copy", "--all", "--dest-decompress", &source, &target]).expect("skopeo").success();
    }
    // Without force, the base's layer stays what it is.
    let output = format!("type=registry,name={}/app:2,compression=zstd", registry.host());
    build(&site, &registry, &["-o", &output]).success();
    let manifest = registry.manifest("app:2").expect("a manifest");
    let kind = |number: usize| manifest["layers"][number]["mediaType"].as_str().unwrap_or_default().to_owned();
    assert!(kind(0).ends_with("gzip") && kind(1).ends_with("zstd"), "{manifest}");
    let built =
        build(&site, &registry, &["-o", "type=oci,dest=x,compression=zstd", "-o", "type=oci,dest=y,compression=gzip"]);
    assert_eq!((built.code, built.stderr.contains("one image")), (2, true), "{}", built.stderr);
}

/// A directory with the program under its name, for scripts.
fn path_with_program(site: &Site) -> String {
    let directory = site.path().join("bin");
    fs::create_dir_all(&directory).expect("writable");
    let _ = symlink(binary(), directory.join("cofferdam"));
    format!("{}:/usr/bin:/bin", directory.display())
}

#[test]
fn the_gitlab_example_makes_an_index() {
    let (Some(site), Some(registry)) = (site(), Registry::with_password()) else { return };
    let text = fs::read_to_string(repository_root().join("examples/platforms/gitlab-ci.yml")).expect("there");
    let text = format!("```yaml\n{text}```\n");
    // As runners do: one shell reads all lines, in a checkout.
    let base = format!(
        "--build-context=base=oci-layout://{}",
        cofferdam_tests::base("platforms").expect("just made").display()
    );
    let script = |name: &str, architecture: &str| {
        let lines =
            Job::of(&text, name).script.join("\n").replace("cofferdam build", &format!("cofferdam build {base}"));
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &lines]).current_dir(site.context()).env_clear().stdin(Stdio::null());
        shell.env("PATH", path_with_program(&site)).env("DOCKER_CONFIG", registry.docker_config());
        shell.env("COFFERDAM_STORE", site.path().join(format!("store-{architecture}"))).env("HOME", "/nonexistent");
        shell.env("CI_REGISTRY_IMAGE", format!("{}/group/app", registry.host())).env("CI_COMMIT_REF_SLUG", "main");
        run(shell.env("ARCHITECTURE", architecture)).success();
    };
    script(".build", "amd64");
    script(".build", "arm64");
    assert_eq!(registry.tags("group/app").expect("skopeo"), Vec::<String>::new());
    script("join", "none");
    let index = registry.manifest("group/app:main").expect("an index");
    // Each with its provenance, which a push has by default.
    let names: Vec<String> = entries(&index).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["amd64", "unknown", "arm64", "unknown"]);
}

#[test]
fn the_kubernetes_example_makes_an_index() {
    let (Some(site), Some(registry)) = (site(), Registry::with_password()) else { return };
    let text = fs::read_to_string(repository_root().join("examples/platforms/kubernetes.yaml")).expect("there");
    let base = format!("base=oci-layout://{}", cofferdam_tests::base("platforms").expect("just made").display());
    let arguments = |line: &str| -> Option<Vec<String>> {
        let list = line.trim().strip_prefix("args: ")?;
        let list = list.replace("$REPOSITORY", &format!("{}/app", registry.host()));
        serde_json::from_str(&list.replace("$CONTEXT", &site.context().display().to_string())).ok()
    };
    let pods: Vec<Vec<String>> = text.lines().filter_map(arguments).collect();
    assert_eq!(pods.len(), 3);
    // The last one is there first, as it may be in a cluster.
    for (number, code) in [(2, 1), (0, 0), (1, 0), (2, 0)] {
        let mut program = Program::new(&site.path().join(format!("store-{number}"))).args(&pods[number][..1]);
        if number < 2 {
            program = program.args(["--build-context", &base]);
        }
        let done = program.args(&pods[number][1..]).env("DOCKER_CONFIG", registry.docker_config()).run();
        assert_eq!(done.code, code, "{}", done.stderr);
    }
    assert_eq!(entries(&registry.manifest("app:1.2").expect("an index")).len(), 2);
}
