//! A disk that is full, a quota that is used up, a place that can only be read: at any point of a build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use cofferdam_tests::{is_root, is_short, noise, report, run, skip, tool};

use crate::scene::{RegistryScene, Scene, ends_well, names};

/// Something mounted at `disk` in a scene's directory, until the end.
struct Disk(PathBuf);

impl Disk {
    /// A tmpfs; `None` (reported as a skip) where nothing can be mounted.
    fn tmpfs(scene: &Scene, options: &str) -> Option<Self> {
        Self::mount(scene, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// A file system in a file.
    fn image(scene: &Scene, kind: &str, megabytes: u64) -> Option<Self> {
        let make = tool(&format!("mkfs.{kind}"))?;
        let file = scene.site.path().join("image");
        fs::File::create(&file).and_then(|file| file.set_len(megabytes << 20)).expect("writable");
        run(Command::new(make).arg("-q").arg(&file)).success();
        Self::mount(scene, &["-o", "loop", &file.to_string_lossy()])
    }

    fn mount(scene: &Scene, arguments: &[&str]) -> Option<Self> {
        if !is_root() {
            skip("only root mounts disks");
            return None;
        }
        let at = scene.site.path().join("disk");
        fs::create_dir_all(&at).expect("writable");
        let mounted = run(Command::new("mount").args(arguments).arg(&at));
        if mounted.code != 0 {
            skip(&format!("no disk can be mounted: {}", mounted.stderr));
            return None;
        }
        Some(Self(at))
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn remount(&self, options: &str) {
        let remount = || run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0));
        // Another test that is just starting a process holds a copy of every descriptor for a moment.
        let mut remounted = remount();
        for _ in 0..50 {
            if remounted.code == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(100));
            remounted = remount();
        }
        remounted.success();
    }

    /// Takes the room that is left, but for so much.
    fn fill(&self, leave_kb: u64) {
        let output = run(Command::new("df").args(["--output=avail", "-k"]).arg(&self.0)).success().stdout;
        let free: u64 = output.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number");
        let file = self.0.join("filler");
        let _ = fs::remove_file(&file);
        let _ = run(Command::new("fallocate").args(["-l", &format!("{}K", free.saturating_sub(leave_kb))]).arg(&file));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

/// What a store that ran full says.
const FULL: [&str; 2] = ["No space left on device", "the disk is full: free some space, or choose another place"];

/// A disk of each of these sizes under a store. Answers how many builds failed, and how many passed.
fn sizes(sizes_kb: impl Iterator<Item = u64>) -> Option<[usize; 2]> {
    let scene = RegistryScene::new()?;
    scene.scene.site.file("more/a", noise(150_000, 5)).file("more/b", noise(10_000, 6));
    scene.scene.site.dockerfile(&format!(
        "FROM {}/library/base:1\nCOPY file /f\nFROM scratch\nCOPY --from=0 / /\nCOPY more /more/\n",
        scene.registry.host()
    ));
    let digest = scene.scene.good(&[]);
    let disk = Disk::tmpfs(&scene.scene, "size=8m,mode=755")?;
    let (mut failed, mut passed) = (0, 0);
    for (number, size_kb) in sizes_kb.enumerate() {
        disk.remount(&format!("size={size_kb}k"));
        let tag = format!("{}/full:1", scene.registry.host());
        let built = scene.scene.program_in(&disk.store(), &["--push", "--tag", &tag]).run();
        scene.scene.nothing_left(&disk.store());
        if built.code == 0 {
            passed += 1;
            assert_eq!(built.digest(), digest, "{size_kb} kB");
        } else {
            failed += 1;
            ends_well(&built, &FULL);
            let path = disk.store().to_string_lossy().into_owned();
            assert!(built.stderr.contains(&path) || built.stderr.contains("` failed"), "what failed: {}", built.stderr);
            if passed == 0 {
                assert_eq!(scene.registry.tags("full"), Some(Vec::new()), "{size_kb} kB");
            }
        }
        // What it left is of use with more room.
        if number % 2 == 0 {
            disk.remount("size=8m");
            assert_eq!(scene.scene.good_in(&disk.store(), &[]), digest, "{size_kb} kB");
        }
        fs::remove_dir_all(disk.store()).expect("ours");
    }
    Some([failed, passed])
}

#[test]
fn a_disk_that_runs_full_at_any_point_is_named_and_the_store_is_fine_with_more() {
    let Some([failed, passed]) = sizes((24..2300).step_by(152)) else { return };
    assert!(failed > 4 && passed > 1, "{failed} failed, {passed} passed");
}

/// A part of `scripts/campaign.sh faults`.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    let step = if is_short() { 100 } else { 4 };
    let Some([failed, passed]) = sizes((24..1400).step_by(step)) else { return };
    let text = format!(
        "Disks: {} sizes, every {step} kB from 24 kB on. On {failed} the build ended with the message of a full disk, on {passed} \
         with the right digest; with more room, every store gave the right one.\n",
        failed + passed
    );
    report("disks", &text);
}

#[test]
fn a_disk_that_runs_full_under_a_command_is_named() {
    let Some(scene) = Scene::with_base() else { return };
    scene.site.dockerfile("FROM base\nRUN head -c 3000000 /dev/urandom > /large && echo written\nRUN echo b > /b\n");
    let Some(disk) = Disk::tmpfs(&scene, "size=64m,mode=755") else { return };
    scene.good_in(&disk.store(), &[]);
    fs::remove_dir_all(disk.store()).expect("ours");
    let mut by_command = 0;
    for size_kb in [600, 1500, 2500, 4000, 5200, 6600, 8000] {
        disk.remount(&format!("size={size_kb}k"));
        let built = scene.program_in(&disk.store(), &[]).run();
        scene.nothing_left(&disk.store());
        if built.code != 0 {
            ends_well(&built, &["the disk is full"]);
            by_command += usize::from(built.stderr.contains("the command ended with exit code 1"));
        }
        disk.remount("size=64m");
        scene.good_in(&disk.store(), &[]);
        fs::remove_dir_all(disk.store()).expect("ours");
    }
    assert!(by_command > 0, "the command met it at least once");
}

#[test]
fn a_quota_that_is_used_up_is_named() {
    let scene = Scene::new();
    // What ext4's quotas need is in few kernels; btrfs has its own.
    let Some(btrfs) = tool("btrfs") else { return };
    let Some(disk) = Disk::image(&scene, "btrfs", 128) else { return };
    let btrfs = |arguments: &[&str]| run(Command::new(&btrfs).args(arguments));
    let volume = disk.0.join("volume");
    let (at, volume_text) = (disk.0.to_string_lossy(), volume.to_string_lossy());
    btrfs(&["subvolume", "create", &volume_text]).success();
    if btrfs(&["quota", "enable", &at]).code != 0 {
        return skip("this btrfs has no quotas");
    }
    scene.site.file("a", noise(700_000, 1)).file("b", noise(700_000, 2)).file("c", noise(700_000, 3));
    scene.site.dockerfile("FROM scratch\nCOPY a /\nCOPY b /\nCOPY c /\n");
    let digest = scene.good(&[]);
    let store = volume.join("store");
    let mut failed = 0;
    for limit in ["300K", "900K", "1500K", "2M"] {
        btrfs(&["qgroup", "limit", limit, &volume_text]).success();
        let built = scene.program_in(&store, &["--no-cache"]).run();
        scene.nothing_left(&store);
        if built.code != 0 {
            ends_well(&built, &["uota exceeded", "this user's quota is used up: free some space"]);
            failed += 1;
        }
        btrfs(&["qgroup", "limit", "none", &volume_text]).success();
        assert_eq!(scene.good_in(&store, &[]), digest);
        fs::remove_dir_all(&store).expect("ours");
    }
    assert!(failed > 0);
}

#[test]
fn a_limit_for_the_size_of_files_is_named() {
    let scene = Scene::new();
    scene.site.file("a", noise(700_000, 1)).dockerfile("FROM scratch\nCOPY a /\n");
    let mut command = Command::new("/bin/sh");
    let program = scene.program(&[]).into_command();
    let words: Vec<String> = std::iter::once(program.get_program())
        .chain(program.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // In units of 512 bytes. The signal of the limit would be a death without a word.
    command.args(["-c", &format!("ulimit -f 500; trap '' XFSZ; {}", words.join(" "))]).current_dir(scene.site.path());
    let built = run(&mut command);
    ends_well(&built, &["File too large", "`ulimit -f`"]);
    scene.nothing_left(&scene.site.store());
    scene.good(&[]);
}

#[test]
fn a_store_that_can_only_be_read_is_named_with_the_remedy() {
    let scene = Scene::new();
    scene.site.file("a", "a").dockerfile("FROM scratch\nCOPY a /\n");
    let digest = scene.good(&[]);
    let remedy = "choose another place with `--store` or COFFERDAM_STORE";
    let Some(disk) = Disk::tmpfs(&scene, "size=8m,mode=755") else { return };
    assert_eq!(scene.good_in(&disk.store(), &[]), digest);
    disk.remount("ro");
    scene.bad_in(&disk.store(), &[], &[&disk.store().to_string_lossy(), "Read-only file system", remedy]);
    // One that is not there yet.
    let new = disk.0.join("another/store");
    scene.bad_in(&new, &[], &[&new.to_string_lossy(), "Read-only file system", remedy]);
    disk.remount("rw");
    assert_eq!(scene.good_in(&disk.store(), &[]), digest);
    let file = scene.site.path().join("no-directory");
    fs::write(&file, "").expect("writable");
    scene.bad_in(&file, &[], &[&file.to_string_lossy()]);
    // Not for this user.
    let closed = scene.site.path().join("closed");
    fs::create_dir(&closed).expect("writable");
    let mut command = Command::new("setpriv");
    let program = scene.program_in(&closed.join("store"), &[]).into_command();
    command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups"]).arg(program.get_program());
    command.args(program.get_args()).env_clear().current_dir(scene.site.path());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ends_well(&run(&mut command), &[&closed.to_string_lossy(), "Permission denied", remedy]);
}

#[test]
fn outputs_that_can_not_be_written_are_named_and_leave_nothing() {
    let scene = Scene::new();
    scene.site.file("a", noise(300_000, 9)).dockerfile("FROM scratch\nCOPY a /\n");
    let digest = scene.good(&[]);
    let elsewhere = "free some space, or write to another place";
    let at = |place: &Path, kind: &str| format!("type={kind},dest={}", place.display());
    for arguments in [
        ["--digest-file", "/dev/full"],
        ["--output", "type=oci,dest=/dev/full"],
        ["--output", "type=docker,dest=/dev/full"],
        ["--audit-log", "/dev/full/log"],
    ] {
        let says = if arguments[0] == "--audit-log" { "Not a directory" } else { elsewhere };
        scene.bad(&arguments, &["/dev/full", says]);
        let kind =
            std::os::unix::fs::FileTypeExt::is_char_device(&fs::metadata("/dev/full").expect("there").file_type());
        assert!(kind, "/dev/full is what it was");
    }
    let full = fs::File::options().write(true).open("/dev/full").expect("there");
    for arguments in [&["--output", "type=oci,dest=-"][..], &[]] {
        let mut command = scene.program(arguments).into_command();
        let child = command.stdout(full.try_clone().expect("a file")).stderr(std::process::Stdio::piped()).spawn();
        let built = child.and_then(std::process::Child::wait_with_output).expect("it runs").into();
        ends_well(&built, &["standard output", "No space left on device"]);
    }
    let Some(disk) = Disk::tmpfs(&scene, "size=8m,mode=755") else { return };
    disk.fill(100);
    fs::write(disk.0.join("small"), "what was there").expect("there is room");
    let tag = |place: &Path| place.file_name().expect("a name").to_string_lossy().into_owned();
    for (kind, name) in [("oci", "image.tar"), ("docker", "image.tar"), ("oci,tar=false", "layout"), ("oci", "small")] {
        let place = disk.0.join(name);
        scene.bad(&["--output", &at(&place, kind)], &[&place.to_string_lossy(), "No space left on device", elsewhere]);
        let mut left = names(&disk.0);
        left.sort();
        assert_eq!(left, ["filler", "small"], "{}", tag(&place));
    }
    assert_eq!(fs::read_to_string(disk.0.join("small")).expect("there"), "what was there");
    fs::remove_file(disk.0.join("filler")).expect("ours");
    assert_eq!(scene.good(&["--output", &at(&disk.0.join("image.tar"), "oci")]), digest);
    for (output, says) in [("/nonexistent/image.tar", "No such file"), ("/proc/image.tar", "No such file")] {
        scene.bad(&["--output", &at(Path::new(output), "oci")], &[output, says]);
    }
}
