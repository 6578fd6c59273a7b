//! The components of this program.

use std::{collections::BTreeMap, fs, io, sync::Arc};

use cofferdam_plan::step::{Effect, Handlers, KeyValue, Step, Syntax};
use cofferdam_plugin_host::{
    ApplyError, AuditLog, CommandMount, Credential, CredentialError, CredentialSources, Decision, Exit, Facts,
    GitFacts, HostOptions, Origin, PluginHost, Policy, Requested, RunCommand, RunCommandError, WebAnswer, WebRequest,
};
use cofferdam_rootfs::{RootPath, Timestamp, Tree};

use crate::guest::{apply, apply_with, rootfs, step, tree};

fn host() -> PluginHost {
    PluginHost::load(HostOptions::default()).map_err(|errors| format!("{errors:?}")).unwrap()
}

#[test]
fn each_instruction_has_a_handler_that_imports_nothing_but_our_packages() {
    let host = host();
    let keywords = host.keywords();
    for keyword in [
        "ADD",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ] {
        assert!(keywords.iter().any(|claimed| claimed == keyword), "{keyword}");
    }
    assert_eq!(host.facts("COPY").unwrap().syntax, Syntax::Words);
    assert!(host.plugins().iter().all(|plugin| plugin.origin == Origin::Embedded));
    assert_eq!(host.tag_policies(), ["tags-explicit", "tags-git", "tags-gitlab", "tags-metadata", "tags-semver"]);
}

#[test]
fn copy_copies() {
    let host = host();
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("src")).unwrap();
    fs::write(directory.path().join("src/a"), "hello").unwrap();
    let (tree, root) = (tree(directory.path()), rootfs());
    let copy = step("COPY", "src /app/");
    assert!(host.check(&copy).is_empty());
    let planned = host.plan(&copy).unwrap();
    assert_eq!(planned.effect, Effect::RootFileSystem);
    apply(&host, &copy, &root, &[&tree]).unwrap();
    let root = root.lock().unwrap();
    assert_eq!(root.read_file(&RootPath::new("/app/a").unwrap(), 100).unwrap(), b"hello");
    assert!(root.metadata(&RootPath::new("/secret").unwrap(), true).unwrap().is_none());
}

#[test]
fn metadata_instructions_change_the_configuration_only() {
    let pair = KeyValue { key: "A".into(), value: "b".into() };
    let mut env = step("ENV", "A=b");
    env.arguments.pairs = vec![pair.clone()];
    let planned = host().plan(&env).unwrap();
    assert_eq!(planned.effect, Effect::Configuration);
    assert_eq!(planned.changes, [cofferdam_plan::step::ConfigChange::Environment(pair)]);
}

/// Ends as it was told and remembers what it was to run.
struct Script(Exit, Arc<std::sync::Mutex<Vec<cofferdam_plugin_host::Command>>>);

impl RunCommand for Script {
    fn run(
        &mut self,
        command: cofferdam_plugin_host::Command,
        _mounts: Vec<CommandMount>,
    ) -> Result<Exit, RunCommandError> {
        self.1.lock().unwrap().push(command);
        Ok(self.0)
    }
}

#[test]
fn run_runs_and_passes_its_exit_code_on() {
    let host = host();
    let run: Step = step("RUN", "echo hello");
    let seen = Arc::default();
    for (exit, fine) in [(Exit::Code(0), true), (Exit::Code(3), false), (Exit::Signal(9), false)] {
        let script = Box::new(Script(exit, Arc::clone(&seen)));
        match apply_with(&host, &run, &rootfs(), &[], Some(script)) {
            Ok(_) => assert!(fine),
            Err(ApplyError::CommandFailed(failed)) => assert_eq!(failed, exit),
            Err(other) => panic!("{other:?}"),
        }
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].arguments, ["/bin/sh", "-c", "echo hello"]);
    assert_eq!(seen[0].environment, run.state.environment);
}

/// Configuration files in Docker's form, in their order, variables, and one answer for all requests, which are kept.
#[derive(Default)]
struct Sources {
    configs: Vec<&'static str>,
    variables: BTreeMap<&'static str, &'static str>,
    answer: Option<String>,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
}

impl CredentialSources for Sources {
    fn files(&self, name: &str) -> usize {
        if name == "docker-config" { self.configs.len() } else { 0 }
    }

    fn file(&self, name: &str, turn: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.configs.get(turn).filter(|_| name == "docker-config").map(|text| text.as_bytes().to_vec()))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| (*value).to_owned())
    }

    fn exchange(&self, request: WebRequest) -> Result<WebAnswer, String> {
        self.asked.lock().unwrap().push(format!("{} {}", request.method.name(), request.url));
        let body = self.answer.clone().ok_or("nobody there")?.into_bytes();
        Ok(WebAnswer { status: 200, headers: Vec::new(), body })
    }
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

#[test]
fn a_token_is_asked_for_once_for_each_scope_until_it_ends() {
    let host = host();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    // AWS:pw, until the year 2100.
    let body = r#"{"authorizationData":[{"authorizationToken":"QVdTOnB3","expiresAt":4102444800}]}"#;
    let sources: Arc<dyn CredentialSources> = Arc::new(Sources {
        variables: [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "planted")].into(),
        answer: Some(body.to_owned()),
        asked: asked.clone(),
        ..Sources::default()
    });
    let ask = |repository, actions: &[&str]| {
        let answer = host.credential(ECR, Some(repository), actions, &sources, None).unwrap().unwrap();
        assert_eq!((answer.plugin.as_str(), answer.expires_at.unwrap().seconds), ("credential-ecr", 4_102_444_800));
        asked.lock().unwrap().len()
    };
    assert_eq!(ask("a/b", &["pull"]), 1);
    assert_eq!(ask("a/b", &["pull"]), 1);
    assert_eq!(ask("a/b", &["pull", "push"]), 2);
    assert_eq!(ask("a/c", &["pull"]), 3);
    assert_eq!(asked.lock().unwrap()[0], "POST https://api.ecr.eu-west-1.amazonaws.com/");
}

#[test]
fn a_denied_metadata_address_is_no_credential_for_a_pull_and_a_denial_for_a_push() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sources: Arc<dyn CredentialSources> = Arc::new(Sources { asked: asked.clone(), ..Sources::default() });
    let ask = |host: &PluginHost, actions: &[&str]| host.credential(ECR, Some("a"), actions, &sources, None);
    // Everything that the helper wants but this.
    let own = host().plugins().into_iter().find(|plugin| plugin.manifest.name == "credential-ecr").unwrap();
    let wanted: Vec<String> =
        own.manifest.capabilities.iter().map(|wanted| format!("{:?}", wanted.to_string())).collect();
    let rest = wanted.iter().filter(|wanted| *wanted != "\"metadata\"").cloned().collect::<Vec<_>>().join(", ");
    let with = |lines: &str| {
        let policy = Policy::parse(lines).unwrap();
        PluginHost::load(HostOptions { policy, ..HostOptions::default() })
            .map_err(|errors| format!("{errors:?}"))
            .unwrap()
    };
    let narrowed = format!("[plugins.credential-ecr]\nallow = [{rest}]\n");
    let denied = with(&narrowed);
    assert_eq!(ask(&denied, &["pull"]).unwrap(), None);
    let error = ask(&denied, &["pull", "push"]).unwrap_err();
    assert!(matches!(&error, CredentialError::Denied { capability, .. } if capability == "metadata"), "{error}");
    let text = error.to_string();
    assert!(text.contains("[plugins.credential-ecr]\nalso = [\"metadata\"]"), "{text}");
    assert!(asked.lock().unwrap().is_empty(), "nothing was sent");

    // With the line that the denial prints the address is asked; nobody there is no error.
    let granted = with(&format!("{narrowed}also = [\"metadata\"]\n"));
    assert_eq!(ask(&granted, &["pull", "push"]).unwrap(), None);
    assert_eq!(*asked.lock().unwrap(), ["PUT http://169.254.169.254/latest/api/token"]);
    // For a minute it is not asked again.
    assert_eq!(ask(&granted, &["pull", "push"]).unwrap(), None);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn an_endpoint_of_the_environment_needs_a_word_that_names_it() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sources: Arc<dyn CredentialSources> = Arc::new(Sources {
        variables: [
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "planted"),
            ("AWS_ENDPOINT_URL", "https://evil.example"),
        ]
        .into(),
        asked: asked.clone(),
        ..Sources::default()
    });
    let error = host().credential(ECR, Some("a"), &["pull"], &sources, None).unwrap_err().to_string();
    assert!(error.contains("`http:evil.example`") && error.contains("also = [\"http:evil.example\"]"), "{error}");
    assert!(error.contains("--allow-plugin credential-ecr:http:evil.example"), "{error}");
    assert!(asked.lock().unwrap().is_empty());
}

/// Whose credential is answered: `USER PASSWORD`, or nothing.
fn credential_of(host: &PluginHost, sources: Sources, name: &str, chosen: Option<&[&str]>) -> Option<String> {
    let sources: Arc<dyn CredentialSources> = Arc::new(sources);
    let chosen = chosen.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let answer = host.credential(name, Some("a/b"), &["pull"], &sources, chosen.as_ref()).unwrap()?;
    let Credential::Basic { username, password } = answer.credential else { panic!("{answer:?}") };
    Some(format!("{username} {}", password.expose()))
}

#[test]
fn the_docker_config_answers_for_its_hosts_and_no_lookalike() {
    let host = host();
    // me:secret
    let config = r#"{"auths": {"registry.example": {"auth": "bWU6c2VjcmV0"}}}"#;
    let sources: Arc<dyn CredentialSources> = Arc::new(Sources { configs: vec![config], ..Sources::default() });
    let ask = |name: &str| host.credential(name, Some("a/b"), &["pull"], &sources, None);
    let answer = ask("registry.example").unwrap().unwrap();
    let Credential::Basic { username, password } = answer.credential else { panic!("{answer:?}") };
    assert_eq!((username.as_str(), password.expose()), ("me", "secret"));
    assert_eq!(ask("registry.example.evil.example").unwrap(), None);
    for wrong in ["registry.example@evil.example", "registry.example/x", "", "registry.example."] {
        assert!(ask(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_broken_docker_config_is_an_error_not_an_anonymous_push() {
    let sources: Arc<dyn CredentialSources> = Arc::new(Sources { configs: vec!["{"], ..Sources::default() });
    let error = host().credential("registry.example", None, &["push"], &sources, None).unwrap_err();
    assert!(error.to_string().contains("credential-docker-config"), "{error}");
}

/// Every source of credentials for `ghcr.io` and `registry.example` at once.
fn everything() -> Sources {
    Sources {
        configs: vec![
            r#"{"auths": {"other.example": {"username": "first", "password": "1"}}}"#,
            r#"{"auths": {"registry.example": {"username": "second", "password": "2"}}}"#,
        ],
        variables: [
            ("KANIKO_REGISTRY_EXAMPLE_USER", "env"),
            ("KANIKO_REGISTRY_EXAMPLE_PASSWORD", "3"),
            ("KANIKO_GHCR_IO_USER", "env"),
            ("KANIKO_GHCR_IO_PASSWORD", "4"),
            ("CI_REGISTRY", "ghcr.io"),
            ("CI_REGISTRY_USER", "gitlab"),
            ("CI_REGISTRY_PASSWORD", "5"),
            ("GITHUB_ACTOR", "github"),
            ("GITHUB_TOKEN", "6"),
        ]
        .into(),
        ..Sources::default()
    }
}

#[test]
fn helpers_are_asked_in_their_order_and_only_those_that_were_chosen() {
    let host = host();
    let ask = |name, chosen: Option<&[&str]>| credential_of(&host, everything(), name, chosen);
    // Each file in turn, before any variable.
    assert_eq!(ask("other.example", None).as_deref(), Some("first 1"));
    assert_eq!(ask("registry.example", None).as_deref(), Some("second 2"));
    assert_eq!(ask("ghcr.io", None).as_deref(), Some("env 4"));
    assert_eq!(ask("ghcr.io", Some(&["credential-ghcr", "credential-gitlab"])).as_deref(), Some("gitlab 5"));
    assert_eq!(ask("ghcr.io", Some(&["credential-ghcr"])).as_deref(), Some("github 6"));
    assert_eq!(ask("ghcr.io", Some(&[])), None);
    assert_eq!(ask("registry.example", Some(&[])).as_deref(), Some("second 2"));
}

#[test]
fn variables_answer_for_their_host_and_no_lookalike() {
    let host = host();
    for name in [
        "ghcr.io.evil.example",
        "evil-ghcr.io",
        "xghcr.io",
        "ghcr.io.example",
        "ghcr.io:5000",
        "example",
        "registry.example.evil",
        "xregistry.example",
    ] {
        assert_eq!(credential_of(&host, everything(), name, None), None, "{name}");
    }
}

#[test]
fn a_policy_takes_a_variable_away_and_the_uses_that_are_left_are_logged_without_values() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit");
    let options = HostOptions {
        policy: Policy::parse("[plugins.credential-ghcr]\nallow = [\"env:GITHUB_ACTOR\"]\n").unwrap(),
        audit: Some(Arc::new(AuditLog::open(&log).unwrap())),
        ..HostOptions::default()
    };
    let host = PluginHost::load(options).unwrap();
    assert_eq!(credential_of(&host, everything(), "ghcr.io", Some(&["credential-ghcr"])), None);
    assert_eq!(
        credential_of(&host, everything(), "ghcr.io", Some(&["credential-gitlab"])).as_deref(),
        Some("gitlab 5")
    );
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("env:CI_REGISTRY_PASSWORD") && !log.contains("GITHUB"), "{log}");
    assert!(!log.contains("gitlab 5") && !log.contains("\"5\""), "{log}");
}

#[test]
fn tags_follow_from_git() {
    let facts = Facts {
        git: Some(GitFacts {
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            branch: Some("main".into()),
            tags: Vec::new(),
            default_branch: Some("main".into()),
            commit_time: Timestamp::default(),
            dirty: false,
        }),
        ci: None,
        date: Timestamp::default(),
        digest: None,
        published: Vec::new(),
    };
    let requested = Requested { repository: "registry.example/app".into(), tags: Vec::new(), options: Vec::new() };
    let host = host();
    for name in ["git", "tags-git"] {
        let Decision::Push(naming) = host.decide(name, &facts, &requested).unwrap() else { panic!("refused") };
        assert!(naming.tags.contains(&"latest".to_owned()), "{naming:?}");
    }
    let error = host.decide("none", &facts, &requested).unwrap_err();
    assert!(error.to_string().contains("tags-explicit, tags-git"), "{error}");
}

#[test]
fn taking_exec_away_forbids_run_and_nothing_else() {
    let policy = cofferdam_plugin_host::Policy::parse(
        "[plugins.instruction-run]\nallow = [\"context\", \"rootfs\", \"secrets\", \"stages\"]\n",
    )
    .unwrap();
    let host = PluginHost::load(HostOptions { policy, ..HostOptions::default() });
    let host = host.map_err(|errors| format!("{errors:?}")).unwrap();
    let findings = host.check(&step("RUN", "true"));
    assert_eq!(findings[0].code, "PluginDenied");
    assert!(findings[0].message.contains("wants `exec`"), "{findings:?}");
    assert!(host.check(&step("WORKDIR", "/app")).is_empty());
}

#[test]
fn a_host_serves_many_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let host = host();
    shared(&host);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| drop(host.plan(&step("WORKDIR", "/app")).unwrap())));
        }
    });
}
