//! How registries are reached: mirrors and other places from files of other tools, certificates, proxies, limits.

use std::fs;

use cofferdam_tests::{
    Environment, Finished, OwnImage, Registry, Site, Variant, base,
    fault_proxy::{Fault, FaultProxy, Rules, When},
};

/// A registry with the image `alpine` under a name, and a site that builds upon it.
struct Scene {
    site: Site,
    registry: Registry,
}

impl Scene {
    fn new(registry: Option<Registry>, name: &str) -> Option<Self> {
        let registry = registry?;
        registry.load(&base("alpine")?, "latest", name)?;
        Some(Self { site: Site::new(), registry })
    }

    /// Builds upon an image by its name; only its configuration is needed.
    #[track_caller]
    fn build(&self, from: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        self.site.dockerfile(&format!("FROM {from}\nLABEL a=b\n"));
        let program = self.site.program(arguments);
        variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
    }

    fn conf(&self, text: &str) -> String {
        let file = self.site.path().join("registries.conf");
        fs::write(&file, text.replace("REGISTRY", &self.registry.host())).expect("writable");
        file.display().to_string()
    }

    fn hosts(&self, registry: &str, name: &str, text: &str) -> String {
        let directory = self.site.path().join("certs.d");
        fs::create_dir_all(directory.join(registry)).expect("writable");
        fs::write(directory.join(registry).join(name), text.replace("REGISTRY", &self.registry.host()))
            .expect("writable");
        directory.display().to_string()
    }
}

/// The user's own directory for configuration, in which nothing else is.
fn user_file(site: &Site, text: &str) -> String {
    let directory = site.path().join("config");
    fs::create_dir_all(directory.join("containers")).expect("writable");
    fs::write(directory.join("containers/registries.conf"), text).expect("writable");
    directory.display().to_string()
}

#[test]
fn a_registries_conf_says_where_images_are() {
    let Some(scene) = Scene::new(Registry::open(), "hub/library/alpine:3") else { return };
    let conf = scene.conf(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"REGISTRY/hub\"\n\
         [[registry]]\nprefix = \"*.internal.invalid/library\"\n[[registry.mirror]]\nlocation = \"REGISTRY/hub/library\"\n\
         [[registry]]\nprefix = \"old.invalid/team\"\nlocation = \"REGISTRY/hub/library\"\n\
         [[registry]]\nprefix = \"old.invalid/team/secret\"\nblocked = true\n",
    );
    for from in
        ["alpine:3", "docker.io/library/alpine:3", "old.invalid/team/alpine:3", "a.internal.invalid/library/alpine:3"]
    {
        let built = scene.build(from, &["--registries-conf", &conf], &[]);
        assert_eq!(built.code, 0, "{from}: {}", built.stderr);
        assert!(built.stderr.contains(&format!("looking up {}/hub/library/alpine:3", scene.registry.host())));
        scene.build(from, &[], &[("CONTAINERS_REGISTRIES_CONF", &conf)]).success();
    }
    let blocked = scene.build("old.invalid/team/secret/x", &["--registries-conf", &conf], &[]);
    assert!(blocked.code == 1 && blocked.stderr.contains("not to be pulled"), "{}", blocked.stderr);
    // At Kaniko's door too.
    scene.site.dockerfile("FROM alpine:3\n");
    scene.site.executor(&["-c", "context", "--no-push", "--registries-conf", &conf]).run().success();

    // The user's own file is read without being named.
    let text = fs::read_to_string(&conf).expect("ours");
    scene.build("alpine:3", &[], &[("XDG_CONFIG_HOME", &user_file(&scene.site, &text))]).success();
    let broken = user_file(&scene.site, "[registries.search]\nregistries = []\n");
    let refused = scene.build("alpine:3", &[], &[("XDG_CONFIG_HOME", &broken)]);
    assert!(
        refused.code == 1 && refused.stderr.contains("containers/registries.conf` can't be used"),
        "{}",
        refused.stderr
    );
    let refused = scene.build("alpine:3", &["--registries-conf", "not-there"], &[]);
    assert!(refused.code == 1 && refused.stderr.contains("not-there"), "{}", refused.stderr);
}

#[test]
fn short_names_are_looked_for_where_a_named_file_says_so() {
    let Some(scene) = Scene::new(Registry::open(), "tools:1") else { return };
    let Some(empty) = Registry::open() else { return };
    let search = format!("unqualified-search-registries = [\"{}\", \"{}\"]\n", empty.host(), scene.registry.host());
    let conf = scene.conf(&search);
    scene.build("tools:1", &["--registries-conf", &conf], &[]).success();
    let missing = scene.build("no-tools:1", &["--registries-conf", &conf], &[]);
    assert!(missing.code == 1 && missing.stderr.contains("no-tools"), "{}", missing.stderr);
    // What is installed somewhere does not change what a Dockerfile means.
    let unreachable = ("HTTPS_PROXY", "http://127.0.0.1:1");
    let hub = scene.build("tools:1", &[], &[("XDG_CONFIG_HOME", &user_file(&scene.site, &search)), unreachable]);
    assert!(hub.code == 1 && hub.stderr.contains("registry-1.docker.io"), "{}", hub.stderr);
}

#[test]
fn a_hosts_toml_says_where_images_are() {
    let Some(scene) = Scene::new(Registry::open(), "hub/library/alpine:3") else { return };
    let hosts = scene.hosts(
        "docker.io",
        "hosts.toml",
        "server = \"https://registry-1.docker.io\"\n\
         [host.\"http://127.0.0.1:1\"]\n\
         [host.\"http://REGISTRY/v2/hub\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\n",
    );
    let built = scene.build("alpine:3", &["--hosts-dir", &hosts], &[]).success();
    assert!(built.stderr.contains("127.0.0.1:1/library/alpine:3 is not used"), "in order: {}", built.stderr);
    let other = scene.hosts("other.invalid", "hosts.toml", "server = \"http://REGISTRY\"\n");
    scene.build("other.invalid/hub/library/alpine:3", &["--hosts-dir", &other], &[]).success();
    let broken = scene.hosts("broken.invalid", "hosts.toml", "[host.\"https://x.invalid/path\"]\n");
    let refused = scene.build("alpine:3", &["--hosts-dir", &broken], &[]);
    assert!(refused.code == 1 && refused.stderr.contains("broken.invalid/hosts.toml"), "{}", refused.stderr);
}

#[test]
fn certificates_come_from_everywhere_where_others_look() {
    let Some(scene) = Scene::new(Registry::with_tls(), "library/alpine:3") else { return };
    let host = scene.registry.host();
    let from = format!("{host}/library/alpine:3");
    let certificate = scene.registry.certificate();
    let pem = fs::read_to_string(&certificate).expect("openssl wrote it");
    let refused = scene.build(&from, &[], &[]);
    assert!(refused.code == 1 && refused.stderr.contains("certificate"), "{}", refused.stderr);

    scene.build(&from, &[], &[("SSL_CERT_FILE", &certificate.display().to_string())]).success();
    let directory = scene.site.path().join("trusted");
    fs::create_dir(&directory).expect("writable");
    fs::write(directory.join("any-name.crt"), &pem).expect("writable");
    scene.build(&from, &[], &[("SSL_CERT_DIR", &directory.display().to_string())]).success();
    let docker = scene.hosts(&host, "ca.crt", &pem);
    scene.build(&from, &["--hosts-dir", &docker], &[]).success();
    fs::remove_dir_all(&docker).expect("ours");
    let containerd = scene.hosts(&host, "hosts.toml", &format!("ca = \"{}\"\n", certificate.display()));
    scene.build(&from, &["--hosts-dir", &containerd], &[]).success();
    let skips = scene.hosts(&host, "hosts.toml", "skip_verify = true\n");
    scene.build(&from, &["--hosts-dir", &skips], &[]).success();

    // A server that can is spoken to in HTTP/2, uploads included.
    let name = format!("{host}/team/app:1");
    scene.site.file("file", "x".repeat(100_000)).dockerfile(&format!("FROM {from}\nCOPY file /\n"));
    scene.site.program(&["--skip-tls-verify-registry", &host, "--push", "--tag", &name]).run().success();
    let requests = scene.registry.requests();
    let ours: Vec<&str> = requests.lines().filter(|line| line.contains("/team/app/")).collect();
    assert!(ours.iter().any(|line| line.contains("PUT /v2/team/app/manifests/1 ")), "{requests}");
    let ours: Vec<_> = ours.into_iter().filter(|line| line.contains("cofferdam")).collect();
    assert!(!ours.is_empty() && ours.iter().all(|line| line.contains("HTTP/2.0")), "{ours:#?}");
}

#[test]
fn our_image_trusts_what_is_put_beside_its_certificates() {
    let Some(image) = OwnImage::get(Variant::Minimal) else { return };
    let Some(scene) = Scene::new(Registry::with_tls(), "library/alpine:3") else { return };
    scene.site.dockerfile(&format!("FROM {}/library/alpine:3\nLABEL a=b\n", scene.registry.host()));
    for trusted in [false, true] {
        let Some(container) = image.container(Environment::Restricted) else { return };
        let mut container = container.read_only(&scene.site.context(), "/workspace");
        if trusted {
            container = container.read_only(&scene.registry.certificate(), "/kaniko/ssl/certs/additional.crt");
        }
        let built = container.args(&["--no-push"]);
        assert_eq!(built.code, i32::from(!trusted), "{}", built.stderr);
        assert!(trusted || built.stderr.contains("certificate"), "{}", built.stderr);
    }
}

#[test]
fn a_registry_is_reached_through_a_proxy() {
    let Some(scene) = Scene::new(Registry::open(), "library/alpine:3") else { return };
    // What is sent to a proxy names the whole URL, which the registry behind it takes as well.
    let proxy = FaultProxy::start(Some(scene.registry.port()), |_, _| Fault::None);
    let through = format!("http://{}", proxy.host());
    let from = "registry.invalid:5000/library/alpine:3";
    let arguments = ["--insecure-registry", "registry.invalid:5000"];
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        scene.build(from, &arguments, &[(variable, &through)]).success();
        let _ = fs::remove_dir_all(scene.site.store());
    }
    let asked = proxy.requests();
    assert!(
        asked.iter().any(|request| request.path.contains("registry.invalid:5000/v2/library/alpine/manifests/3")),
        "{asked:?}"
    );
    let past = scene.build(from, &arguments, &[("HTTP_PROXY", &through), ("NO_PROXY", "registry.invalid")]);
    assert_eq!(past.code, 1, "{}", past.stderr);
    // This machine is never reached through one.
    let own = format!("{}/library/alpine:3", scene.registry.host());
    scene.build(&own, &[], &[("HTTP_PROXY", "http://127.0.0.1:1")]).success();
}

#[test]
fn limits_are_told_when_they_are_near_or_met() {
    let Some(scene) = Scene::new(Registry::open(), "library/alpine:3") else { return };
    let manifest = scene.registry.manifest("library/alpine:3").expect("it was loaded").to_string();
    for (remaining, told) in [("50;w=21600", false), ("7;w=21600", true)] {
        let headers = [
            ("Content-Type", "application/vnd.oci.image.manifest.v1+json"),
            ("RateLimit-Limit", "100;w=21600"),
            ("RateLimit-Remaining", remaining),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let answer = Fault::Answer(200, headers, manifest.clone().into_bytes());
        let rules = Rules::new().on("GET", "/v2/library/alpine/manifests/3", When::Always, answer);
        let proxy = FaultProxy::start(Some(scene.registry.port()), move |request, _| rules.decide(request));
        let built = scene.build(&format!("{}/library/alpine:3", proxy.host()), &[], &[]).success();
        let said = built.stderr.matches("7 of 100 images are left in 6 h").count();
        assert_eq!(said > 0, told, "{}", built.stderr);
    }
    let headers = [("RateLimit-Limit", "100;w=21600"), ("RateLimit-Remaining", "0;w=21600"), ("Retry-After", "7200")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let rules = Rules::new().on("GET", "*", When::Always, Fault::Answer(429, headers, b"too many".to_vec()));
    let proxy = FaultProxy::start(None, move |request, _| rules.decide(request));
    let refused = scene.build(&format!("{}/library/alpine:3", proxy.host()), &[], &[]);
    assert!(refused.code == 1 && refused.stderr.contains("0 of 100 images are left in 6 h"), "{}", refused.stderr);
    assert!(refused.stderr.contains("log in"), "{}", refused.stderr);
}
