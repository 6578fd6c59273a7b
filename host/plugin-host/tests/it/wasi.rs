//! The world that a plugin sees which imports WASI.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use cofferdam_plan::step::{Effect, Handlers, Planned};
use cofferdam_plugin_host::{ApplyError, Limits, PluginHost};

use crate::guest::{self, MANIFEST, WASI, apply, changes, context_read, rootfs, step, tree};

const IMPORTS: &str = "import wasi:clocks/monotonic-clock@0.2.0; import wasi:random/random@0.2.0;
    import wasi:cli/environment@0.2.0; import wasi:filesystem/preopens@0.2.0;";

fn host(planned: &Planned) -> PluginHost {
    guest::host(&guest::component(WASI, "", planned, IMPORTS, MANIFEST), Limits::default())
}

#[test]
fn there_is_nothing_in_it_and_no_time_passes() {
    let host = host(&changes(Vec::new()));
    let look = |text: &str| {
        let findings = host.check(&step("PROBE", text));
        findings[0].span.unwrap_or_else(|| panic!("{findings:?}"))
    };
    let begun = Instant::now();
    let first = look("a");
    assert!(begun.elapsed() < Duration::from_secs(60), "an hour's sleep took {:?}", begun.elapsed());
    // The time and the number of variables; the number of directories.
    assert_eq!((first.end.line, first.end.column), (0, 0));
    assert_eq!(look("a").start, first.start, "the same step has the same randomness");
    assert_ne!(look("b").start, first.start, "another step has another");
}

#[test]
fn the_context_is_there_as_far_as_it_was_declared() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::create_dir_all(path.join("src/sub")).unwrap();
    for file in ["src/a", "src/b.o", "src/sub/c", "secret"] {
        fs::write(path.join(file), file).unwrap();
    }
    symlink("src/a", path.join("link")).unwrap();
    symlink("/etc/passwd", path.join("src/passwd")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let planned = changes(vec![context_read(&["src", "link"], &["*.o"])]);
    let component = guest::component(WASI, "", &planned, IMPORTS, MANIFEST);
    let plugins = guest::Plugins::new(&[("probe.wasm", &component)]);
    let options = cofferdam_plugin_host::HostOptions { scratch: Some(scratch.path().to_owned()), ..plugins.options() };
    let host = PluginHost::load(options).map_err(|errors| format!("{errors:?}")).unwrap();
    let (tree, root) = (tree(path), rootfs());
    let open = |text: &str| apply(&host, &step("PROBE", text), &root, &[&tree]);
    for file in ["src/a", "src/sub/c", "src/sub", "link"] {
        open(file).unwrap_or_else(|error| panic!("{file}: {error:?}"));
    }
    for file in ["secret", "src/b.o", "src/passwd", "../secret", "/etc/passwd", "src/../../etc/passwd"] {
        assert!(matches!(open(file), Err(ApplyError::Invalid(_))), "{file}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the copy is removed");
}

#[test]
fn without_a_declared_read_there_is_no_directory() {
    let planned = Planned { reads: Vec::new(), changes: Vec::new(), effect: Effect::RootFileSystem };
    let result = apply(&host(&planned), &step("PROBE", "src/a"), &rootfs(), &[]);
    assert!(matches!(result, Err(ApplyError::Call(_))), "{result:?}");
}
