//! The tutorials that people follow today, as they stand but for names of hosts and images, in our own image: the scripts of
//! GitLab's jobs and the arguments of pods, in an ordinary pod and in a restricted one. Their bases are in a registry with a
//! password. What was pushed is judged by other tools: pulled by skopeo, unpacked by umoci, run by runc.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cofferdam_tests::{
    Bundle, Container, Environment, Finished, GitDaemon, Job, Lab, OwnImage, Program, Registry, Repositories, Variant,
    base, is_root, is_short,
    matrix::{self, Column},
    pod_arguments, report, shared, skip,
};

/// Bases of a tutorial: the name in its Dockerfile, the kind that `scripts/make-base.sh` makes, the name in the registry.
type Bases = &'static [(&'static str, &'static str, &'static str)];

const GO_HELLO: Bases =
    &[("golang:1.23", "golang", "library/golang:1.23"), ("alpine:3.21", "alpine", "library/alpine:3.21")];
const NGINX: Bases = &[("nginx", "nginx", "library/nginx:latest")];
const ALPINE: Bases = &[("alpine", "alpine", "library/alpine:latest")];

/// Where the tutorials are followed: both give the same image.
const PODS: [Environment; 2] = [Environment::RootPod, Environment::Restricted];

/// A registry with bases, which takes the place of Docker Hub, and our image.
struct Scene {
    registry: Registry,
    image: &'static OwnImage,
}

impl Scene {
    fn new(variant: Variant, bases: Bases) -> Option<Self> {
        let image = OwnImage::get(variant)?;
        let registry = Registry::with_password()?;
        for (_, kind, pushed_as) in bases {
            registry.load(&base(kind)?, "latest", pushed_as)?;
        }
        Some(Self { registry, image })
    }

    /// What GitLab tells every job.
    fn predefined<'v>(&self, host: &'v str, of_the_project: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
        let (user, password) = self.registry.credentials().expect("this registry has a password");
        let mut variables = vec![
            ("CI_COMMIT_SHA", "5e1ec7ed5e1ec7ed5e1ec7ed5e1ec7ed5e1ec7ed"),
            ("CI_COMMIT_REF_SLUG", "topic-one"),
            ("CI_PROJECT_DIR", "/builds/team/project"),
            ("CI_REGISTRY", host),
            ("CI_REGISTRY_USER", user),
            ("CI_REGISTRY_PASSWORD", password),
            // The names of the Dockerfiles' bases lead to Docker Hub.
            ("KANIKO_REGISTRY_MIRROR", host),
        ];
        variables.extend(of_the_project);
        variables
    }

    /// A job in a container of its own, with the project where GitLab puts it.
    fn job(
        &self,
        job: &Job,
        project: &Path,
        environment: Environment,
        of_the_project: &[(&str, &str)],
    ) -> Option<Finished> {
        let host = self.registry.host();
        let container = self.image.container(environment)?.volume(project, "/builds/team/project");
        Some(job.run(container, &self.predefined(&host, of_the_project)))
    }

    /// A pod with arguments, and with a secret of the kind `kubernetes.io/dockerconfigjson` where the tutorials mount it.
    fn pod(&self, environment: Environment) -> Option<Container<'static>> {
        let container = self.image.container(environment)?;
        let container = container.read_only(&self.registry.docker_config(), "/kaniko/.docker");
        Some(container.env("KANIKO_REGISTRY_MIRROR", &self.registry.host()).env("GIT_PULL_METHOD", "git"))
    }

    /// The image was pushed, and its digest printed. Nothing of the password is seen by a reader of the job's log.
    #[track_caller]
    fn check(&self, built: Finished, name: &str) -> String {
        let built = built.success();
        self.keeps_quiet(&built);
        let pushed = self.registry.digest(name).expect("skopeo made the bases' registry too");
        assert_eq!(built.digest(), pushed, "the digest that was printed is not the one that was pushed");
        pushed
    }

    fn keeps_quiet(&self, built: &Finished) {
        let (_, password) = self.registry.credentials().expect("this registry has one");
        assert!(!built.stdout.contains(password) && !built.stderr.contains(password), "the log shows the password");
    }
}

fn tutorial(name: &str) -> Option<String> {
    let Some(file) = shared("tutorials").map(|tutorials| tutorials.join(name)) else {
        skip("the tutorials are not there (../shared/tutorials)");
        return None;
    };
    // Their encoding is not always sound.
    Some(String::from_utf8_lossy(&fs::read(file).expect("readable")).into_owned())
}

/// A project whose Dockerfile is the simplest that there is.
fn simple_project() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    let text = "FROM alpine\nWORKDIR /app\nCOPY . .\nRUN echo built > made\nCMD [\"cat\", \"made\"]\n";
    fs::write(directory.path().join("Dockerfile"), text).expect("writable");
    directory
}

/// All images are one.
#[track_caller]
fn are_the_same(mut digests: Vec<String>) {
    let count = digests.len();
    digests.dedup();
    assert!(count > 1 && digests.len() == 1, "{digests:?}");
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
fn a_gitlab_job_writes_its_credentials_and_pushes_the_commit() {
    let Some(text) = tutorial("000_8a22475444249649.txt") else { return };
    let Some(scene) = Scene::new(Variant::Debug, ALPINE) else { return };
    let (host, project) = (scene.registry.host(), simple_project());
    let job = Job::of(&text, "kaniko").renamed(&[
        ("index.docker.io", &host),
        ("momotoculteur/", &format!("{host}/momotoculteur/")),
        // The text lacks a brace and a quotation mark.
        ("\"${CI_PROJECT_DIR --destination=", "\"${CI_PROJECT_DIR}\" --destination="),
    ]);
    assert_eq!(job.script.len(), 2, "{job:?}");
    let (user, password) = scene.registry.credentials().expect("this registry has a password");
    let ours = [("MOMO_REGISTRY_USERNAME", user), ("MOMO_REGISTRY_TOKEN", password)];
    let mut digests = Vec::new();
    for environment in PODS {
        let Some(built) = scene.job(&job, project.path(), environment, &ours) else { return };
        let name = "momotoculteur/simple-test:5e1ec7ed5e1ec7ed5e1ec7ed5e1ec7ed5e1ec7ed";
        digests.push(scene.check(built, name));
        if let Some(bundle) = Bundle::pull(&scene.registry, name) {
            assert_eq!(bundle.run().success().stdout, "built\n");
        }
    }
    are_the_same(digests);
}

#[test]
fn two_gitlab_jobs_push_the_commit_and_the_latest() {
    let Some(text) = tutorial("004_ea37f025c28759e6.txt") else { return };
    let Some(scene) = Scene::new(Variant::Debug, ALPINE) else { return };
    let (host, project) = (scene.registry.host(), simple_project());
    let mut digests = Vec::new();
    for environment in PODS {
        for (name, tag) in [("build", "5e1ec7ed5e1ec7ed5e1ec7ed5e1ec7ed5e1ec7ed"), ("push", "latest")] {
            let job = Job::of(&text, name).renamed(&[("registry.example.com", &host)]);
            assert_eq!(job.script.len(), 2, "{job:?}");
            let Some(built) = scene.job(&job, project.path(), environment, &[]) else { return };
            digests.push(scene.check(built, &format!("myapp:{tag}")));
        }
    }
    are_the_same(digests);
}

/// The tutorial uses Docker in Docker, since Kaniko could not do all that it wants. Its job, by our image: the same variables,
/// the same names.
#[test]
fn go_hello_is_pushed_under_the_branch_and_as_latest() {
    let Some(text) = tutorial("001_d2d6c5600e38269f.txt") else { return };
    let Some(scene) = Scene::new(Variant::Debug, GO_HELLO) else { return };
    let project = shared("tutorials").expect("as before").join("go-hello");
    let image = format!("{}/team/project", scene.registry.host());
    let docker = Job::of(&text, "build");
    let script = [
        "echo \"{\\\"auths\\\":{\\\"$CI_REGISTRY\\\":{\\\"username\\\":\\\"$CI_REGISTRY_USER\\\",\\\"password\\\":\\\"$CI_REGISTRY_PASSWORD\\\"}}}\" > /kaniko/.docker/config.json",
        "/kaniko/executor --context $CI_PROJECT_DIR --destination $IMAGE_TAG_SLUG --destination $IMAGE_TAG_LATEST",
    ];
    let job = Job { script: script.map(str::to_owned).to_vec(), ..docker };
    assert_eq!(job.variables.keys().collect::<Vec<_>>(), ["IMAGE_TAG_LATEST", "IMAGE_TAG_SLUG"]);
    let mut digests = Vec::new();
    for environment in PODS {
        let Some(built) = scene.job(&job, &project, environment, &[("CI_REGISTRY_IMAGE", &image)]) else { return };
        digests.push(scene.check(built, "team/project:topic-one"));
        assert_eq!(scene.registry.digest("team/project:latest").as_ref(), digests.last());
    }
    are_the_same(digests);
    if let Some(bundle) = Bundle::pull(&scene.registry, "team/project:latest") {
        prints_four_lines(&bundle);
        // The compiler stayed behind in the first stage.
        assert!(!bundle.rootfs().join("usr/local/go").exists());
    }
}

/// The repository of a tutorial, behind git's own daemon.
fn nginx_repository() -> Option<(Repositories, GitDaemon)> {
    let repositories = Repositories::new()?;
    let source = shared("tutorials").expect("its text was read").join("nginx/Dockerfile");
    let text = fs::read_to_string(source).expect("readable");
    repositories.commit("kaniko.git", &[("Dockerfile", &text)]);
    let daemon = GitDaemon::start(&repositories);
    Some((repositories, daemon))
}

#[test]
fn a_kubernetes_job_builds_nginx_from_a_repository() {
    let Some(text) = tutorial("002_13cf85445bfcdd72.txt") else { return };
    let Some(scene) = Scene::new(Variant::Minimal, NGINX) else { return };
    let Some((_repositories, daemon)) = nginx_repository() else { return };
    let host = scene.registry.host();
    let mut digests = Vec::new();
    for environment in PODS {
        let renamed = |argument: &String| {
            let argument = argument.replace("github.com/sarvabhowma1995", &daemon.host());
            argument.replace("jsarvabhowma/", &format!("{host}/jsarvabhowma/"))
        };
        let arguments: Vec<String> = pod_arguments(&text).iter().map(renamed).collect();
        assert_eq!(arguments.len(), 3, "{arguments:?}");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let Some(pod) = scene.pod(environment) else { return };
        digests.push(scene.check(pod.args(&arguments), "jsarvabhowma/ownnginx:v1"));
    }
    are_the_same(digests);
    if let Some(bundle) = Bundle::pull(&scene.registry, "jsarvabhowma/ownnginx:v1") {
        serves_its_page(&bundle);
    }
}

#[test]
fn the_log_of_a_pod_shows_how_far_it_is() {
    let Some(text) = tutorial("003_2157014a06227743.txt") else { return };
    let Some(scene) = Scene::new(Variant::Minimal, NGINX) else { return };
    let Some((_repositories, daemon)) = nginx_repository() else { return };
    let host = scene.registry.host();
    let renamed = |argument: &String| {
        let argument = argument.replace("github.com/<user-name>/<repo>", &format!("{}/kaniko.git", daemon.host()));
        argument.replace("<dockerhub-username>/<image-mane>", &format!("{host}/user/image"))
    };
    let arguments: Vec<String> = pod_arguments(&text).iter().map(renamed).collect();
    assert_eq!(arguments.len(), 2, "{arguments:?}");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for environment in PODS {
        let Some(pod) = scene.pod(environment) else { return };
        let built = pod.args(&arguments).success();
        scene.keeps_quiet(&built);
        for said in
            ["FROM nginx", "RUN echo 'This image is created by kaniko'", "DONE", "pushing", "/user/image:1.0@sha256:"]
        {
            assert!(built.stderr.contains(said), "{said} in {}", built.stderr);
        }
        assert_eq!(scene.registry.digest("user/image:1.0"), Some(built.digest()));
    }
}

/// A tutorial's Dockerfile and bases, built by the program alone.
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

    /// The image was pushed, and its digest printed. Answers the digest.
    fn check(&self, built: Finished) -> String {
        let built = built.success();
        let pushed = self.registry.digest(self.destination).expect("skopeo made the bases' registry too");
        assert_eq!(built.digest(), pushed, "the digest that was printed is not the one that was pushed");
        pushed
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
