//! `apply` sees what `plan` declared, and nothing else.

use std::{fs, os::unix::fs::symlink, sync::Arc};

use cofferdam_plan::step::{Handlers, Read};
use cofferdam_plugin_host::{
    ApplyError, AuditLog, Command, CommandMount, Exit, HostOptions, Limits, PluginHost, RunCommand, RunCommandError,
};
use cofferdam_rootfs::{Attributes, Owner, RootPath};

use crate::guest::{self, MANIFEST, NO_FINDINGS, PROBE, Plugins, apply, changes, context_read, rootfs, step, tree};

fn host(reads: Vec<Read>) -> PluginHost {
    guest::host(&guest::component(PROBE, NO_FINDINGS, &changes(reads), "", MANIFEST), Limits::default())
}

/// A context with a secret in it, and ways to it.
fn context() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::create_dir_all(path.join("src/sub")).unwrap();
    fs::write(path.join("src/a"), "a").unwrap();
    fs::write(path.join("src/sub/b.o"), "b").unwrap();
    fs::write(path.join("secret"), "s").unwrap();
    symlink("../secret", path.join("src/out")).unwrap();
    symlink("sub/b.o", path.join("src/in")).unwrap();
    symlink("src", path.join("link")).unwrap();
    directory
}

fn is_denied(result: Result<impl std::fmt::Debug, ApplyError>, capability: &str, path: &str) {
    match result {
        Err(ApplyError::Denied { plugin, capability: named, message }) => {
            assert_eq!((plugin.as_str(), named.as_str()), ("probe", capability));
            assert!(message.contains(path), "{message}");
        }
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn an_undeclared_read_of_the_context_is_denied() {
    let host = host(vec![context_read(&["src"], &["sub/*.o"])]);
    let (directory, root) = (context(), rootfs());
    let tree = tree(directory.path());
    let probe = |text: &str| apply(&host, &step("PROBE", text), &root, &[&tree]);
    for text in ["osrc/a", "o/src/./sub/../a", "ssrc", "dsrc", "dsrc/sub", "s/"] {
        probe(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
    for text in
        ["osecret", "ssecret", "osrc/../secret", "ssrc/sub/b.o", "osrc/out", "ssrc/out", "osrc/in", "d/", "olink/a"]
    {
        is_denied(probe(text), "context", text[1..].rsplit('/').next().unwrap());
    }
    // Not there, but covered: not a denial.
    assert!(matches!(probe("osrc/none"), Err(ApplyError::Invalid(_))));
}

#[test]
fn a_declared_symlink_is_followed() {
    let host = host(vec![context_read(&["link"], &[])]);
    let (directory, root) = (context(), rootfs());
    let tree = tree(directory.path());
    let probe = |text: &str| apply(&host, &step("PROBE", text), &root, &[&tree]);
    probe("olink/a").unwrap();
    probe("olink/in").unwrap();
    is_denied(probe("olink/out"), "context", "secret");
    is_denied(probe("osrc/a"), "context", "src/a");
}

#[test]
fn an_undeclared_read_of_the_root_file_system_is_denied() {
    let host = host(vec![Read::RootfsPath(b"/etc/passwd".to_vec())]);
    let root = rootfs();
    let put = |path: &str| {
        let mut root = root.lock().unwrap();
        let attributes = Attributes { mode: 0o644, owner: Owner::default(), mtime: None };
        let mut writer = root.put_file(&RootPath::new(path).unwrap(), &attributes).unwrap();
        writer.write(b"x").unwrap();
        root.finish_file(writer).unwrap();
    };
    put("etc/passwd");
    put("etc/shadow");
    let probe = |text: &str| apply(&host, &step("PROBE", text), &root, &[]);
    probe("r/etc/passwd").unwrap();
    is_denied(probe("r/etc/shadow"), "rootfs", "/etc/shadow");
    // By a symlink that the step makes itself.
    is_denied(probe("p/etc/shadow"), "rootfs", "/l");
}

#[test]
fn a_whole_root_file_system_is_all_readable() {
    let host = host(vec![Read::WholeRootfs]);
    // Nothing is there; that may be known.
    let result = apply(&host, &step("PROBE", "r/etc/shadow"), &rootfs(), &[]);
    assert!(matches!(result, Err(ApplyError::Invalid(_))), "{result:?}");
}

#[test]
fn what_the_manifest_does_not_want_can_not_be_planned() {
    let manifest = MANIFEST.replace("\"context\", ", "");
    let planned = changes(vec![context_read(&["/"], &[])]);
    let host = guest::host(&guest::component(PROBE, NO_FINDINGS, &planned, "", &manifest), Limits::default());
    let findings = host.plan(&step("PROBE", "o")).unwrap_err();
    assert_eq!(findings[0].code, "PluginDenied");
    assert!(findings[0].message.contains("`context`"), "{findings:?}");
}

struct Nothing;

impl RunCommand for Nothing {
    fn run(&mut self, _command: Command, _mounts: Vec<CommandMount>) -> Result<Exit, RunCommandError> {
        Ok(Exit::Code(0))
    }
}

#[test]
fn the_executor_is_handed_to_who_wants_it_and_declared_the_whole_root() {
    let whole = || changes(vec![Read::WholeRootfs]);
    let wants = MANIFEST.replace("\"rootfs\"", "\"rootfs\", \"exec\"");
    for (planned, manifest, handed) in
        [(whole(), wants.as_str(), true), (changes(Vec::new()), wants.as_str(), false), (whole(), MANIFEST, false)]
    {
        let component = guest::component(PROBE, NO_FINDINGS, &planned, "", manifest);
        let plugins = Plugins::new(&[("probe.wasm", &component)]);
        let mut options = plugins.options();
        options.policy.allow("probe:exec".parse().unwrap());
        let host = PluginHost::load(options).map_err(|errors| format!("{errors:?}")).unwrap();
        let result = guest::apply_with(&host, &step("PROBE", "x"), &rootfs(), &[], Some(Box::new(Nothing)));
        assert_eq!(result.is_ok(), handed, "{result:?}");
    }
}

#[test]
fn uses_of_capabilities_are_logged() {
    let component = guest::component(PROBE, NO_FINDINGS, &changes(vec![context_read(&["src"], &[])]), "", MANIFEST);
    let plugins = Plugins::new(&[("probe.wasm", &component)]);
    let path = plugins.path().join("audit.jsonl");
    let audit = Some(Arc::new(AuditLog::open(&path).unwrap()));
    let host =
        PluginHost::load(HostOptions { audit, ..plugins.options() }).map_err(|errors| format!("{errors:?}")).unwrap();
    let directory = context();
    apply(&host, &step("PROBE", "osrc/a"), &rootfs(), &[&tree(directory.path())]).unwrap();
    let log = fs::read_to_string(path).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&line["plugin"], &line["capability"], &line["detail"]),
        (&"probe".into(), &"context".into(), &"read /src/a".into())
    );
    assert!(line["digest"].as_str().unwrap().starts_with("sha256:"));
}
