//! The translator against the kernel: the same calls give the same.
//!
//! Root makes the calls for real, keeps what they gave, and compares; the ordinary user that the tests run as afterwards
//! compares with what root kept.

use std::path::PathBuf;

use cofferdam_exec::{Executor, Launcher, NamespaceExecutor, Root, Stream, Tier};

use crate::{
    behaviour::Test,
    world::{Step, World},
};

/// All.
pub const TESTS: &[Test] = &[("random_calls_give_what_they_give_to_root", random_calls_give_what_they_give_to_root)];

/// How many calls each sequence has.
const CALLS: usize = 500;

/// Where root keeps what the kernel gave.
pub const EXPECTED: &str = "COFFERDAM_TEST_EXPECTED";

/// `COFFERDAM_TEST_SEQUENCES` asks for more than a minute's worth, `COFFERDAM_TEST_SEED` for others.
fn random_calls_give_what_they_give_to_root(world: &World) {
    let asked = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let sequences = asked("COFFERDAM_TEST_SEQUENCES").unwrap_or(20);
    let first = asked("COFFERDAM_TEST_SEED").unwrap_or(1);
    let mut differences = Vec::new();
    for seed in first..first + sequences {
        let step = world.program_step(&["__operations", &seed.to_string(), &CALLS.to_string()]);
        let Some(expected) = expected(world, &step, &seed.to_string()) else { return };
        let found = world.output_of(&step);
        let differs = expected.lines().zip(found.lines()).position(|(one, other)| one != other);
        if let Some(at) = differs.or((expected.lines().count() != found.lines().count()).then_some(0)) {
            let lines: Vec<&str> = expected.lines().collect();
            let before = lines[at.saturating_sub(8)..at].join("\n");
            let told = found.lines().nth(at).unwrap_or_default();
            differences.push(format!("seed {seed}:\n{before}\n  the kernel: {}\n  here:       {told}", lines[at]));
        }
        let _ = std::fs::remove_dir_all(&step.tree);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    println!("  {} calls compared", sequences as usize * CALLS);
}

/// What the kernel gives to a step, from root's own run if this is an ordinary user; `None` (reported as a skip) where
/// nobody was root.
pub fn expected(world: &World, step: &Step, name: &str) -> Option<String> {
    let Some(kept) = std::env::var_os(EXPECTED).map(|kept| PathBuf::from(kept).join(name)) else {
        println!("skipped: the other side needs root");
        return None;
    };
    Some(std::fs::read_to_string(&kept).unwrap_or_else(|_| {
        let expected = by_the_kernel(world, step);
        std::fs::write(&kept, &expected).expect("writable");
        expected
    }))
}

/// Whether root of this machine can be the other side.
pub fn has_other_side() -> bool {
    let has_namespaces = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    NamespaceExecutor::new(Launcher::default()).tier() == Tier::NativeRoot && has_namespaces
}

/// What a step gives on an overlay of its tree.
fn by_the_kernel(world: &World, step: &Step) -> String {
    let place = world.directory.join("reference");
    for name in ["upper", "work"] {
        std::fs::create_dir_all(place.join(name)).expect("a directory");
    }
    let mut request = step.request.clone();
    request.root =
        Root::Overlay { lower: vec![step.tree.clone()], upper: place.join("upper"), work: place.join("work") };
    let mut expected = Vec::new();
    let mut sink = |_: Stream, bytes: &[u8]| expected.extend_from_slice(bytes);
    let outcome = NamespaceExecutor::new(Launcher::default()).run(&request, &mut sink).expect("it runs");
    let expected = String::from_utf8_lossy(&expected).into_owned();
    assert!(outcome.exit.success(), "{expected}");
    std::fs::remove_dir_all(&place).expect("ours");
    expected
}
