//! What Kaniko's flags do to an image, and its commands beside the build.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use cofferdam_tests::{
    Bundle, Finished, Image, Program, Registry, Site, base, binary,
    fault_proxy::{Fault, FaultProxy, Rules, When},
    run,
};
use serde_json::json;

/// A site, and a registry with a password that has the base `alpine`.
struct Scene {
    site: Site,
    registry: Registry,
}

impl Scene {
    fn new() -> Option<Self> {
        let registry = Registry::with_password()?;
        registry.load(&base("alpine")?, "latest", "library/alpine:latest")?;
        Some(Self { site: Site::new(), registry })
    }

    fn executor(&self, arguments: &[&str]) -> Program {
        let program = self.site.executor(&[&["--context", "context"], arguments].concat());
        program.env("DOCKER_CONFIG", self.registry.docker_config()).env("KANIKO_REGISTRY_MIRROR", self.registry.host())
    }

    /// The image of the context, as an OCI layout.
    #[track_caller]
    fn image(&self, name: &str, arguments: &[&str]) -> Image {
        let place = format!("--oci-layout-path={name}");
        self.executor(&[&["--no-push", "-d", "image", &place], arguments].concat()).run().success();
        Image::open(&self.site.path().join(name))
    }

    fn forget(&self) {
        let _ = fs::remove_dir_all(self.site.store());
    }
}

/// A program that is not a build, with a configuration directory of its own.
fn called(name: &str, site: &Site, config: &Path, arguments: &[&str]) -> Program {
    let program = site.path().join(name);
    if !program.exists() {
        symlink(binary(), &program).expect("writable");
    }
    Program::called(&program, &site.store()).args(arguments).current_dir(site.path()).env("DOCKER_CONFIG", config)
}

fn with_input(program: Program, input: &str) -> Finished {
    let mut command = program.into_command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    // What fails before it reads closes it.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("ends").into()
}

const MANY_STEPS: &str = "FROM alpine
RUN mkdir -p /etc/app/old && echo one > /etc/app/old/file && echo kept > /etc/app/kept && ln /etc/app/kept /etc/app/zweit
COPY file /etc/app/new
RUN rm -r /etc/app/old /bin/wget /etc/app/kept && rm /etc/group && mkdir /etc/app/old && echo two > /etc/app/old/other
ENV NAME=value
RUN rm -r /var/log && mkdir /var/log && chown 33:44 /var/log && chmod 700 /home && ln -s new /etc/app/link
";

#[test]
fn a_single_snapshot_is_one_layer_with_the_same_file_system() {
    let Some(scene) = Scene::new() else { return };
    scene.site.file("file", "copied\n").dockerfile(MANY_STEPS);
    let ordinary = scene.image("ordinary", &[]);
    let single = scene.image("single", &["--single-snapshot"]);
    assert_eq!((ordinary.layer_count(), single.layer_count()), (5, 2));
    assert_eq!(single.diff_ids()[0], ordinary.diff_ids()[0], "the base stays as it is");
    let history = single.document()["history"].as_array().expect("a list");
    let layers = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!((history.len(), layers), (6, 2), "every instruction has its line");
    assert_eq!(single.document()["config"], ordinary.document()["config"]);

    let list = |image: &Image| {
        let form = "%P %y %m %U:%G %n %l %TY-%Tm-%Td %s\n";
        let listed = run(Command::new("find").arg(image.root()).args(["-mindepth", "1", "-printf", form])).success();
        // The size of a directory is the disk's.
        let line = |line: &str| {
            if line.contains(" d ") { line[..line.rfind(' ').expect("a blank")].to_owned() } else { line.to_owned() }
        };
        let mut lines: Vec<String> = listed.stdout.lines().map(line).collect();
        lines.sort();
        lines
    };
    assert_eq!(list(&single), list(&ordinary));
    run(Command::new("diff").args(["-r", "--no-dereference"]).args([single.root(), ordinary.root()])).success();
    // What came and went is nowhere, and what the base has is taken away once.
    let names = single.layer_names(-1);
    assert!(!names.iter().any(|name| name.contains("old/file")), "{names:?}");
    assert!(names.contains(&"bin/.wh.wget".to_owned()) && names.contains(&"etc/.wh.group".to_owned()), "{names:?}");

    // From the cache, and anew, it is the same.
    let digest = |image: &Image| image.diff_ids().join(" ");
    assert_eq!(digest(&scene.image("again", &["--single-snapshot"])), digest(&single));
    scene.forget();
    assert_eq!(digest(&scene.image("anew", &["--single-snapshot"])), digest(&single));
}

#[test]
fn a_single_snapshot_is_pushed_without_the_layers_that_it_is_made_of() {
    let Some(scene) = Scene::new() else { return };
    scene.site.file("file", "copied\n").dockerfile(MANY_STEPS);
    let name = format!("{}/team/single:1", scene.registry.host());
    let pushed = scene.executor(&["--single-snapshot", "--destination", &name]).run().success();
    assert_eq!(scene.registry.digest("team/single:1"), Some(pushed.digest()));
    let layers = pushed.stderr.lines().filter(|line| line.starts_with('#') && line.contains("uploaded")).count();
    assert_eq!(layers, 1, "{}", pushed.stderr);
    let Some(bundle) = Bundle::pull(&scene.registry, "team/single:1") else { return };
    assert_eq!(fs::read_to_string(bundle.rootfs().join("etc/app/old/other")).expect("there"), "two\n");
}

#[test]
fn compression_is_a_matter_of_the_image_and_not_of_its_steps() {
    let Some(scene) = Scene::new() else { return };
    scene
        .site
        .file("file", "text ".repeat(40_000))
        .dockerfile("FROM alpine\nCOPY file /file\nRUN cat /file /file > /twice\n");
    let built = |arguments: &[&str]| scene.executor(&[&["--no-push"], arguments].concat()).run().success().digest();
    let all: [&[&str]; 5] = [
        &[],
        &["--compression=zstd"],
        &["--compression=zstd", "--compression-level=19"],
        &["--compression", "gzip", "--compression-level", "1"],
        &["--compression=gzip", "--compression-level=-1", "--image-format=oci"],
    ];
    // In a store that has the steps in another form already, and in a new one.
    let warm: Vec<String> = all.iter().map(|arguments| built(arguments)).collect();
    for (arguments, warm) in all.iter().zip(&warm).rev() {
        scene.forget();
        assert_eq!(built(arguments), *warm, "{arguments:?}");
    }
    let mut different = warm.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 5, "{warm:?}");

    let zstd = scene.image("zstd", &["--compression=zstd"]);
    let types = |image: &Image| -> Vec<String> {
        let layers = image.manifest()["layers"].as_array().expect("layers");
        layers
            .iter()
            .map(|layer| layer["mediaType"].as_str().expect("text").replace("application/vnd.oci.image.layer.v1.", ""))
            .collect()
    };
    assert_eq!(types(&zstd), ["tar+gzip", "tar+zstd", "tar+zstd"], "the base stays as it is");
    let gzip = scene.image("gzip", &[]);
    assert_eq!(zstd.diff_ids(), gzip.diff_ids());
    // Others read it.
    let name = format!("{}/team/zstd:1", scene.registry.host());
    let pushed = scene.executor(&["--compression=zstd", "-d", &name]).run().success();
    assert_eq!(scene.registry.digest("team/zstd:1"), Some(pushed.digest()));
    let Some(bundle) = Bundle::pull(&scene.registry, "team/zstd:1") else { return };
    assert_eq!(fs::metadata(bundle.rootfs().join("twice")).expect("there").len(), 400_000);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let site = Site::new();
    site.file("file", "").dockerfile("FROM scratch\nCOPY file /\n");
    for (arguments, said) in [
        (&["--compression=zstd", "--tar-path=x.tar", "-d", "a/b"][..], "--tar-path"),
        (&["--compression=zstd", "--image-format=docker", "--no-push"], "--image-format"),
        (&["--oci-layout-path=x", "--image-format=docker", "--no-push"], "--oci-layout-path"),
        (&["--compression=lzma", "--no-push"], "lzma"),
        (&["--single-snapshot=maybe", "--no-push"], "maybe"),
        (&["--cache-ttl=later", "--no-push"], "later"),
    ] {
        let done = site.executor(&[&["-c", "context"], arguments].concat()).run();
        assert!(done.code == 2 && done.stderr.contains(said), "{arguments:?}: {} {}", done.code, done.stderr);
    }
    let done = site.executor(&["-c", "context", "--no-push", "--ignore-path=/"]).run();
    assert!(done.code == 1 && done.stderr.contains("`/` can't be ignored"), "{}", done.stderr);
}

#[test]
fn an_ignored_path_is_in_no_layer_and_gone_after_its_step() {
    let Some(scene) = Scene::new() else { return };
    scene.site.file("file", "copied\n").dockerfile(
        "FROM alpine
RUN mkdir -p /data/cache /var/run && echo secret > /data/cache/x && ln /data/cache/x /data/kept && echo pid > /var/run/pid
COPY file /data/cache/file
RUN test ! -e /data/cache && echo yes > /gone || echo no > /gone
",
    );
    let has = |image: &Image, path: &str| image.has(path);
    let all = scene.image("all", &[]);
    assert!(has(&all, "/data/cache/x") && has(&all, "/data/cache/file") && has(&all, "/var/run/pid"));
    assert_eq!(all.content("/gone"), "no\n");
    for name in ["warm", "anew"] {
        let less = scene.image(name, &["--ignore-path=/data/cache", "--ignore-path=/not/there"]);
        assert!(!has(&less, "/data/cache") && has(&less, "/var/run/pid"), "{name}");
        assert_eq!((less.content("/gone").as_str(), less.content("/data/kept").as_str()), ("yes\n", "secret\n"));
        scene.forget();
    }
    // Kaniko leaves it out by default, since a cluster's mounts are there; here it has to be said.
    let without = scene.image("without", &["--ignore-var-run"]);
    assert!(!has(&without, "/var/run/pid") && has(&without, "/data/cache/x"));
    assert!(has(&scene.image("with", &["--ignore-var-run=false"]), "/var/run/pid"));
}

#[test]
fn secrets_are_seen_by_their_run_alone() {
    let Some(scene) = Scene::new() else { return };
    scene.site.dockerfile(
        "FROM alpine\nRUN --mount=type=secret,id=one --mount=type=secret,id=two,env=TWO cat /run/secrets/one > /one; echo $TWO >> /one\n",
    );
    fs::write(scene.site.path().join("secret"), "from a file\n").expect("writable");
    let layout = "--oci-layout-path=out";
    let arguments =
        ["--no-push", "-d", "image", layout, "--secret", "id=one,src=secret", "--secret", "id=two,type=env,env=HELD"];
    scene.executor(&arguments).env("HELD", "from a variable").run().success();
    assert_eq!(Image::open(&scene.site.path().join("out")).content("/one"), "from a file\nfrom a variable\n");
}

#[test]
fn a_dry_run_shows_the_plan_and_builds_nothing() {
    let Some(scene) = Scene::new() else { return };
    scene.site.file("file", "x").dockerfile(
        "FROM alpine AS tools\nRUN exit 7\nFROM scratch AS unused\nCOPY file /unused\nFROM alpine\nARG WHERE=/a\nCOPY --from=tools /x $WHERE\nCMD [\"x\"]\n",
    );
    let planned = scene.executor(&["--dryrun", "--destination", "reg.invalid/team/app"]).run().success();
    let lines: Vec<&str> = planned.stdout.lines().collect();
    assert_eq!(lines[..3], ["tools", "  FROM alpine AS tools", "  RUN exit 7"], "{}", planned.stdout);
    assert_eq!(lines[3], "stage-2, the image");
    assert!(lines.iter().any(|line| line.starts_with("  COPY --from=tools")), "{}", planned.stdout);
    assert!(!planned.stdout.contains("unused"), "{}", planned.stdout);
}

#[test]
fn of_several_targets_the_first_is_the_image_and_all_are_built() {
    let Some(scene) = Scene::new() else { return };
    scene.site.dockerfile(
        "FROM alpine AS one\nRUN echo 1 > /one\nFROM alpine AS two\nRUN exit 9\nFROM alpine AS three\nRUN echo 3 > /three\nFROM one\n",
    );
    let image = scene.image("first", &["--target=one", "--target", "three"]);
    assert!(image.has("/one") && !image.has("/three"));
    let failed = scene.executor(&["--no-push", "--target=one,two"]).run();
    assert!(failed.code == 9 && failed.stderr.contains("RUN exit 9"), "{} {}", failed.code, failed.stderr);
}

#[test]
fn a_build_argument_without_a_value_is_the_variables_or_empty() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nARG SET=default\nARG UNSET=default\nLABEL l=\"$SET|$UNSET\"\n");
    let arguments = ["-c", "context", "--no-push", "--oci-layout-path=out", "--build-arg=SET", "--build-arg", "UNSET"];
    site.executor(&arguments).env("SET", "given").run().success();
    assert_eq!(Image::open(&site.path().join("out")).config("Labels"), json!({"l": "given|"}));
}

#[test]
fn a_dockerfile_may_come_from_standard_input() {
    let site = Site::new();
    let arguments = ["-c", "context", "-f", "/dev/stdin", "--no-push", "--oci-layout-path=out"];
    let built = with_input(site.executor(&arguments), "FROM scratch\nLABEL a=b\n").success();
    assert!(!built.stderr.contains("--output"), "the words of the other door: {}", built.stderr);
    assert_eq!(Image::open(&site.path().join("out")).config("Labels"), json!({"a": "b"}));
}

#[test]
fn nothing_is_built_for_a_digest() {
    let Some(scene) = Scene::new() else { return };
    scene.site.dockerfile("FROM scratch\nLABEL a=b\n");
    let name = format!("{}/team/app@sha256:{}", scene.registry.host(), "0".repeat(64));
    let failed = scene.executor(&["--destination", &name]).run();
    assert!(failed.code == 1 && failed.stderr.contains("names a digest"), "{} {}", failed.code, failed.stderr);
    assert_eq!(scene.registry.tags("team/app"), Some(Vec::new()));
}

#[test]
fn who_wants_errors_or_json_is_told_nothing_else() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nLABEL a=b\n");
    let quiet = site.executor(&["-c", "context", "--no-push", "-v", "error"]).run().success();
    assert_eq!(quiet.stderr, "");
    let json = site.executor(&["-c", "context", "--no-push", "--log-format=json"]).run().success();
    assert!(json.stderr.lines().all(|line| line.starts_with('{')), "{}", json.stderr);
}

#[test]
fn old_spellings_are_told_once() {
    let site = Site::new();
    site.file("file", "").dockerfile("FROM scratch\nCOPY file /\n");
    let arguments =
        ["-c", "context", "--no-push", "-d", "a/b", "--tarPath=x.tar", "--snapshotMode=redo", "--whitelist-var-run"];
    let built = site.executor(&arguments).run().success();
    for new in ["--tar-path", "--snapshot-mode", "--ignore-var-run"] {
        let warned = built.stderr.matches(&format!("is deprecated: write `{new}`")).count();
        assert_eq!(warned, 1, "{new}: {}", built.stderr);
    }
    assert!(site.path().join("x.tar").exists());
}

#[test]
fn versions_and_completions_are_there_at_both_doors() {
    let (site, nowhere) = (Site::new(), Path::new("/nonexistent"));
    for name in ["executor", "cofferdam"] {
        let version = called(name, &site, nowhere, &["version"]).run().success().stdout;
        assert_eq!(version, called(name, &site, nowhere, &["--version"]).run().success().stdout);
        let completion = called(name, &site, nowhere, &["completion", "bash"]).run().success().stdout;
        assert!(completion.contains(&format!("_{name}")) && completion.contains("--insecure-registry"));
    }
}

#[test]
fn a_login_is_what_builds_and_pushes_use() {
    let Some(scene) = Scene::new() else { return };
    let (site, host) = (&scene.site, scene.registry.host());
    let (user, password) = scene.registry.credentials().expect("this registry has them");
    let config = site.path().join("config");
    let login = ["login", &host, "--username", user, "--password-stdin"];
    for name in ["executor", "cofferdam"] {
        let wrong = with_input(called(name, site, &config, &login), "wrong\n");
        assert!(wrong.code == 1 && wrong.stderr.contains("does not take"), "{}", wrong.stderr);
        assert!(!config.exists(), "nothing is kept of what does not work");
        let right = with_input(called(name, site, &config, &login), &format!("{password}\n"));
        assert!(right.code == 0 && !right.stderr.contains(password), "{}", right.stderr);
        let kept = fs::metadata(config.join("config.json")).expect("written");
        assert_eq!(kept.mode() & 0o777, 0o600);

        site.file("file", name).dockerfile("FROM alpine\nCOPY file /\n");
        let tag = format!("{host}/team/{name}:1");
        let build = site.executor(&["-c", "context", "-d", &tag, "--tar-path=image.tar", "--image-format=docker"]);
        let pushed = build.env("DOCKER_CONFIG", &config).env("KANIKO_REGISTRY_MIRROR", &host).run().success();
        // The archive and a layout, under other names, are the same image.
        site.executor(&["-c", "context", "--no-push", "--oci-layout-path=layout"])
            .env("DOCKER_CONFIG", &config)
            .env("KANIKO_REGISTRY_MIRROR", &host)
            .run()
            .success();
        for (number, source) in ["image.tar", "layout"].iter().enumerate() {
            let names = [format!("{host}/other/{name}:{number}"), format!("{host}/other/{name}:more")];
            let arguments: Vec<&str> = match name {
                "executor" => vec!["push", source, "-d", &names[0], "--destination", &names[1]],
                _ => vec!["push", source, &names[0], &names[1]],
            };
            let again = called(name, site, &config, &arguments).run().success();
            assert_eq!(again.stdout, format!("{}\n", again.digest()));
            for tag in [number.to_string(), "more".to_owned()] {
                assert_eq!(scene.registry.digest(&format!("other/{name}:{tag}")), Some(again.digest()), "{source}");
            }
            let config_of = |tag: &str| scene.registry.manifest(tag).expect("skopeo")["config"]["digest"].clone();
            if *source == "image.tar" {
                assert_eq!(config_of(&format!("other/{name}:0")), config_of(&format!("team/{name}:1")), "one image id");
                assert_eq!(scene.registry.digest(&format!("team/{name}:1")), Some(pushed.digest()));
            }
        }
        let out = called("cofferdam", site, &config, &["logout", &host]).run().success();
        assert!(out.stderr.contains("no longer"), "{}", out.stderr);
        let left: serde_json::Value = cofferdam_tests::read_json(&config.join("config.json"));
        assert_eq!(left, json!({"auths": {}}));
        let name_of_it = format!("{host}/x:1");
        let arguments = if name == "executor" {
            ["push", "layout", "-d", &name_of_it].to_vec()
        } else {
            ["push", "layout", &name_of_it].to_vec()
        };
        let refused = called(name, site, &config, &arguments).run();
        assert!(refused.code == 1 && refused.stderr.contains("401"), "{}", refused.stderr);
        fs::remove_dir_all(&config).expect("ours");
        fs::remove_dir_all(site.path().join("layout")).expect("ours");
    }
}

#[test]
fn archives_of_other_tools_are_pushed() {
    let Some(scene) = Scene::new() else { return };
    let (site, host) = (&scene.site, scene.registry.host());
    let source = format!("oci:{}:latest", base("alpine").expect("it was loaded").display());
    for (kind, file) in [("docker-archive", "saved.tar"), ("oci-archive", "oci.tar")] {
        let to = format!("{kind}:{}:team/app:1", site.path().join(file).display());
        scene.registry.skopeo(&["copy", &source, &to]).expect("it was there").success();
        let name = format!("{host}/copied/{kind}:1");
        let pushed = called("cofferdam", site, &scene.registry.docker_config(), &["push", file, &name]).run().success();
        assert_eq!(scene.registry.digest(&format!("copied/{kind}:1")), Some(pushed.digest()));
        // By its digest alone, where no tag is moved; and not by another one's.
        let push = |name: &str| called("cofferdam", site, &scene.registry.docker_config(), &["push", file, name]).run();
        let named = format!("{host}/by-digest/{kind}@{}", pushed.digest());
        let untagged = push(&named).success();
        assert!(untagged.stderr.contains(&named), "{}", untagged.stderr);
        assert_eq!(scene.registry.tags(&format!("by-digest/{kind}")), Some(Vec::new()));
        let by_digest = format!("by-digest/{kind}@{}", pushed.digest());
        assert!(scene.registry.manifest(&by_digest).is_some(), "it is there");
        let other = push(&format!("{host}/by-digest/{kind}@sha256:{}", "0".repeat(64)));
        assert!(other.code == 1 && other.stderr.contains("names another image"), "{}", other.stderr);
        let Some(bundle) = Bundle::pull(&scene.registry, &format!("copied/{kind}:1")) else { return };
        assert!(bundle.rootfs().join("bin/busybox").exists());
    }
    for (name, text) in [("not-there", ""), ("empty.tar", ""), ("text.tar", "no archive")] {
        if name != "not-there" {
            fs::write(site.path().join(name), text).expect("writable");
        }
        let refused =
            called("cofferdam", site, &scene.registry.docker_config(), &["push", name, &format!("{host}/x:1")]).run();
        assert!(refused.code == 1 && refused.stderr.contains(name), "{name}: {}", refused.stderr);
    }
}

#[test]
fn a_tag_that_can_not_be_moved_is_an_error_unless_it_is_said_otherwise() {
    let Some(registry) = Registry::open() else { return };
    let site = Site::new();
    site.file("file", "").dockerfile("FROM scratch\nCOPY file /\n");
    let answer = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag '1' already exists in the 'app' repository and cannot be overwritten because the repository is immutable."}]}"#;
    let rules = Rules::new().on("PUT", "/v2/app/manifests/1", When::Always, Fault::status(400, answer));
    let proxy = FaultProxy::start(Some(registry.port()), move |request, _| rules.decide(request));
    let name = format!("{}/app:1", proxy.host());
    let refused = site.executor(&["-c", "context", "-d", &name]).run();
    assert!(refused.code == 1 && refused.stderr.contains("immutable"), "{}", refused.stderr);
    let taken = site.executor(&["-c", "context", "-d", &name, "--push-ignore-immutable-tag-errors"]).run().success();
    assert!(taken.stderr.contains("stays what it is"), "{}", taken.stderr);
}
