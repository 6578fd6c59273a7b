//! A command of a build can't see its builder.
//!
//! `probe.pl` lists the probes. It runs as a RUN of a build that holds secrets (the password with which it pulled the base,
//! variables, an argument, an open descriptor, its configuration, its store), where it must find none. While that command
//! still runs, the same script runs on the machine without isolation: there every probe must find the secret of the same
//! builder, or it would prove nothing.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{PermissionsExt, chown},
            net::{SocketAddr, UnixListener},
        },
    },
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use cofferdam_tests::{Registry, Site, base, binary, is_root, run, signal_child, skip, tool};

const PROBES: [&str; 11] =
    ["environ", "cmdline", "memory", "descriptor", "root", "cwd", "ptrace", "kill", "socket", "config", "store"];

/// The results of the probes among lines of output: whether each found something.
fn results<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, bool> {
    let result = |line: &str| {
        let (name, result) = line.split_once("probe ")?.1.split_once(' ')?;
        Some((name.to_owned(), result.trim() == "found"))
    };
    lines.into_iter().filter_map(result).collect()
}

fn all(found: bool) -> BTreeMap<String, bool> {
    PROBES.iter().map(|probe| ((*probe).to_owned(), found)).collect()
}

/// A socket without a file, as the services of a machine have them; whoever connects is told a secret.
fn listen(name: &str) {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("not in use");
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = connection.write_all(b"quince-socket-4711");
        }
    });
}

/// Builds with the builder as this user, and probes from inside and from outside.
fn probe_as(user: Option<u32>, executor: &str) {
    // Each would see the other's builder.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_root() {
        return skip("the probes without isolation need root");
    }
    let (Some(layout), Some(registry), Some(perl), Some(setpriv)) =
        (base("debian"), Registry::with_password(), tool("perl"), tool("setpriv"))
    else {
        return;
    };
    if registry.load(&layout, "latest", "base").is_none() {
        return;
    }
    let site = Site::new();
    let socket = format!("cofferdam-tests-{}-{executor}-{}", std::process::id(), user.unwrap_or_default());
    listen(&socket);
    let config = registry.docker_config();
    let here = site.path();
    let probe = format!("perl /probe.pl {} {socket} {}", here.display(), config.display());
    site.file("probe.pl", include_str!("probe.pl"));
    site.dockerfile(&format!("FROM {}/base\nCOPY probe.pl /\nRUN {probe}; echo ready; sleep 120\n", registry.host()));
    fs::write(here.join("on-the-machine"), "quince-machine-4711").expect("writable");
    fs::write(here.join("descriptor"), "quince-descriptor-4711").expect("writable");
    fs::create_dir(site.store()).expect("writable");
    fs::copy(binary(), here.join("cofferdam")).expect("writable");
    fs::set_permissions(here.join("cofferdam"), PermissionsExt::from_mode(0o755)).expect("ours");
    if let Some(user) = user {
        for path in [here, &site.store()] {
            chown(path, Some(user), Some(user)).expect("root");
        }
    }

    let mut command = Command::new(setpriv);
    if let Some(user) = user {
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        command.args([&uid, &gid, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    }
    // The shell opens the descriptor that the builder inherits; nothing but the descriptor leads to the file then.
    let script = "exec 9<descriptor && rm descriptor && exec ./cofferdam \"$@\"";
    command.args(["/bin/sh", "-c", script, "sh", "build", "--progress", "plain", "--label", "x=quince-cmdline-4711"]);
    command
        .args(["--executor", executor, "--tag", &format!("{}/out", registry.host()), "--push", "context"])
        .current_dir(here);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", here);
    command.env("DOCKER_CONFIG", &config).env("COFFERDAM_STORE", site.store()).env("TOKEN", "quince-environ-4711");
    let mut builder =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("setpriv starts");
    let mut lines = BufReader::new(builder.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let mut log: Vec<String> = Vec::new();
    let ready = lines.by_ref().inspect(|line| log.push(line.clone())).any(|line| line.ends_with(" ready"));
    let outside = ready.then(|| outside(&perl, &site, &socket, &config));
    // The command sleeps until it is told to end.
    signal_child(&builder, "TERM");
    std::thread::spawn(move || lines.count());
    let status = builder.wait().expect("ends");

    assert!(ready, "the command did not come to its end: {status}\n{}", log.join("\n"));
    assert_eq!(outside, Some(all(true)), "without isolation each probe finds the builder's secret");
    assert_eq!(results(log.iter().map(String::as_str)), all(false), "{}", log.join("\n"));
    assert_eq!(status.code(), Some(143), "stopped by the test, not by a probe");
}

/// The same probes where nothing stands in their way.
fn outside(perl: &Path, site: &Site, socket: &str, config: &Path) -> BTreeMap<String, bool> {
    let mut command = Command::new(perl);
    command.arg(site.context().join("probe.pl")).arg(site.path()).arg(socket).arg(config);
    let done = run(&mut command);
    results(done.stdout.lines().chain(done.stderr.lines()))
}

#[test]
fn a_command_of_native_root_sees_nothing_of_its_builder() {
    probe_as(None, "native");
}

#[test]
fn a_command_of_an_ordinary_user_sees_nothing_of_its_builder() {
    // With namespaces of its own, and a translator for the ids that it does not have.
    probe_as(Some(54_321), "userns");
}

#[test]
fn a_command_on_a_real_root_sees_nothing_of_its_builder() {
    probe_as(None, "chroot");
}

#[test]
fn a_command_without_namespaces_sees_nothing_of_its_builder() {
    probe_as(Some(54_322), "emulated");
}
