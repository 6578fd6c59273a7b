//! Several builders on one store, with and without kills.

use std::{process::Stdio, thread, time::Duration};

use cofferdam_tests::{Finished, is_root, is_short, noise, report, signal_child, skip};

use crate::scene::Scene;

/// Builds that begin alike and end differently.
fn dockerfiles(scene: &Scene, count: usize) -> Vec<(String, String)> {
    scene.site.file("file", noise(1_000_000, 4));
    let mark = scene.mark();
    let write = |number: usize| {
        let name = format!("Dockerfile.{number}");
        let text = format!(
            "FROM base\nRUN : {mark}; seq 1 20000 > /one\nCOPY file /\nRUN : {mark}; seq {number} 30000 > /two; sleep 0.05\n"
        );
        scene.site.file(&name, text);
        scene.site.context().join(name).to_string_lossy().into_owned()
    };
    let files: Vec<String> = (0..count).map(write).collect();
    let store = scene.site.path().join("reference");
    files.into_iter().map(|file| (scene.good_in(&store, &["-f", &file]), file)).collect()
}

/// What rounds came to.
#[derive(Default)]
struct Tally {
    ended: usize,
    killed: usize,
    freed_bytes: u64,
}

/// A round of builders at once, some of whom are killed, with room being made beside them; the numbers that say who and when come
/// from `chance`. After it the store is sound, and every build gives what it always gave.
fn round(
    scene: &Scene,
    files: &[(String, String)],
    builders: usize,
    chance: &mut dyn FnMut() -> u64,
    tally: &mut Tally,
) {
    let builders: Vec<_> = (0..builders)
        .map(|number| {
            // Some of them build the same.
            let (digest, file) = &files[number % files.len()];
            let command =
                scene.program(&["-f", file]).into_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            (digest, command.expect("it starts"), number > 0 && chance().is_multiple_of(2))
        })
        .collect();
    let mut pruner = None;
    for (_, child, kill) in &builders {
        if *kill {
            thread::sleep(Duration::from_millis(chance() % 120));
            signal_child(child, "KILL");
            tally.killed += 1;
        } else if pruner.is_none() && chance().is_multiple_of(3) {
            let mut command = scene.care(&["prune", "--all", "--format", "json"]).into_command();
            pruner = Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
        }
    }
    for (digest, child, kill) in builders {
        let built: Finished = child.wait_with_output().expect("our child").into();
        if kill && built.code != 0 {
            assert_eq!(built.code, 137, "{}", built.stderr);
            continue;
        }
        assert_eq!(&built.success().digest(), digest);
        tally.ended += 1;
    }
    if let Some(pruner) = pruner {
        let pruned: Finished = pruner.wait_with_output().expect("our child").into();
        let answer: serde_json::Value = serde_json::from_str(&pruned.success().stdout).expect("JSON");
        tally.freed_bytes += answer["freed-bytes"].as_u64().expect("a number");
    }
    let checked = scene.care(&["store", "check"]).run();
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    for (digest, file) in files {
        assert_eq!(&scene.good(&["-f", file]), digest);
    }
}

/// Numbers that look like chance, from a number.
pub fn chance(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn builders_on_one_store_never_disturb_each_other() {
    if !is_root() {
        return skip("RUN is tested as root here");
    }
    let Some(scene) = Scene::with_base() else { return };
    let files = dockerfiles(&scene, 3);
    let (mut tally, mut chance) = (Tally::default(), chance(20));
    for _ in 0..2 {
        let _ = std::fs::remove_dir_all(scene.site.store());
        (0..2).for_each(|_| round(&scene, &files, 4, &mut chance, &mut tally));
    }
    assert!(tally.ended >= 6 && tally.killed >= 2, "{} ended, {} were killed", tally.ended, tally.killed);
}

/// A part of `scripts/campaign.sh kills`.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    const BUILDERS: usize = 8;
    let Some(scene) = Scene::with_base() else { return };
    let files = dockerfiles(&scene, 3);
    let kills = if is_short() { 10 } else { 200 };
    let (mut tally, mut chance, mut rounds) = (Tally::default(), chance(7), 0);
    while tally.killed < kills {
        if rounds % 2 == 0 {
            let _ = std::fs::remove_dir_all(scene.site.store());
        }
        round(&scene, &files, BUILDERS, &mut chance, &mut tally);
        rounds += 1;
    }
    let Tally { ended, killed, freed_bytes } = tally;
    let text = format!(
        "{rounds} rounds of {BUILDERS} builders at once on one store, with three Dockerfiles: {ended} ended, each with the right \
         digest; {killed} were killed with SIGKILL at random moments; `cofferdam prune --all` beside them freed {} MB. After \
         each round `cofferdam store check` found nothing, every Dockerfile was built again to the same digest, and nothing was \
         left.\n",
        freed_bytes / 1_000_000
    );
    report("sharing", &text);
}
