//! The same tests again as users without privileges, where root runs them: in a mount namespace whose user database and
//! subordinate ids are our own, so that the machine is not touched.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use cofferdam_exec::Tier;

const UID: u32 = 54321;

/// Returns how many kinds of user had failures.
pub fn again_as_ordinary_users(tier: Option<Tier>, directory: &Path, arguments: &[String]) -> usize {
    if tier != Some(Tier::NativeRoot) || std::env::var_os("COFFERDAM_TEST_TIER").is_some() {
        return 0;
    }
    let has = |program: &str| Command::new(program).arg("--help").output().is_ok();
    if !has("unshare") || !has("setpriv") {
        println!("skipped: tests as an ordinary user need unshare and setpriv (util-linux)");
        return 0;
    }
    let place = directory.join(format!("cofferdam-exec-user-{}", std::process::id()));
    fs::create_dir_all(place.join("store")).expect("a directory");
    for path in [place.clone(), place.join("store")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    std::os::unix::fs::chown(place.join("store"), Some(UID), Some(UID)).expect("an owner");
    let program = place.join("tests");
    fs::copy(std::env::current_exe().expect("a program"), &program).expect("the tests");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("permissions");

    let mut failed = 0;
    for (what, subordinate) in [("with subordinate ids", "build:900000:65536\n"), ("with a single id", "")] {
        if !subordinate.is_empty() && !has("newuidmap") {
            println!("skipped: tests {what} need newuidmap and newgidmap (apt-get install uidmap)");
            continue;
        }
        println!("again as an ordinary user {what}:");
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = format!("build:x:{UID}:{UID}::/nonexistent:/bin/sh\n");
        fs::write(place.join("passwd"), passwd + &user).expect("passwd");
        fs::write(place.join("subuid"), subordinate).expect("subuid");
        let script = "set -e; cd /; for f in passwd subuid:subuid subuid:subgid; do from=${f%%:*}; to=${f##*:}
            [ -e /etc/$to ] || continue; mount --bind $PLACE/$from /etc/$to; done
            exec setpriv --reuid $UID_ --regid $UID_ --clear-groups --inh-caps=-all -- $PLACE/tests \"$@\"";
        let status = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "tests"])
            .args(arguments)
            .env("PLACE", &place)
            .env("UID_", UID.to_string())
            .env("COFFERDAM_TEST_TIER", "userns")
            .env("COFFERDAM_TEST_DIRECTORY", place.join("store"))
            .status()
            .expect("unshare");
        failed += usize::from(!status.success());
    }
    let _ = fs::remove_dir_all(place);
    failed
}
