//! Nothing outlives a command, or its builder.

use std::{
    fs,
    io::BufRead,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use cofferdam_exec::{Cancel, ExecError, Executor, Exit, Launcher, NamespaceExecutor, RunRequest, Stream};

use crate::{Test, world::World};

pub const TESTS: &[Test] = &[
    ("daemons_end_with_the_command", daemons),
    ("a_command_that_takes_too_long_is_stopped", timeout),
    ("a_command_can_be_cancelled", cancel),
    ("a_killed_builder_leaves_no_process_and_no_mount", killed_builder),
    ("commands_run_side_by_side", side_by_side),
    ("ten_thousand_short_processes", many_processes),
];

/// Processes of the machine that have a word among their arguments, but for this one.
fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes()) {
            found.push(String::from_utf8_lossy(&arguments).replace('\0', " "));
        }
    }
    found
}

/// Waits until nothing of a command is left.
fn assert_gone(word: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes_with(word).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", processes_with(word));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn unique(kind: u32) -> String {
    format!("{}{kind}", 100_000 + std::process::id())
}

fn daemons(world: &World) {
    let seconds = unique(1);
    let script = format!(
        "setsid sleep {seconds} & (sleep {seconds} &) ; nohup sleep {seconds} >/dev/null 2>&1 & sleep 0.1; exit 3"
    );
    let started = Instant::now();
    assert_eq!(world.exit(&script), Exit::Code(3));
    assert!(started.elapsed() < Duration::from_secs(10), "the output ends with the command");
    assert_eq!(processes_with(&seconds), Vec::<String>::new(), "at once, when `run` returns");
}

fn timeout(world: &World) {
    let seconds = unique(2);
    let mut step = world.step(&format!("trap '' TERM INT; setsid sleep {seconds} & sleep {seconds}"));
    step.request.timeout = Some(Duration::from_millis(300));
    assert!(matches!(world.try_run(&step), Err(ExecError::TimedOut { .. })));
    assert_gone(&seconds);
}

fn cancel(world: &World) {
    let seconds = unique(3);
    let mut step = world.step(&format!("echo started; sleep {seconds}"));
    let cancel = Cancel::new().expect("a handle");
    step.request.cancel = Some(cancel.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            cancel.cancel();
        });
        assert!(matches!(world.try_run(&step), Err(ExecError::Cancelled)));
    });
    assert_gone(&seconds);
}

/// The builder that gets killed: runs the request in a file, passing the output on.
pub fn launcher(arguments: &[String]) -> ExitCode {
    let request: RunRequest = serde_json::from_slice(&fs::read(&arguments[0]).expect("a request")).expect("a request");
    let mut sink = |_: Stream, bytes: &[u8]| {
        use std::io::Write;
        std::io::stdout().write_all(bytes).expect("standard output");
        std::io::stdout().flush().expect("standard output");
    };
    NamespaceExecutor::new(Launcher::default()).run(&request, &mut sink).expect("it ran");
    ExitCode::SUCCESS
}

/// How many processes see a mount below a directory.
fn mounts_of(directory: &Path) -> usize {
    // Paths in there start at the root of the file system, which a container does not see.
    let names: Vec<_> = directory.iter().rev().take(2).map(|name| name.to_string_lossy()).collect();
    let directory = format!("{}/{}", names[1], names[0]);
    let mounts = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let mounts = fs::read_to_string(entry.ok()?.path().join("mountinfo")).ok()?;
        mounts.contains(&directory).then_some(())
    });
    mounts.count()
}

fn killed_builder(world: &World) {
    let seconds = unique(4);
    let step = world.step(&format!("(setsid sleep {seconds} &) ; echo started; sleep {seconds}"));
    let file = world.directory.join("request.json");
    fs::write(&file, serde_json::to_vec(&step.request).expect("JSON")).expect("a file");
    for _ in 0..5 {
        let mut builder = Command::new(std::env::current_exe().expect("a program"))
            .arg("__launcher")
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a builder");
        let mut line = String::new();
        let mut output = std::io::BufReader::new(builder.stdout.take().expect("output"));
        output.read_line(&mut line).expect("output");
        assert_eq!(line, "started\n");
        let deadline = Instant::now() + Duration::from_secs(5);
        while processes_with(&seconds).len() < 2 {
            assert!(Instant::now() < deadline, "the test can find the command");
        }
        assert!(mounts_of(&step.request.scratch_directory) > 0, "and its mounts");
        builder.kill().expect("killed");
        builder.wait().expect("killed");
        assert_gone(&seconds);
        let deadline = Instant::now() + Duration::from_secs(5);
        while mounts_of(&step.request.scratch_directory) > 0 {
            assert!(Instant::now() < deadline, "no mount is left anywhere");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // What the killed ones had in the scratch directory is the store's to clean.
    for entry in fs::read_dir(&step.request.scratch_directory).expect("a directory") {
        fs::remove_dir_all(entry.expect("an entry").path()).expect("removed");
    }
}

fn side_by_side(world: &World) {
    let steps: Vec<_> = (0..8).map(|number| world.step(&format!("sleep 0.2; echo {number} >/srv/number"))).collect();
    let executor = NamespaceExecutor::new(Launcher::default());
    std::thread::scope(|scope| {
        for step in &steps {
            let executor = &executor;
            scope.spawn(move || executor.run(&step.request, &mut |_: Stream, _: &[u8]| {}).expect("it ran"));
        }
    });
    for (number, step) in steps.iter().enumerate() {
        assert_eq!(fs::read_to_string(step.upper.join("srv/number")).expect("a file"), format!("{number}\n"));
    }
}

fn many_processes(world: &World) {
    let script = "i=0; while [ $i -lt 10000 ]; do (:) ; i=$((i+1)); done; echo $i";
    assert_eq!(world.output(script), "10000\n");
}
