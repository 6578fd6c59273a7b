//! Which part this process plays.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use cofferdam_exec::{
    Executor, Exit, Launcher, Network, PrivateFile, ResolvedUser, Root, RunRequest, STAGE_ARGUMENT, Stream,
    TranslatorExecutor, harden_process, run_stage_main,
};

use crate::{attack, behaviour, calls, isolation, operations, same, world};

/// Plays it.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(STAGE_ARGUMENT) => run_stage_main(),
        Some("__attack") => return attack::main(&arguments[1..]),
        Some("__operations") => return operations::main(&arguments[1..]),
        Some("__calls") => return calls::main(),
        Some("__terminals") => {
            calls::terminals();
            return ExitCode::SUCCESS;
        }
        Some("__lock") => {
            calls::lock(&arguments[1]);
            return ExitCode::SUCCESS;
        }
        Some("__whoami") => {
            println!("{} {}", rustix::process::getuid().as_raw(), rustix::process::geteuid().as_raw());
            return ExitCode::SUCCESS;
        }
        Some("__run") => return run(&arguments[1..]),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let Some(busybox) = world::busybox() else {
        println!("skipped: these tests need a static busybox (apt-get install busybox-static)");
        return ExitCode::SUCCESS;
    };
    let directory = std::env::var_os("COFFERDAM_TEST_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
    let cofferdam_exec::ProbeReport { chroot, recorded_ids, .. } = cofferdam_exec::probe(&directory);
    harden_process().expect("hardened, as the builder is");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let world = world::World::new(&directory, &busybox);
    let expected = directory.join(format!("cofferdam-expected-{}", std::process::id()));
    if same::has_other_side() {
        std::fs::create_dir(&expected).expect("a directory");
        // SAFETY: there is one thread.
        unsafe { std::env::set_var(same::EXPECTED, &expected) };
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut failed = 0;
    let tests = [behaviour::TESTS, calls::TESTS, isolation::TESTS, same::TESTS].concat();
    let mut ways = vec![
        ("", false, TranslatorExecutor::new(Launcher::default())),
        (" on layers", true, TranslatorExecutor::new(Launcher::default())),
    ];
    if chroot.is_ok() {
        ways.push((" on layers in chroot", true, TranslatorExecutor::with_chroot(Launcher::default())));
    }
    // Root has more than one id.
    if !rustix::process::geteuid().is_root() {
        match recorded_ids {
            Some(Ok(())) => {
                let executor = TranslatorExecutor::with_namespaces(Launcher::default());
                ways.push((" on layers in namespaces", true, executor));
            }
            Some(Err(reason)) => println!("skipped: in namespaces ({reason})"),
            None => println!("skipped: in namespaces, which don't exist here or have more than one id"),
        }
    }
    for (way, on_layers, executor) in ways {
        world.on_layers.set(on_layers);
        world.run_by(executor);
        for (name, test) in &tests {
            if filter.is_some_and(|filter| !format!("{name}{way}").contains(filter.as_str())) {
                continue;
            }
            let passed = catch_unwind(AssertUnwindSafe(|| test(&world))).is_ok();
            println!("test {name}{way} ... {}", if passed { "ok" } else { "FAILED" });
            failed += usize::from(!passed);
        }
    }
    drop(world);
    failed += world::again_as_an_ordinary_user(&directory, &arguments);
    let _ = std::fs::remove_dir_all(&expected);
    if failed > 0 {
        println!("{failed} failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// By hand: `__run TREE JOURNAL SCRATCH UID WORD…`.
fn run(arguments: &[String]) -> ExitCode {
    let [tree, journal, scratch, uid, words @ ..] = arguments else { return ExitCode::FAILURE };
    harden_process().expect("hardened, as the builder is");
    let uid: u32 = uid.parse().expect("a number");
    let request = RunRequest {
        root: Root::Flat { directory: tree.into(), journal: journal.into(), below: None },
        arguments: words.to_vec(),
        environment: vec![
            ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME".into(), "/root".into()),
            ("DEBIAN_FRONTEND".into(), "noninteractive".into()),
        ],
        working_directory: "/".into(),
        user: ResolvedUser { uid, gid: uid, groups: Vec::new(), home: "/".into() },
        network: Network::Host,
        hostname: "builder".into(),
        stdin: None,
        files: PrivateFile::standard("builder"),
        mounts: Vec::new(),
        scratch_directory: Path::new(scratch).into(),
        emulators: Vec::new(),
        timeout: None,
        cancel: None,
    };
    let mut sink = |stream: Stream, bytes: &[u8]| {
        use std::io::Write;
        let _ = match stream {
            Stream::Stdout => std::io::stdout().write_all(bytes),
            Stream::Stderr => std::io::stderr().write_all(bytes),
        };
    };
    match TranslatorExecutor::new(Launcher::default()).run(&request, &mut sink) {
        Ok(outcome) => match outcome.exit {
            Exit::Code(code) => ExitCode::from(code as u8),
            Exit::Signal(signal) => ExitCode::from(128 + signal as u8),
        },
        Err(error) => {
            eprintln!("{error} ({error:?})");
            ExitCode::from(125)
        }
    }
}
