//! What caches are worth: CPU time and traffic of the reference builds on an empty machine, on the same machine again, on a new machine
//! with a cache in the registry, and after an edit.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Outcome,
    builder::{Builder, Job},
    case::{CASES, Case, Context},
    measure::Usage,
    relay::{Relay, Traffic},
    report::verdict,
    results::median,
    suite::registry_with,
};

/// The builds that are gone through.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// Of CPU and wall seconds where nothing has changed.
const WARM_SECONDS: f64 = 0.1;

/// Traffic in both directions where nothing has changed, in bytes.
const WARM_BYTES: u64 = 100_000;

/// Wall seconds of the Go build on an empty machine, with a cache in the registry.
const NEW_MACHINE_SECONDS: f64 = 0.5;

/// On which machine a build runs, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// Nothing was ever built; the cache in the registry is written.
    Cold,
    /// The same, again.
    Warm,
    /// Nothing was ever built, but the registry has the cache.
    New,
    /// The first one, after an edit.
    Edited,
}

const MACHINES: [Machine; 4] = [Machine::Cold, Machine::Warm, Machine::New, Machine::Edited];

impl Machine {
    fn title(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm, local",
            Self::New => "warm, registry, new machine",
            Self::Edited => "one file edited",
        }
    }

    fn has_cache(self) -> bool {
        matches!(self, Self::Cold | Self::New)
    }
}

/// The runs of a builder.
struct Row {
    case: &'static str,
    machine: Machine,
    builder: &'static str,
    runs: Vec<(Usage, Traffic)>,
}

/// Measures those of the builds that are wanted, and writes the section of the report.
pub fn section(
    builders: &[Box<dyn Builder>],
    directory: &Path,
    repeat: u32,
    settle: bool,
    wanted: impl Fn(&str) -> bool,
) -> Outcome<String> {
    let directory = directory.join("caches");
    let mut rows: Vec<Row> = Vec::new();
    for case in CASES.iter().filter(|case| KEYS.contains(&case.key) && wanted(case.key)) {
        let mut context = Context::make(case, &directory.join(format!("context-{}", case.key)))?;
        context.warm()?;
        if settle {
            context.settle();
        }
        for repetition in 0..repeat.min(case.repeat) {
            let place = directory.join(format!("{}-{repetition}", case.key));
            let measured = repetition_of(case, &mut context, builders, &place, &mut rows);
            // After a failure too: a store may hold mounts.
            for builder in builders {
                stores(&place, builder.name()).iter().try_for_each(|store| builder.leave(store))?;
            }
            measured?;
        }
    }
    Ok(text(&rows))
}

/// The stores of the first machine and of the new one.
fn stores(place: &Path, builder: &str) -> [PathBuf; 2] {
    ["first", "new"].map(|machine| place.join(format!("{builder}-{machine}")))
}

fn repetition_of(
    case: &'static Case,
    context: &mut Context,
    builders: &[Box<dyn Builder>],
    place: &Path,
    rows: &mut Vec<Row>,
) -> Outcome<()> {
    fs::create_dir_all(place)?;
    let registry = registry_with(case.bases)?;
    let relay = Relay::start(registry.port())?;
    for machine in MACHINES {
        if machine == Machine::Edited && !context.edit(case)? {
            continue;
        }
        for builder in builders.iter().filter(|builder| builder.has_caches()) {
            let [first, new] = stores(place, builder.name());
            let name = format!("{}/{}:latest", builder.name().to_lowercase(), case.key);
            let cache = format!("{}/{}/{}-cache", relay.host(), builder.name().to_lowercase(), case.key);
            rustix::fs::sync();
            relay.take();
            let usage = builder.build(&Job {
                context: context.directory(),
                store: if machine == Machine::New { &new } else { &first },
                registry: &registry,
                host: &relay.host(),
                name: &name,
                cache: machine.has_cache().then_some(&*cache),
                log: &place.join("log"),
            })?;
            let traffic = relay.take();
            eprintln!(
                "{} {:<28} {:<9} {:8.3} s CPU {:8.3} s {:9.3} MB up {:9.3} MB down",
                case.key,
                machine.title(),
                builder.name(),
                usage.cpu.as_secs_f64(),
                usage.wall.as_secs_f64(),
                megabytes(traffic.up_bytes),
                megabytes(traffic.down_bytes)
            );
            let is_it = |row: &&mut Row| (row.case, row.machine, row.builder) == (case.key, machine, builder.name());
            match rows.iter_mut().find(is_it) {
                Some(row) => row.runs.push((usage, traffic)),
                None => {
                    let runs = vec![(usage, traffic)];
                    rows.push(Row { case: case.key, machine, builder: builder.name(), runs });
                }
            }
        }
    }
    Ok(())
}

fn text(rows: &[Row]) -> String {
    let mut text = "## Caches\n\n| case | machine | builder | runs | CPU s | wall s | MB up | MB down | target |\n| --- | --- | --- | --: | --: | --: | --: | --: | --- |\n".to_owned();
    for row in rows {
        let cpu = median(row.runs.iter().map(|(usage, _)| usage.cpu).collect()).as_secs_f64();
        let wall = median(row.runs.iter().map(|(usage, _)| usage.wall).collect()).as_secs_f64();
        let up = median(row.runs.iter().map(|(_, traffic)| traffic.up_bytes).collect());
        let down = median(row.runs.iter().map(|(_, traffic)| traffic.down_bytes).collect());
        let target = match (row.builder, row.machine, row.case) {
            ("Cofferdam", Machine::Warm, _) => {
                let met = cpu < WARM_SECONDS && wall < WARM_SECONDS && up + down < WARM_BYTES;
                format!("< {WARM_SECONDS} s, < 0.1 MB {}", verdict(met, "met", "**missed**"))
            }
            ("Cofferdam", Machine::New, "c") => {
                let met = wall < NEW_MACHINE_SECONDS;
                format!("< {NEW_MACHINE_SECONDS} s {}", verdict(met, "met", "**missed**"))
            }
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {cpu:.3} | {wall:.3} | {:.3} | {:.3} | {target} |",
            row.case,
            row.machine.title(),
            row.builder,
            row.runs.len(),
            megabytes(up),
            megabytes(down)
        );
    }
    text
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
