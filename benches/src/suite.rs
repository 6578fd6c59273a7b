//! The order in which things are measured: builders take turns, so that the machine's moods meet all of them.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use cofferdam_tests::{Registry, base};

use crate::{
    Outcome,
    builder::{Builder, Job},
    case::{Case, Context},
    results::Results,
};

/// Contexts beyond this are measured only when they have settled. Reading smaller ones again does not show.
const LARGE_BYTES: u64 = 10_000_000;

/// How long ext4 without a journal remembers the inodes that were removed (60 s, and five minutes more until they are
/// written back). Until then it passes over each of them whenever a file is made, so that whoever unpacks a base image after
/// a large removal pays for it with seconds. So what was measured is removed at the end, or where it would fill the disk.
const FORGOTTEN: Duration = Duration::from_secs(365);

/// Room that one case may need.
const ROOM_BYTES: u64 = 25_000_000_000;

/// What a run needs.
pub struct Suite<'a> {
    /// Where everything is.
    pub directory: &'a Path,
    /// In the order of their turns.
    pub builders: &'a [Box<dyn Builder>],
    /// Repetitions at most.
    pub repeat: u32,
    /// Whether large contexts are measured only when they have settled.
    pub settle: bool,
}

impl Suite<'_> {
    /// Measures these cases; `after_case` is told what there is after each.
    pub fn run(
        &self,
        cases: &[&'static Case],
        mut after_case: impl FnMut(&Results) -> Outcome<()>,
    ) -> Outcome<Results> {
        let mut results = Results::default();
        // All contexts first: most have settled by the time that their turn comes.
        let mut contexts = Vec::new();
        for case in cases {
            eprintln!("making the context of {}", case.key);
            contexts.push(Context::make(case, &self.place("context", case.key))?);
        }
        let aside = self.directory.join("aside");
        fs::create_dir(&aside)?;
        for (case, context) in cases.iter().zip(&mut contexts) {
            if self.room_bytes()? < ROOM_BYTES {
                self.make_room(&aside)?;
            }
            let bytes = context.warm()?;
            results.context(case.key, bytes);
            if self.settle && bytes > LARGE_BYTES {
                context.settle();
            }
            for repetition in 0..self.repeat.min(case.repeat) {
                let measured = self.repetition(case, context, repetition, &mut results);
                // After a failure too: a store may hold mounts.
                for builder in self.builders {
                    let store = self.place("store", builder.name());
                    builder.leave(&store)?;
                    if store.exists() {
                        fs::rename(&store, aside.join(format!("{}-{}-{repetition}", case.key, builder.name())))?;
                    }
                }
                measured?;
            }
            after_case(&results)?;
        }
        Ok(results)
    }

    fn room_bytes(&self) -> Outcome<u64> {
        let found = rustix::fs::statvfs(self.directory)?;
        Ok(found.f_bavail * found.f_frsize)
    }

    fn make_room(&self, aside: &Path) -> Outcome<()> {
        fs::remove_dir_all(aside)?;
        fs::create_dir(aside)?;
        rustix::fs::sync();
        if self.settle {
            eprintln!("waiting {} s until the file system has forgotten what was removed", FORGOTTEN.as_secs());
            thread::sleep(FORGOTTEN);
        }
        Ok(())
    }

    /// All passes of all builders once, with a new registry and new stores.
    fn repetition(
        &self,
        case: &'static Case,
        context: &mut Context,
        repetition: u32,
        results: &mut Results,
    ) -> Outcome<()> {
        // A registry of its own each time: a builder that remembers outside its store what a registry has knows nothing of it.
        let registry = registry_with(case.bases)?;
        for pass in case.passes {
            context.prepare(*pass)?;
            for builder in self.builders.iter().filter(|builder| builder.takes_part(case.key, *pass)) {
                // What others left to be written is not on this one's bill.
                rustix::fs::sync();
                let job = Job {
                    context: context.directory(),
                    store: &self.place("store", builder.name()),
                    registry: &registry,
                    host: &registry.host(),
                    cache: None,
                    name: &format!("{}/{}:latest", builder.name().to_lowercase(), case.key),
                    log: &self.directory.join("log"),
                };
                let usage = builder.build(&job)?;
                eprintln!(
                    "{} {:<18} {:<9} #{} {:8.3} s CPU {:8.3} s {:5} MiB",
                    case.key,
                    pass.title(),
                    builder.name(),
                    repetition + 1,
                    usage.cpu.as_secs_f64(),
                    usage.wall.as_secs_f64(),
                    usage.peak_bytes >> 20
                );
                results.add(case.key, *pass, builder.name(), usage);
            }
        }
        Ok(())
    }

    fn place(&self, kind: &str, name: &str) -> PathBuf {
        self.directory.join(format!("{kind}-{name}"))
    }
}

/// A registry that holds these base images under the names of their kinds.
pub fn registry_with(bases: &[&str]) -> Outcome<Registry> {
    let registry = Registry::open().ok_or("no registry (scripts/install-test-tools.sh)")?;
    for kind in bases {
        let layout = base(kind).ok_or_else(|| format!("no base image {kind}"))?;
        registry.load(&layout, "latest", kind).ok_or("no skopeo (scripts/install-test-tools.sh)")?;
    }
    Ok(registry)
}
