//! The tutorials that people follow today, unchanged: their bases in a registry with a password, built and pushed as root,
//! as an ordinary user and in pods, then judged by other tools: pulled by skopeo, unpacked by umoci, run by runc.

use std::path::PathBuf;

use cofferdam_tests::{
    Bundle, Environment, Finished, Lab, Program, Registry, base, is_root, is_short,
    matrix::{self, Column},
    report, shared, skip,
};

/// Bases of a tutorial: the name in its Dockerfile, the kind that `scripts/make-base.sh` makes, the name in the registry.
type Bases = &'static [(&'static str, &'static str, &'static str)];

const GO_HELLO: Bases =
    &[("golang:1.23", "golang", "library/golang:1.23"), ("alpine:3.21", "alpine", "library/alpine:3.21")];
const NGINX: Bases = &[("nginx", "nginx", "library/nginx:latest")];

/// A tutorial with its bases in a registry.
struct Tutorial {
    directory: PathBuf,
    registry: Registry,
    bases: Bases,
    destination: &'static str,
}

impl Tutorial {
    fn new(name: &str, bases: Bases, destination: &'static str) -> Option<Self> {
        if !is_root() {
            skip("tutorials are built as root, and by the runner lab as an ordinary user");
            return None;
        }
        let Some(directory) = shared("tutorials").map(|tutorials| tutorials.join(name)) else {
            skip("the tutorials are not there (../shared/tutorials)");
            return None;
        };
        let registry = Registry::with_password()?;
        for (_, kind, pushed_as) in bases {
            registry.load(&base(kind)?, "latest", pushed_as)?;
        }
        Some(Self { directory, registry, bases, destination })
    }

    fn arguments(&self, context: &str) -> Vec<String> {
        let host = self.registry.host();
        let mut arguments = vec!["build".to_owned()];
        for (name, _, pushed_as) in self.bases {
            arguments.extend(["--build-context".to_owned(), format!("{name}=docker-image://{host}/{pushed_as}")]);
        }
        let destination = format!("{host}/{}", self.destination);
        arguments.extend(["--tag".to_owned(), destination, "--push".to_owned(), context.to_owned()]);
        arguments
    }

    fn build_as_root(&self) -> Finished {
        let store = tempfile::tempdir().expect("a temporary directory");
        let program = Program::new(store.path()).env("DOCKER_CONFIG", self.registry.docker_config());
        program.args(self.arguments(&self.directory.display().to_string())).run()
    }

    fn build_as_user(&self) -> Option<Finished> {
        self.build_in(Environment::Userns)
    }

    fn build_in(&self, environment: Environment) -> Option<Finished> {
        let lab = Lab::new()?;
        let binds = [
            format!("{}:/context:ro", self.directory.display()),
            format!("{}:/docker:ro", self.registry.docker_config().display()),
        ];
        let arguments = self.arguments("/context").join(" ");
        let text = format!("DOCKER_CONFIG=/docker COFFERDAM_STORE=/x/store {} {arguments}", Lab::PROGRAM);
        Some(lab.shell(environment, &binds, &text))
    }

    /// The image was pushed, and its digest printed. Nothing of the password is seen by a reader of the job's log.
    /// Answers the digest.
    fn check(&self, built: Finished) -> String {
        let built = built.success();
        let password = self.registry.password().expect("this registry has one");
        assert!(!built.stdout.contains(password) && !built.stderr.contains(password), "the log shows the password");
        let pushed = self.registry.digest(self.destination).expect("skopeo made the bases' registry too");
        assert_eq!(built.digest(), pushed, "the digest that was printed is not the one that was pushed");
        pushed
    }

    fn pull(&self) -> Option<Bundle> {
        Bundle::pull(&self.registry, self.destination)
    }
}

fn prints_four_lines(bundle: &Bundle) {
    let printed = bundle.run().success().stdout;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 4, "{printed}");
    assert_eq!(lines[0], "Hello DevOps!");
    assert!(lines[1].starts_with("Go version: go1."), "{printed}");
    assert!(lines[2].starts_with("Architecture: "), "{printed}");
    assert_eq!(lines[3], "OS: linux");
}

fn serves_its_page(bundle: &Bundle) {
    let mut nginx = bundle.start();
    if let Some(page) = nginx.fetch("http://127.0.0.1/") {
        assert_eq!(page, "This image is created by kaniko\n");
    }
}

#[test]
fn go_hello_prints_its_four_lines_when_built_as_root() {
    let Some(tutorial) = Tutorial::new("go-hello", GO_HELLO, "tutorial/go-hello:root") else { return };
    tutorial.check(tutorial.build_as_root());
    if let Some(bundle) = tutorial.pull() {
        prints_four_lines(&bundle);
        // The compiler stayed behind in the first stage.
        assert!(!bundle.rootfs().join("usr/local/go").exists());
    }
}

#[test]
fn go_hello_prints_its_four_lines_when_built_by_an_ordinary_user() {
    let Some(tutorial) = Tutorial::new("go-hello", GO_HELLO, "tutorial/go-hello:user") else { return };
    let Some(built) = tutorial.build_as_user() else { return };
    let by_user = tutorial.check(built);
    if let Some(bundle) = tutorial.pull() {
        prints_four_lines(&bundle);
    }
    let by_root = tutorial.build_as_root().success().digest();
    assert_eq!(by_user, by_root, "who builds makes a difference");
}

#[test]
fn nginx_serves_its_page_when_built_as_root() {
    let Some(tutorial) = Tutorial::new("nginx", NGINX, "tutorial/nginx:root") else { return };
    tutorial.check(tutorial.build_as_root());
    if let Some(bundle) = tutorial.pull() {
        serves_its_page(&bundle);
    }
}

#[test]
fn nginx_serves_its_page_when_built_by_an_ordinary_user() {
    let Some(tutorial) = Tutorial::new("nginx", NGINX, "tutorial/nginx:user") else { return };
    let Some(built) = tutorial.build_as_user() else { return };
    let by_user = tutorial.check(built);
    if let Some(bundle) = tutorial.pull() {
        serves_its_page(&bundle);
    }
    let by_root = tutorial.build_as_root().success().digest();
    assert_eq!(by_user, by_root, "who builds makes a difference");
}

/// Where the translator carries RUN out: pods in which nothing can be mounted, and a user with no id but the own one.
const TRANSLATED: [Environment; 3] = [Environment::Restricted, Environment::RootPod, Environment::UsernsSingleId];

#[test]
fn go_hello_is_the_same_when_its_commands_are_translated() {
    let Some(tutorial) = Tutorial::new("go-hello", GO_HELLO, "tutorial/go-hello:pod") else { return };
    let by_root = tutorial.build_as_root().success().digest();
    for environment in TRANSLATED {
        let Some(built) = tutorial.build_in(environment) else { return };
        assert_eq!(tutorial.check(built), by_root, "{environment:?}");
    }
}

#[test]
fn nginx_is_the_same_when_its_commands_are_translated() {
    let Some(tutorial) = Tutorial::new("nginx", NGINX, "tutorial/nginx:pod") else { return };
    let by_root = tutorial.build_as_root().success().digest();
    for environment in TRANSLATED {
        let Some(built) = tutorial.build_in(environment) else { return };
        assert_eq!(tutorial.check(built), by_root, "{environment:?}");
    }
}

/// A part of `scripts/campaign.sh runners`: both tutorials in every environment.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    if is_short() {
        return;
    }
    let tutorials = [("go-hello", GO_HELLO, "tutorial/go-hello:all"), ("nginx", NGINX, "tutorial/nginx:all")];
    for (name, bases, destination) in tutorials {
        let Some(tutorial) = Tutorial::new(name, bases, destination) else { return };
        let by_root = tutorial.build_as_root().success().digest();
        for environment in Environment::ALL {
            let Some(built) = tutorial.build_in(environment) else { return };
            assert_eq!(tutorial.check(built), by_root, "{name}, {environment:?}");
        }
    }
    for environment in Environment::ALL {
        matrix::record_same(environment, Column::Tutorials, &[]);
    }
    let count = Environment::ALL.len();
    report("tutorials", &format!("Tutorials: go-hello and nginx have one digest in {count} environments.\n"));
}
