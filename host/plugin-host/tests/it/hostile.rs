//! Plugins that do their worst: each ends as an error with its name, soon, and the next call works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cofferdam_plan::step::Handlers;
use cofferdam_plugin_host::{HostOptions, Limits, PluginHost};

use crate::guest::{self, MANIFEST, NO_FINDINGS, PROBE, Plugins, changes, step};

/// What the host says of a `check` with this body.
fn check(body: &str) -> String {
    let limits = Limits { memory_bytes: 8 << 20, deadline: Duration::from_millis(200), ..Limits::default() };
    let component = guest::component(PROBE, body, &changes(Vec::new()), "", MANIFEST);
    let host = guest::host(&component, limits);
    let begun = Instant::now();
    let findings = host.check(&step("PROBE", "x"));
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, "PluginFailed");
    assert!(findings[0].message.contains("`probe`"), "{}", findings[0].message);
    // The host lives on.
    assert!(host.facts("PROBE").is_some());
    findings[0].message.clone()
}

#[test]
fn an_endless_loop_ends_by_its_deadline() {
    let message = check("(loop (br 0)) unreachable");
    assert!(message.contains("took too long"), "{message}");
}

#[test]
fn growing_memory_ends_at_the_limit() {
    let message = check("(loop (drop (memory.grow (i32.const 16))) (br 0)) unreachable");
    assert!(message.contains("ran out of memory") && message.contains("8 MiB"), "{message}");
}

#[test]
fn a_trap_is_reported() {
    let message = check("unreachable");
    assert!(message.contains("crashed"), "{message}");
}

#[test]
fn a_stack_too_deep_is_reported() {
    let deep = "(call $deep)) (func $deep (result i32) (i32.add (call $deep) (i32.const 1))";
    let component = guest::component(PROBE, deep, &changes(Vec::new()), "", MANIFEST);
    let host = guest::host(&component, Limits::default());
    let findings = host.check(&step("PROBE", "x"));
    assert!(findings[0].message.contains("crashed"), "{findings:?}");
}

#[test]
fn an_answer_outside_of_memory_is_reported() {
    let message = check("(i32.const 0x7ffffff0)");
    assert!(message.contains("misbehaved") || message.contains("crashed"), "{message}");
    let message = check("(i64.store (i32.const 2048) (i64.const 0xffffffff00000000)) (i32.const 2048)");
    assert!(message.contains("misbehaved") || message.contains("crashed"), "{message}");
}

#[test]
fn an_answer_without_end_is_cut() {
    // 60,000 findings of 52 zero bytes each.
    let body = "(drop (memory.grow (i32.const 60))) (i32.store (i32.const 2048) (i32.const 131072))
        (i32.store (i32.const 2052) (i32.const 60000)) (i32.const 2048)";
    let component = guest::component(PROBE, body, &changes(Vec::new()), "", MANIFEST);
    let host = guest::host(&component, Limits::default());
    assert_eq!(host.check(&step("PROBE", "x")).len(), 1000);
}

#[test]
fn an_interrupt_ends_a_call() {
    let component = guest::component(PROBE, "(loop (br 0)) unreachable", &changes(Vec::new()), "", MANIFEST);
    let plugins = Plugins::new(&[("probe.wasm", &component)]);
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    let host = PluginHost::load(HostOptions {
        interrupt: Some(Arc::new(move || seen.load(Ordering::Relaxed))),
        limits: Limits { deadline: Duration::from_secs(60), ..Limits::default() },
        ..plugins.options()
    });
    let host = host.map_err(|errors| format!("{errors:?}")).unwrap();
    let begun = Instant::now();
    thread::scope(|scope| {
        let call = scope.spawn(|| host.check(&step("PROBE", "x")));
        thread::sleep(Duration::from_millis(100));
        flag.store(true, Ordering::Relaxed);
        assert_eq!(call.join().unwrap()[0].message, "interrupted");
    });
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_not_claimed_is_a_finding() {
    let host =
        guest::host(&guest::component(PROBE, NO_FINDINGS, &changes(Vec::new()), "", MANIFEST), Limits::default());
    assert_eq!(host.check(&step("NOPE", ""))[0].code, "UnknownInstruction");
    assert!(host.check(&step("PROBE", "")).is_empty());
}
