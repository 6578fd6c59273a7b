//! Real commands in real namespaces: as whoever runs the tests, and, if that is root, also as an ordinary user with
//! subordinate ids and as one without.
//!
//! The program is its own harness because it plays all parts: the builder, the stage process, the attacker inside a RUN
//! and the victim outside.

#![allow(unsafe_code, reason = "the attacker has no safe ptrace")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests make their own files and processes")]

mod attack;
mod behaviour;
mod isolation;
mod lifetime;
mod users;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
};

use cofferdam_exec::{Launcher, STAGE_ARGUMENT, Tier, harden_process, probe, run_stage_main};
use world::World;

/// A name and what it does.
type Test = (&'static str, fn(&World));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(STAGE_ARGUMENT) => run_stage_main(),
        Some("__attack") => return attack::main(&arguments[1..]),
        Some("__victim") => return attack::victim(),
        Some("__launcher") => return lifetime::launcher(&arguments[1..]),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let Some(busybox) = world::busybox() else {
        println!("skipped: these tests need a static busybox (apt-get install busybox-static)");
        return ExitCode::SUCCESS;
    };
    let directory = std::env::var_os("COFFERDAM_TEST_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
    let started = std::time::Instant::now();
    let report = probe(&directory);
    let took = started.elapsed();
    for finding in report.findings() {
        println!("  {:12} {:5} {} {}", finding.name, finding.works, finding.why, finding.remedy);
    }
    println!("  probed in {took:?}");
    assert!(world::leftovers(&directory).is_empty(), "the probe left something behind");
    let best = report.best();
    if let Some(wanted) = std::env::var_os("COFFERDAM_TEST_TIER") {
        assert_eq!(best.map(Tier::name).unwrap_or("none"), wanted, "the tier that this environment must give");
    }
    let Some(executor) = report.settle_on_overlays(Launcher::default(), report.native.is_ok()).expect("entered") else {
        println!("skipped: nothing can run commands here ({})", report.userns.expect_err("nothing works"));
        return ExitCode::SUCCESS;
    };
    harden_process().expect("hardened, as the builder is");
    // The image's modes are what the tests say, whoever runs them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let world = World::new(&directory, busybox, executor);
    println!("  tier {}, ids {:?}", world.tier(), world.ids());

    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let tests: Vec<Test> = [behaviour::TESTS, isolation::TESTS, lifetime::TESTS].concat();
    let mut failed = 0;
    for (name, test) in tests {
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let passed = catch_unwind(AssertUnwindSafe(|| test(&world))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    drop(world);
    failed += users::again_as_ordinary_users(best, &directory, &arguments);
    if failed > 0 {
        println!("{failed} failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
