//! How long the first-party plugins take to be ready and to answer.

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use cofferdam_dockerfile::{Position, Span};
use cofferdam_plan::step::{Arguments, Handlers, State, Step};
use cofferdam_plugin_host::{HostOptions, PluginHost};
use cofferdam_tests::run;

use crate::{Outcome, measure::measure, report::verdict, results::median};

/// The hidden argument that makes a process of this program measure its own plugin host.
pub const ARGUMENT: &str = "--measure-plugin-host";

/// Processes that are asked.
const PROCESSES: usize = 20;

/// Calls whose mean is taken.
const CALLS: u32 = 1000;

/// Measures here: prints nanoseconds until the host is ready, of the first call, and of a later one.
pub fn measure_here() -> Outcome<()> {
    let begun = Instant::now();
    let host = PluginHost::load(HostOptions::default()).map_err(|errors| format!("{errors:?}"))?;
    let ready = begun.elapsed();
    let step = workdir();
    let call = || host.plan(&step).map(drop).map_err(|findings| format!("{findings:?}"));
    let begun = Instant::now();
    call()?;
    let first = begun.elapsed();
    let begun = Instant::now();
    (0..CALLS).try_for_each(|_| call())?;
    println!("{} {} {}", ready.as_nanos(), first.as_nanos(), (begun.elapsed() / CALLS).as_nanos());
    Ok(())
}

/// The section of the report about plugins and about the start of `program`. Every figure is the median of new processes.
pub fn section(program: &Path, directory: &Path) -> Outcome<String> {
    let own = std::env::current_exe()?;
    let (mut ready, mut first, mut call) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PROCESSES {
        let told = run(Command::new(&own).arg(ARGUMENT));
        let numbers: Vec<u64> = told.stdout.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [one, two, three] = numbers[..] else { return Err(told.stderr.into()) };
        ready.push(Duration::from_nanos(one));
        first.push(Duration::from_nanos(two));
        call.push(Duration::from_nanos(three));
    }
    let mut versions = Vec::new();
    for _ in 0..PROCESSES {
        versions.push(measure(Command::new(program).env_clear().arg("--version"), &directory.join("log"))?);
    }
    let wall = median(versions.iter().map(|usage| usage.wall).collect());
    let cpu = median(versions.iter().map(|usage| usage.cpu).collect());
    let mut text = format!(
        "## Start and plugins\n\nMedians of {PROCESSES} processes.\n\n| | wall | target |\n| --- | --: | --- |\n"
    );
    let mut row = |name: &str, time: Duration, target: Option<Duration>| {
        let target = target.map(|target| format!("< {target:?} {}", verdict(time < target, "met", "**missed**")));
        let _ = writeln!(text, "| {name} | {time:.1?} | {} |", target.unwrap_or_default());
    };
    row("`cofferdam --version`", wall, Some(Duration::from_millis(10)));
    row("its CPU time", cpu, None);
    row("first-party plugins ready", median(ready), Some(Duration::from_millis(20)));
    row("first call of a plugin", median(first), None);
    row("a later call", median(call), Some(Duration::from_micros(100)));
    Ok(text)
}

/// A small step, and a plugin that answers it.
fn workdir() -> Step {
    let place = |column| Position { line: 1, column };
    Step {
        keyword: "WORKDIR".to_owned(),
        flags: Vec::new(),
        arguments: Arguments { text: "/app".to_owned(), words: vec!["/app".to_owned()], ..Arguments::default() },
        heredocs: Vec::new(),
        state: State { working_directory: "/".to_owned(), platform: "linux/amd64".to_owned(), ..State::default() },
        span: Span { start: place(1), end: place(13) },
    }
}
