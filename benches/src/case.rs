//! What is built: the cases of the project's targets, with their contexts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{Outcome, content};

/// An image to build.
pub struct Case {
    /// The letter in the table of targets.
    pub key: &'static str,
    /// One line.
    pub title: &'static str,
    /// Base images that the registry must hold, by the kinds of `scripts/make-base.sh`.
    pub bases: &'static [&'static str],
    /// What is measured on one store, in this order.
    pub passes: &'static [Pass],
    /// How often the passes are gone through at most: large cases take long, and vary little.
    pub repeat: u32,
    /// The file that an edit changes, where the build reads any.
    pub edited: Option<&'static str>,
    dockerfile: fn() -> String,
    fill: fn(&Path) -> io::Result<()>,
}

/// What happened before a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// Nothing: the store is empty.
    First,
    /// The same build; nothing has changed.
    Again,
    /// One small file got other bytes.
    SameSize,
    /// One small file got more bytes.
    OtherSize,
}

impl Pass {
    /// How it is called in reports.
    pub fn title(self) -> &'static str {
        match self {
            Self::First => "empty store",
            Self::Again => "again",
            Self::SameSize => "edited, same size",
            Self::OtherSize => "edited, other size",
        }
    }
}

/// All cases.
pub const CASES: &[Case] = &[
    Case {
        key: "a",
        title: "Debian base, COPY of one file",
        bases: &["debian"],
        passes: &[Pass::First, Pass::Again],
        repeat: 5,
        edited: Some("file"),
        dockerfile: || "ARG REGISTRY\nFROM $REGISTRY/debian\nCOPY file /opt/file\n".to_owned(),
        fill: |context| fs::write(context.join("file"), "one file\n"),
    },
    Case {
        key: "b",
        title: "Debian base, ten small RUNs",
        bases: &["debian"],
        passes: &[Pass::First, Pass::Again],
        repeat: 5,
        edited: None,
        dockerfile: || small_runs(10),
        fill: |_| Ok(()),
    },
    Case {
        key: "b20",
        title: "Debian base, twenty small RUNs",
        bases: &["debian"],
        passes: &[Pass::First, Pass::Again],
        repeat: 5,
        edited: None,
        dockerfile: || small_runs(20),
        fill: |_| Ok(()),
    },
    Case {
        key: "c",
        title: "Go two-stage build",
        bases: &["golang", "alpine"],
        passes: &[Pass::First, Pass::Again],
        repeat: 3,
        edited: Some("main.go"),
        dockerfile: || include_str!("../go/Dockerfile").to_owned(),
        fill: |context| {
            fs::write(context.join("go.mod"), include_str!("../go/go.mod"))?;
            fs::write(context.join("main.go"), include_str!("../go/main.go"))
        },
    },
    Case {
        key: "d",
        title: "COPY of 20,000 files (100 MB) and one random file of 500 MB",
        bases: &["debian"],
        passes: &[Pass::First, Pass::Again, Pass::SameSize, Pass::OtherSize],
        repeat: 3,
        edited: Some(content::MIDDLE_FILE),
        dockerfile: || "ARG REGISTRY\nFROM $REGISTRY/debian\nCOPY . /data/\n".to_owned(),
        fill: |context| {
            content::source_tree(context)?;
            content::random_file(&context.join("random.bin"), 500_000_000, 2)
        },
    },
    Case {
        key: "e",
        title: "COPY of one random file of 2 GB",
        bases: &["debian"],
        passes: &[Pass::First, Pass::Again],
        repeat: 1,
        edited: None,
        dockerfile: || "ARG REGISTRY\nFROM $REGISTRY/debian\nCOPY large.bin /data/\n".to_owned(),
        fill: |context| content::random_file(&context.join("large.bin"), 2_000_000_000, 3),
    },
];

fn small_runs(number: u32) -> String {
    let runs = (1..=number).map(|step| format!("RUN echo {step} > /opt/{step}\n"));
    "ARG REGISTRY\nFROM $REGISTRY/debian\n".to_owned() + &runs.collect::<String>()
}

/// A case's context on disk.
pub struct Context {
    directory: PathBuf,
    made: SystemTime,
    edits: u64,
}

impl Context {
    /// Makes it in a directory of its own.
    pub fn make(case: &Case, directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("Dockerfile"), (case.dockerfile)())?;
        (case.fill)(directory)?;
        Ok(Self { directory: directory.to_owned(), made: SystemTime::now(), edits: 0 })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until every file is older than a minute: a builder may distrust the times of younger ones, and read them again.
    pub fn settle(&self) {
        const SETTLED: Duration = Duration::from_secs(62);
        let age = self.made.elapsed().unwrap_or_default();
        if let Some(rest) = SETTLED.checked_sub(age) {
            eprintln!("waiting {} s until the context has settled", rest.as_secs());
            std::thread::sleep(rest);
        }
    }

    /// Reads all of it once, so that no builder waits for the disk. Returns the number of bytes.
    pub fn warm(&self) -> io::Result<u64> {
        let (mut bytes, mut ahead) = (0, vec![self.directory.clone()]);
        while let Some(directory) = ahead.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    ahead.push(entry.path());
                } else {
                    bytes += io::copy(&mut fs::File::open(entry.path())?, &mut io::sink())?;
                }
            }
        }
        Ok(bytes)
    }

    /// Adds a line to the file that an edit changes, and says whether there is one.
    pub fn edit(&mut self, case: &Case) -> Outcome<bool> {
        let Some(file) = case.edited else { return Ok(false) };
        let file = self.directory.join(file);
        let mut text = fs::read(&file)?;
        self.edits += 1;
        // A comment of Go, and text anywhere else.
        text.extend(format!("// edit {:08}\n", self.edits).bytes());
        fs::write(file, text)?;
        Ok(true)
    }

    /// Makes the change that a pass is about.
    pub fn prepare(&mut self, pass: Pass) -> Outcome<()> {
        if pass < Pass::SameSize {
            return Ok(());
        }
        let file = self.directory.join(content::MIDDLE_FILE);
        let mut text = fs::read(&file)?;
        self.edits += 1;
        let edit = format!("edit {:08} ", self.edits);
        if pass == Pass::SameSize {
            text[..edit.len()].copy_from_slice(edit.as_bytes());
        } else {
            text.splice(..0, edit.bytes());
        }
        Ok(fs::write(file, text)?)
    }
}
