//! Measures the program next to Debian's `buildah` and writes a report; `benches/README.md` says what and how.

mod builder;
mod caches;
mod case;
mod content;
mod derived;
mod machine;
mod measure;
mod native;
mod parts;
mod plugin_host;
mod relay;
mod report;
mod results;
mod suite;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use builder::{Buildah, Builder, Cofferdam};
use case::{CASES, Case, Pass};
use machine::Machine;
use native::GoAlone;
use parts::Parts;
use results::Results;
use suite::Suite;

/// What went wrong, for a person.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures Cofferdam next to Debian's buildah.
#[derive(Parser)]
struct Arguments {
    /// Cases to measure [default: all]
    #[arg(long = "case", value_name = "a,b,…", value_delimiter = ',')]
    cases: Vec<String>,

    /// Repetitions at most
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    repeat: u32,

    /// Directory for everything that is made [default: $TMPDIR, else beside the program]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// File that the report is written to [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Cofferdam's program [default: the one built from this repository]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,

    /// Leaves buildah out
    #[arg(long)]
    no_buildah: bool,

    /// Does not wait until contexts have settled: their files are then hashed again each time
    #[arg(long)]
    no_wait: bool,

    /// Measures the table of caches alone
    #[arg(long, conflicts_with = "short")]
    caches: bool,

    /// Measures cases a and b once, and fails if ratios that hold on any machine do not
    #[arg(long, conflicts_with_all = ["cases", "repeat"])]
    short: bool,

    #[arg(long = "measure-plugin-host", hide = true)]
    plugin_host: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cofferdam-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: Arguments) -> Outcome<()> {
    if arguments.plugin_host {
        return plugin_host::measure_here();
    }
    if arguments.short {
        arguments.cases = vec!["a".to_owned(), "b".to_owned()];
        arguments.repeat = 1;
        arguments.no_wait = true;
    }
    let known = |key: &String| CASES.iter().any(|case| case.key == key);
    if let Some(unknown) = arguments.cases.iter().find(|key| !known(key)) {
        return Err(format!("no case `{unknown}`").into());
    }
    let all = arguments.cases.is_empty();
    let wanted = |case: &&'static Case| !arguments.caches && (all || arguments.cases.iter().any(|key| key == case.key));
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();

    let parent = arguments.dir.clone().map_or_else(default_directory, Ok)?;
    fs::create_dir_all(&parent)?;
    let directory = tempfile::Builder::new().prefix("cofferdam-bench").tempdir_in(parent.canonicalize()?)?;
    // The registry's data too.
    tempfile::env::override_temp_dir(directory.path()).map_err(|_| "the temporary directory is set already")?;
    let machine = Machine::look(directory.path());
    let program = arguments.program.clone().unwrap_or_else(|| cofferdam_tests::binary().to_owned());
    let builders = builders(&program, arguments.no_buildah, directory.path())?;
    let mut versions: Vec<String> = builders.iter().map(|builder| builder.version()).collect();
    if arguments.program.is_some() || std::env::var_os("COFFERDAM_TEST_PROGRAM").is_some() {
        versions[0] += " (another build than this repository's: the commit is the benchmark's)";
    }
    let suite = Suite {
        directory: directory.path(),
        builders: &builders,
        repeat: arguments.repeat,
        settle: !arguments.no_wait,
    };
    let write = |results: &Results, sections: &[String]| -> Outcome<()> {
        if let Some(file) = &arguments.output {
            fs::write(file, report::report(&machine, &versions, results, sections))?;
        }
        Ok(())
    };
    // What was measured is kept if something later fails.
    let results = suite.run(&cases, |results| write(results, &[derived::section(results)]))?;
    let mut sections = vec![derived::section(&results)];
    sections.extend(parts_of_case_a(&program, directory.path(), &results)?);
    if all || arguments.caches {
        let wanted = |key: &str| all || arguments.cases.iter().any(|case| case == key);
        sections.push(caches::section(&builders, directory.path(), arguments.repeat, suite.settle, wanted)?);
    }
    if !arguments.caches {
        sections.push(plugin_host::section(&program, directory.path())?);
    }
    write(&results, &sections)?;
    if arguments.output.is_none() {
        print!("{}", report::report(&machine, &versions, &results, &sections));
    }
    let broken = derived::broken_ratios(&results);
    if arguments.short && !broken.is_empty() {
        return Err(broken.join("\n").into());
    }
    Ok(())
}

/// The section about case a, if it was measured.
fn parts_of_case_a(program: &Path, directory: &Path, results: &Results) -> Outcome<Option<String>> {
    let cpu = |pass| Some(results.get("a", pass, "Cofferdam")?.median(|run| run.cpu));
    let (Some(first), Some(again)) = (cpu(Pass::First), cpu(Pass::Again)) else { return Ok(None) };
    Ok(Some(Parts::measure(program, directory)?.section(first, again)))
}

fn builders(program: &Path, no_buildah: bool, directory: &Path) -> Outcome<Vec<Box<dyn Builder>>> {
    let mut builders: Vec<Box<dyn Builder>> = vec![Box::new(Cofferdam { program: program.to_owned() })];
    if !no_buildah && let Some(buildah) = cofferdam_tests::tool("buildah") {
        builders.push(Box::new(Buildah::new(buildah, directory)?));
    }
    builders.push(Box::new(GoAlone::default()));
    Ok(builders)
}

/// On a disk, if possible: where cargo builds.
fn default_directory() -> Outcome<PathBuf> {
    if let Some(chosen) = std::env::var_os("TMPDIR") {
        return Ok(chosen.into());
    }
    let own = std::env::current_exe()?;
    let target = own.ancestors().find(|place| place.join("CACHEDIR.TAG").is_file());
    Ok(target.map_or_else(std::env::temp_dir, |target| target.join("tmp")))
}
