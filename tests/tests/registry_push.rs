//! What reaches a registry, when, and what does not; images that other tools made or judge.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use cofferdam_tests::{Bundle, Events, Finished, Program, Registry, base, is_root, run, skip, tool};
use serde_json::Value;

/// A context, a store, and a registry whose `library/alpine:3.21` is a base.
struct Site {
    registry: Registry,
    directory: tempfile::TempDir,
    alpine: PathBuf,
}

impl Site {
    fn new() -> Option<Self> {
        let alpine = base("alpine")?;
        let registry = Registry::with_password()?;
        registry.load(&alpine, "latest", "library/alpine:3.21")?;
        let directory = tempfile::Builder::new().prefix("cofferdam-push").tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("context")).expect("writable");
        let site = Self { registry, directory, alpine };
        site.write("context/file", "content\n");
        Some(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("writable");
    }

    fn dockerfile(&self, text: &str) {
        let text = text.replace("ALPINE", &format!("{}/library/alpine:3.21", self.registry.host()));
        self.write("context/Dockerfile", &text);
    }

    fn program(&self, store: &str) -> Program {
        Program::new(&self.path(store)).env("DOCKER_CONFIG", self.registry.docker_config())
    }

    fn build(&self, store: &str, arguments: &[&str]) -> Finished {
        let program = self.program(store).args(["build", "--progress", "json"]).args(arguments);
        program.args([self.path("context")]).run()
    }

    fn push(&self, store: &str, name: &str) -> Finished {
        self.build(store, &["--push", "--tag", &format!("{}/{name}", self.registry.host())])
    }

    fn layers(&self, name: &str) -> Vec<String> {
        let manifest = self.registry.manifest(name).expect("skopeo loaded the base");
        digests(&manifest)
    }

    fn has_blob(&self, store: &str, digest: &str) -> bool {
        self.path(store).join("blobs").join(digest.replace(':', "/")).exists()
    }
}

fn digests(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().expect("an image's manifest");
    layers.iter().map(|layer| layer["digest"].as_str().expect("a digest").to_owned()).collect()
}

fn pairs(transfers: &[(String, String)]) -> Vec<(&str, &str)> {
    let mut pairs: Vec<_> = transfers.iter().map(|(digest, how)| (digest.as_str(), how.as_str())).collect();
    pairs.sort_unstable();
    pairs
}

fn sorted<'a, const N: usize>(mut pairs: [(&'a str, &'a str); N]) -> Vec<(&'a str, &'a str)> {
    pairs.sort_unstable();
    pairs.to_vec()
}

#[test]
fn a_step_is_not_timed_while_its_base_is_pulled_and_nothing_is_pushed_before_it_is_there() {
    let (Some(site), Some(elsewhere)) = (Site::new(), Registry::open()) else { return };
    site.dockerfile("FROM ALPINE\nRUN echo made > /made\n");
    let name = format!("{}/team/app:1", elsewhere.host());
    let events = Events::of(&site.build("store", &["--push", "--tag", &name]).success());
    let run = events.started("RUN echo");
    let vertex = events.iter().nth(run).expect("just found")["vertex"].clone();
    let working =
        events.position("RUN is carried out", |event| event["event"] == "working" && event["vertex"] == vertex);
    assert!(run < events.started("pulling") && events.finished("pulling") < working);
    let downloaded =
        events.position("a download", |event| event["event"] == "transferred" && event["transfer"] == "downloaded");
    assert!(downloaded < events.started("pushing"));
}

#[test]
fn blobs_that_the_registry_has_are_not_sent() {
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM ALPINE\nCOPY file /etc/\n");
    let base_layer = site.layers("library/alpine:3.21").remove(0);
    let first = site.push("first", "team/app:1").success();
    let own = site.layers("team/app:1").pop().expect("a layer");
    let transfers = Events::of(&first).transfers();
    assert_eq!(pairs(&transfers), sorted([(&base_layer, "mounted"), (&own, "uploaded")]));

    // Another machine, which knows nothing of the first build.
    let second = site.push("second", "team/app:2").success();
    let transfers = Events::of(&second).transfers();
    assert_eq!(pairs(&transfers), sorted([(&base_layer, "present"), (&own, "present")]));
    assert_eq!(second.digest(), first.digest());
    assert_eq!(site.registry.tags("team/app"), Some(vec!["1".to_owned(), "2".to_owned()]));
}

#[test]
fn a_base_whose_files_are_not_needed_is_mounted_and_never_fetched() {
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM ALPINE\nENV NAME=value\nLABEL some=thing\nCMD [\"true\"]\n");
    let base_layers = site.layers("library/alpine:3.21");
    let built = site.push("store", "team/labelled:1").success();
    assert_eq!(pairs(&Events::of(&built).transfers()), sorted([(&base_layers[0], "mounted")]));
    assert_eq!(site.layers("team/labelled:1"), base_layers);
    assert!(!site.has_blob("store", &base_layers[0]), "the base was fetched for nothing");
}

#[test]
fn one_build_goes_to_several_repositories_and_tags() {
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM ALPINE\nCOPY file /etc/\n");
    let host = site.registry.host();
    let names = [format!("{host}/a/x:1"), format!("{host}/a/x:2"), format!("{host}/b/y:1")];
    let mut arguments = vec!["--push"];
    for name in &names {
        arguments.extend(["--tag", name.as_str()]);
    }
    let built = site.build("store", &arguments).success();
    for name in ["a/x:1", "a/x:2", "b/y:1"] {
        assert_eq!(site.registry.digest(name), Some(built.digest()), "{name}");
    }
}

#[test]
fn a_layer_is_sent_while_a_later_run_still_works() {
    if !is_root() {
        skip("RUN is tested as root here");
        return;
    }
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM ALPINE\nRUN head -c 3000000 /dev/urandom > /large\nRUN sleep 4 && echo late > /late\n");
    let built = site.push("store", "team/early:1").success();
    let events = Events::of(&built);
    let large = events.layer("RUN head");
    let sent = events.transferred(&large);
    assert!(events.started("RUN sleep") < events.finished("RUN sleep"));
    assert!(sent < events.finished("RUN sleep"), "sent only when everything was done\n{}", events.text());
    assert_eq!(site.layers("team/early:1")[1], large);
}

#[test]
fn a_failed_build_leaves_no_tag() {
    if !is_root() {
        skip("RUN is tested as root here");
        return;
    }
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM ALPINE\nCOPY file /etc/\nRUN sleep 1; exit 7\n");
    let built = site.push("store", "team/broken:1");
    assert_eq!(built.code, 7, "{}", built.stderr);
    assert!(built.stdout.is_empty(), "{}", built.stdout);
    assert_eq!(site.registry.tags("team/broken"), Some(Vec::new()));
}

#[test]
fn a_wrong_password_is_told_and_nothing_is_pushed() {
    let Some(site) = Site::new() else { return };
    let host = site.registry.host();
    let layout = format!("alpine=oci-layout://{}:latest", site.alpine.display());
    let name = format!("{host}/team/app:1");
    site.dockerfile("FROM alpine\nCOPY file /etc/\n");
    fs::create_dir(site.path("docker")).expect("writable");
    site.write(
        "docker/config.json",
        &format!(r#"{{"auths":{{"{host}":{{"username":"pusher","password":"not it at all"}}}}}}"#),
    );
    for (directory, what) in [(site.path("docker"), "a wrong password"), (site.path("nothing"), "no password")] {
        let program = Program::new(&site.path("store")).env("DOCKER_CONFIG", directory);
        let arguments = ["build", "--build-context", &layout, "--push", "--tag", &name];
        let built = program.args(arguments).args([site.path("context")]).run();
        assert_eq!(built.code, 1, "{what}: {}", built.stderr);
        assert!(built.stdout.is_empty(), "{what}: {}", built.stdout);
        let last = built.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect::<Vec<_>>().join("\n");
        assert!(last.contains(&format!("pushing to `{host}/team/app` failed")), "{what}: {}", built.stderr);
        assert!(last.contains("credential") || last.contains("password"), "{what}: no remedy in {last}");
        assert!(!built.stderr.contains("not it at all"), "{what}: the log shows the password");
        assert_eq!(site.registry.tags("team/app"), Some(Vec::new()), "{what}");
    }
}

#[test]
fn a_configuration_that_can_not_be_read_is_named() {
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM scratch\nLABEL a=b\n");
    fs::create_dir(site.path("docker")).expect("writable");
    site.write("docker/config.json", "{secret");
    let name = format!("{}/team/app:1", site.registry.host());
    let build = || {
        let program = Program::new(&site.path("store")).env("DOCKER_CONFIG", site.path("docker"));
        program.args(["build", "--push", "--tag", &name]).args([site.path("context")])
    };
    let of_file = build().run();
    let of_variable = build().env("DOCKER_AUTH_CONFIG", "[secret").run();
    for (failed, place) in [(&of_file, "docker/config.json`: "), (&of_variable, "DOCKER_AUTH_CONFIG: ")] {
        assert!(failed.code == 1 && failed.stderr.contains(place), "{}", failed.stderr);
        assert!(failed.stderr.contains("log in again") && !failed.stderr.contains("secret"), "{}", failed.stderr);
    }
}

#[test]
fn variables_are_credentials_as_far_as_their_helper_is_asked() {
    let Some(site) = Site::new() else { return };
    let host = site.registry.host();
    let password = site.registry.credentials().expect("a registry with a password").1;
    site.dockerfile("FROM scratch\nCOPY file /etc/\n");
    let (name, context) = (format!("{host}/team/app:1"), site.path("context"));
    let audit = site.path("audit");
    let executor = site.path("executor");
    std::os::unix::fs::symlink(cofferdam_tests::binary(), &executor).expect("writable");
    let variable = format!("KANIKO_{}", host.replace(['.', ':'], "_"));
    let push = |helpers: &[&str], kaniko: bool| {
        let program = match kaniko {
            true => Program::called(&executor, &site.path("store")).args(["--context"]).args([&context]),
            false => {
                Program::new(&site.path("store")).args(["build", "--push", "--audit-log"]).args([&audit, &context])
            }
        };
        let program = program.args([if kaniko { "--destination" } else { "--tag" }, name.as_str()]).args(helpers);
        let program = program.env(&format!("{variable}_USER"), "pusher").env(&format!("{variable}_PASSWORD"), password);
        let pushed = program.run();
        assert!(!pushed.stderr.contains(password) && !pushed.stdout.contains(password), "{}", pushed.stderr);
        pushed
    };
    for kaniko in [false, true] {
        for helpers in ["--credential-helpers=", "--credential-helpers=gitlab"] {
            let refused = push(&[helpers], kaniko);
            assert_eq!(refused.code, 1, "{helpers}: {}", refused.stderr);
        }
        let unknown = push(&["--credential-helpers=vault"], kaniko);
        assert!(unknown.stderr.contains("no credential helper `vault`: there are `acr`"), "{}", unknown.stderr);
    }
    assert_eq!(site.registry.tags("team/app"), Some(Vec::new()));
    push(&["--credential-helpers=env,gitlab"], false).success();
    push(&[], true).success();
    assert_eq!(site.registry.tags("team/app"), Some(vec!["1".to_owned()]));
    let audit = fs::read_to_string(audit).expect("an audit log");
    assert!(audit.contains(&format!("env:{variable}_PASSWORD")) && !audit.contains(password), "{audit}");
}

#[test]
fn a_base_that_does_not_exist_is_told_with_its_line() {
    let Some(site) = Site::new() else { return };
    let missing = format!("{}/library/nothing:9", site.registry.host());
    site.dockerfile(&format!("FROM ALPINE AS one\nFROM {missing}\nCOPY file /\n"));
    let built = site.push("store", "team/app:1");
    assert_eq!(built.code, 1, "{}", built.stderr);
    let marked: Vec<&str> = built.stderr.lines().filter(|line| line.contains(">>>")).collect();
    assert_eq!(marked.len(), 1, "{}", built.stderr);
    assert!(marked[0].contains(&format!("FROM {missing}")), "{}", built.stderr);
    assert!(built.stderr.contains("Dockerfile:2"), "{}", built.stderr);
    assert!(built.stderr.contains("library/nothing") && !built.stderr.contains("panicked"), "{}", built.stderr);
    assert_eq!(site.registry.tags("team/app"), Some(Vec::new()));
}

#[test]
fn a_registry_that_is_not_there_is_told() {
    let Some(site) = Site::new() else { return };
    let nobody = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("an address").to_string()
    };
    site.dockerfile(&format!("FROM {nobody}/library/alpine:3.21\nCOPY file /\n"));
    let built = site.build("store", &[]);
    assert_eq!(built.code, 1, "{}", built.stderr);
    assert!(built.stderr.contains(&nobody) && built.stderr.to_lowercase().contains("refused"), "{}", built.stderr);
}

#[test]
fn a_damaged_base_layer_is_never_built_on() {
    let Some(site) = Site::new() else { return };
    let layer = site.layers("library/alpine:3.21").remove(0);
    let file = site.registry.blob_file(&layer);
    let mut bytes = fs::read(&file).expect("the registry keeps its blobs in files");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("writable");
    site.dockerfile("FROM ALPINE\nCOPY file /etc/\n");
    let built = site.push("store", "team/app:1");
    assert_eq!(built.code, 1, "{}", built.stderr);
    assert!(built.stderr.contains(&layer), "the layer is not named\n{}", built.stderr);
    assert!(!site.has_blob("store", &layer), "the damaged blob was kept");
    assert_eq!(site.registry.tags("team/app"), Some(Vec::new()));
}

#[test]
fn archives_are_images_for_skopeo_and_umoci() {
    let Some(site) = Site::new() else { return };
    let (Some(_), Some(skopeo)) = (tool("umoci"), tool("skopeo")) else { return };
    site.dockerfile(
        "FROM ALPINE\nCOPY --chown=12:34 --chmod=4750 file /etc/example\nENV A=b\nCMD [\"cat\", \"/etc/example\"]\n",
    );
    let (oci, docker, layout) = (site.path("oci.tar"), site.path("docker.tar"), site.path("layout"));
    let outputs = [
        format!("type=oci,dest={}", oci.display()),
        format!("type=docker,dest={}", docker.display()),
        format!("type=oci,tar=false,dest={}", layout.display()),
    ];
    let mut arguments = vec!["--tag", "team/app:1"];
    for output in &outputs {
        arguments.extend(["--output", output.as_str()]);
    }
    let digest = site.build("store", &arguments).success().digest();
    let sources = [
        format!("oci-archive:{}", oci.display()),
        format!("docker-archive:{}", docker.display()),
        format!("oci:{}", layout.display()),
    ];
    for source in &sources {
        let inspected = run(std::process::Command::new(&skopeo).args(["inspect", source])).success().stdout;
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        assert!(inspected["Env"].as_array().is_some_and(|env| env.contains(&"A=b".into())), "{source}: {inspected}");
        if !source.starts_with("docker-archive:") {
            assert_eq!(inspected["Digest"], digest.as_str(), "{source}");
        }
        let Some(bundle) = Bundle::copy(source) else { return };
        let file = bundle.rootfs().join("etc/example");
        assert_eq!(fs::read_to_string(&file).expect("the copied file"), "content\n", "{source}");
        if is_root() {
            use std::os::unix::fs::MetadataExt;
            let metadata = file.metadata().expect("it exists");
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (12, 34, 0o4750), "{source}");
            assert_eq!(bundle.run().success().stdout, "content\n", "{source}");
        }
    }
    // The archive for Docker names the image as `docker load` expects it.
    let listed = run(std::process::Command::new("tar").args(["-xOf"]).arg(&docker).arg("manifest.json")).success();
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["RepoTags"], serde_json::json!(["team/app:1"]), "{listed}");
}

#[test]
fn an_archive_on_standard_output_is_nothing_but_the_archive() {
    let Some(site) = Site::new() else { return };
    let Some(skopeo) = tool("skopeo") else { return };
    site.dockerfile("FROM ALPINE\nCOPY file /etc/\n");
    let program = site.program("store").args(["build", "--output", "type=oci,dest=-"]).args([site.path("context")]);
    let output = program.into_command().output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = site.path("out.tar");
    fs::File::create(&file).and_then(|mut file| file.write_all(&output.stdout)).expect("writable");
    let source = format!("oci-archive:{}", file.display());
    let inspected = run(std::process::Command::new(skopeo).args(["inspect", "--format", "{{.Digest}}", &source]));
    let digest = inspected.success().stdout.trim().to_owned();
    assert!(String::from_utf8_lossy(&output.stderr).contains(&digest), "the digest is not told");
}

/// Builds on a base that other tools made, in a form that is not ours.
fn builds_on(site: &Site, context: &str) -> Value {
    site.dockerfile("FROM other\nCOPY --from=other /bin/busybox /second/\nCOPY file /etc/\nCMD [\"/second/busybox\", \"cat\", \"/etc/file\"]\n");
    let name = format!("{}/team/on-other:1", site.registry.host());
    let built = site.build("store", &["--build-context", context, "--push", "--tag", &name]).success();
    assert_eq!(site.registry.digest("team/on-other:1"), Some(built.digest()));
    if let Some(bundle) = is_root().then(|| Bundle::pull(&site.registry, "team/on-other:1")).flatten() {
        assert_eq!(bundle.run().success().stdout, "content\n");
    }
    site.registry.manifest("team/on-other:1").expect("skopeo is there")
}

#[test]
fn an_oci_layout_is_a_base() {
    let Some(site) = Site::new() else { return };
    let manifest = builds_on(&site, &format!("other=oci-layout://{}:latest", site.alpine.display()));
    assert_eq!(digests(&manifest)[0], site.layers("library/alpine:3.21")[0], "the base's layer was packed again");
    // Without a tag, it is the only image of the layout.
    let again = builds_on(&site, &format!("other=oci-layout://{}", site.alpine.display()));
    assert_eq!(again, manifest);
}

#[test]
fn a_base_with_zstd_layers_keeps_them() {
    let Some(site) = Site::new() else { return };
    let Some(skopeo) = tool("skopeo") else { return };
    let name = "library/zstd:1";
    let mut copy = std::process::Command::new(skopeo);
    copy.args(["--insecure-policy", "copy", "--dest-compress-format", "zstd"]);
    copy.arg(format!("oci:{}:latest", site.alpine.display()))
        .arg(format!("oci:{}:latest", site.path("zstd").display()));
    run(&mut copy).success();
    site.registry.load(&site.path("zstd"), "latest", name);
    let base_manifest = site.registry.manifest(name).expect("skopeo is there");
    let media_type = base_manifest["layers"][0]["mediaType"].as_str().expect("a media type").to_owned();
    assert!(media_type.ends_with("+zstd"), "skopeo did not compress with zstd: {media_type}");
    let manifest = builds_on(&site, &format!("other=docker-image://{}/{name}", site.registry.host()));
    assert_eq!(manifest["layers"][0], base_manifest["layers"][0]);
}

#[test]
fn a_base_with_dockers_media_types_is_a_base() {
    let Some(site) = Site::new() else { return };
    let (source, name) = (format!("oci:{}:latest", site.alpine.display()), "library/docker:1");
    let destination = format!("docker://{}/{name}", site.registry.host());
    let Some(copied) = site.registry.skopeo(&["copy", "--format", "v2s2", &source, &destination]) else { return };
    copied.success();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(site.registry.manifest(name).expect("skopeo is there")["mediaType"], docker);
    let context = format!("other=docker-image://{}/{name}", site.registry.host());
    let manifest = builds_on(&site, &context);
    // One family of types in a manifest (OCI image specification, manifest.md, "Compatible Matrix").
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    for layer in manifest["layers"].as_array().expect("layers") {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    let name = format!("{}/team/docker:1", site.registry.host());
    let arguments = ["--build-context", &context, "--image-format", "docker", "--push", "--tag", &name];
    site.build("store", &arguments).success();
    let manifest = site.registry.manifest("team/docker:1").expect("skopeo is there");
    assert_eq!(manifest["mediaType"], docker);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    for layer in manifest["layers"].as_array().expect("layers") {
        assert_eq!(layer["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    }
}

#[test]
fn a_second_build_needs_nothing_of_the_base_but_its_digest() {
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM ALPINE\nCOPY file /etc/\n");
    let digest = site.build("store", &[]).success().digest();
    let layer = site.layers("library/alpine:3.21").remove(0);
    fs::remove_file(site.registry.blob_file(&layer)).expect("the registry keeps its blobs in files");
    let again = site.build("store", &[]).success();
    assert_eq!(again.digest(), digest);
    assert_eq!(Events::of(&again).ending("COPY file"), "cached");
}

/// Tests look at paths of the store by name, so that a change of its form does not make them pass for nothing.
#[test]
fn the_store_is_where_tests_look() {
    let Some(site) = Site::new() else { return };
    site.dockerfile("FROM ALPINE\nCOPY file /etc/\n");
    let digest = site.build("store", &[]).success().digest();
    assert!(site.has_blob("store", &digest));
    assert!(Path::new(&site.path("store")).join("unpacked").is_dir());
}

/// The base is only in the mirror; a mirror that does not have it is passed over with a warning.
#[test]
fn a_base_is_pulled_from_the_mirror_that_has_it() {
    let Some(site) = Site::new() else { return };
    site.write("context/Dockerfile", "FROM alpine:3.21\nCOPY file /etc/\n");
    let executor = site.path("executor");
    std::os::unix::fs::symlink(cofferdam_tests::binary(), &executor).expect("writable");
    let host = site.registry.host();
    let program = Program::called(&executor, &site.path("store"));
    let program = program.env("DOCKER_CONFIG", site.registry.docker_config()).args([
        format!("--context={}", site.path("context").display()),
        format!("--destination={host}/team/mirrored:1"),
        format!("--registry-mirror={host}/nothing"),
        format!("--registry-mirror={host}"),
        "--skip-default-registry-fallback".to_owned(),
    ]);
    let built = program.run().success();
    assert!(built.stderr.contains("/nothing/library/alpine:3.21 is not used"), "{}", built.stderr);
    assert_eq!(site.layers("team/mirrored:1")[0], site.layers("library/alpine:3.21")[0]);
}
