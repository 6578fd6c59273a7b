//! What is refused before anything runs.

use std::fs;

use cofferdam_plan::step::Handlers;
use cofferdam_plugin_host::{HostOptions, PluginHost, Policy, pack};

use crate::guest::{self, MANIFEST, NO_FINDINGS, PROBE, Plugins, WASI, changes, step};

fn probe(manifest: &str) -> Vec<u8> {
    guest::component(PROBE, NO_FINDINGS, &changes(Vec::new()), "", manifest)
}

fn errors(options: HostOptions) -> String {
    match PluginHost::load(options) {
        Ok(_) => panic!("it was loaded"),
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    }
}

#[test]
fn every_broken_plugin_is_named_with_what_is_wrong() {
    let exec = probe(&MANIFEST.replace("\"probe\"", "\"greedy\"").replace("[\"context\"", "[\"exec\", \"context\""));
    let plugins = Plugins::new(&[
        ("noise.wasm", b"hello"),
        ("module.wasm", b"\0asm\x01\0\0\0"),
        ("plain.wasm", b"\0asm\x0d\0\x01\0"),
        ("greedy.wasm", &exec),
        ("ignored.txt", b"not a plugin"),
    ]);
    let errors = errors(plugins.options());
    for part in [
        "noise.wasm`: not a WebAssembly",
        "module.wasm`: a core module",
        "plain.wasm`: has no manifest",
        "`greedy` wants `exec`",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
}

#[test]
fn another_interface_version_is_named() {
    // `pack` itself refuses such a manifest, so the section is changed in place.
    let mut component = probe(MANIFEST);
    let at = component.windows(11).position(|bytes| bytes == b"\"api\":\"0.1\"").unwrap();
    component[at + 9] = b'3';
    let plugins = Plugins::new(&[("new.wasm", &component)]);
    let errors = errors(plugins.options());
    assert!(errors.contains("needs 0.3, this host offers 0.1"), "{errors}");
}

#[test]
fn a_manifest_must_fit_the_real_interface() {
    let policy = "api = \"0.1\"\nkind = \"tags\"\nname = \"probe\"\nversion = \"1\"\n";
    let plugins = Plugins::new(&[("probe.wasm", &probe(policy))]);
    let first = errors(plugins.options());
    assert!(first.contains("`probe` imports `cofferdam:fs/"), "{first}");
    let plugins = Plugins::new(&[("probe.wasm", &pack(b"\0asm\x0d\0\x01\0", MANIFEST).unwrap())]);
    let second = errors(plugins.options());
    assert!(second.contains("does not export `cofferdam:instruction/handler`"), "{second}");
}

#[test]
fn the_network_is_no_import() {
    let wat = WASI.replace(
        "(memory (export",
        "(import \"wasi:http/outgoing-handler@0.2.0\" \"handle\" (func (result i64)))\n(memory (export",
    );
    let imports = "import wasi:clocks/monotonic-clock@0.2.0; import wasi:random/random@0.2.0;
        import wasi:cli/environment@0.2.0; import wasi:filesystem/preopens@0.2.0; import wasi:http/outgoing-handler@0.2.0;";
    let component = guest::component(&wat, "", &changes(Vec::new()), imports, MANIFEST);
    let plugins = Plugins::new(&[("probe.wasm", &component)]);
    let errors = errors(plugins.options());
    assert!(errors.contains("imports `wasi:http/outgoing-handler@0.2.0`"), "{errors}");
}

#[test]
fn names_and_keywords_belong_to_one_plugin() {
    let twice = Plugins::new(&[("a.wasm", &probe(MANIFEST)), ("b.wasm", &probe(MANIFEST))]);
    assert!(errors(twice.options()).contains("two plugins are named `probe`"));
    let other = probe(&MANIFEST.replace("\"probe\"", "\"other\""));
    let both = Plugins::new(&[("a.wasm", &probe(MANIFEST)), ("b.wasm", &other)]);
    let errors = errors(both.options());
    assert!(
        errors.contains("`probe` and `other` both claim PROBE") || errors.contains("`other` and `probe`"),
        "{errors}"
    );
}

#[test]
fn a_first_party_keyword_is_only_for_who_is_listed() {
    let component = probe(&MANIFEST.replace("PROBE =", "COPY ="));
    let plugins = Plugins::new(&[("probe.wasm", &component)]);
    let refused = errors(plugins.options());
    assert!(refused.contains("keyword COPY") && refused.contains("[plugins.probe]"), "{refused}");
    let policy = Policy::parse("[plugins.probe]\n").unwrap();
    let host =
        PluginHost::load(HostOptions { policy, ..plugins.options() }).map_err(|errors| format!("{errors:?}")).unwrap();
    assert_eq!(host.facts("COPY").unwrap().plugin, "probe");
}

#[test]
fn compiled_code_is_kept_and_a_damaged_file_is_not_run() {
    let component = probe(MANIFEST);
    let plugins = Plugins::new(&[("probe.wasm", &component)]);
    let cache = plugins.path().join("cache");
    let load = || {
        let options = HostOptions { compile_cache: Some(cache.clone()), ..plugins.options() };
        let host = PluginHost::load(options).map_err(|errors| format!("{errors:?}")).unwrap();
        assert!(host.check(&step("PROBE", "x")).is_empty());
    };
    load();
    let file = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let kept = fs::read(&file).unwrap();
    load();
    for damage in [&kept[..kept.len() / 2], b"", &[0_u8; 4096]] {
        fs::write(&file, damage).unwrap();
        load();
        assert_eq!(fs::read(&file).unwrap().len(), kept.len(), "it is compiled anew");
    }
}
