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

/// Some rounds of builders at once; the number that says who is killed comes from `chance`.
pub fn rounds(scene: &Scene, files: &[(String, String)], rounds: usize, chance: &mut dyn FnMut() -> u64) -> [usize; 2] {
    let (mut ended, mut killed) = (0, 0);
    for round in 0..rounds {
        if round % 2 == 0 {
            let _ = std::fs::remove_dir_all(scene.site.store());
        }
        let builders: Vec<_> = (0..4)
            .map(|number| {
                // Two of them build the same.
                let (digest, file) = &files[number % (files.len().min(3))];
                let command =
                    scene.program(&["-f", file]).into_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
                (digest, command.expect("it starts"), number > 0 && chance().is_multiple_of(2))
            })
            .collect();
        for (_, child, kill) in &builders {
            if *kill {
                thread::sleep(Duration::from_millis(chance() % 120));
                signal_child(child, "KILL");
                killed += 1;
            }
        }
        for (digest, child, kill) in builders {
            let built: Finished = child.wait_with_output().expect("our child").into();
            if kill && built.code != 0 {
                assert_eq!(built.code, 137, "{}", built.stderr);
                continue;
            }
            assert_eq!(&built.success().digest(), digest);
            ended += 1;
        }
        for (digest, file) in files {
            assert_eq!(&scene.good(&["-f", file]), digest, "after round {round}");
        }
    }
    [ended, killed]
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
    let [ended, killed] = rounds(&scene, &files, 4, &mut chance(20));
    assert!(ended >= 6 && killed >= 2, "{ended} ended, {killed} were killed");
}

/// A part of `scripts/campaign.sh kills`.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    let Some(scene) = Scene::with_base() else { return };
    let files = dockerfiles(&scene, 3);
    let count = if is_short() { 3 } else { 30 };
    let [ended, killed] = rounds(&scene, &files, count, &mut chance(7));
    let text = format!(
        "{count} rounds of four builders at once on one store, two of them with the same Dockerfile: {ended} ended, each with \
         the right digest; {killed} were killed with SIGKILL. After each round every Dockerfile was built again, and nothing was left.\n"
    );
    report("sharing", &text);
}
