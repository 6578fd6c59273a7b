//! What the translator costs beside native root, in CPU seconds, in one run on one machine.

use std::fmt::Write;

use cofferdam_tests::{Site, binary, children_seconds, is_root, is_short, report, repository_root, skip};

/// One command that is measured, in an image where everything that it needs is there.
struct Work {
    name: &'static str,
    base: &'static str,
    /// Instructions before it, which are cached.
    before: &'static str,
    command: &'static str,
    /// The most that it may cost.
    limit: Limit,
}

enum Limit {
    /// As a multiple of native root's.
    Times(f64),
    /// Milliseconds more for each of so many.
    More(f64, u32),
}

const WORK: [Work; 4] = [
    Work {
        name: "4,000 times `/bin/true` from a shell",
        base: "debian",
        before: "",
        command: "i=0; while [ $i -lt 4000 ]; do /bin/true; i=$((i+1)); done",
        limit: Limit::More(0.5, 4000),
    },
    Work {
        name: "`tar x` of 20,000 files",
        base: "debian",
        before: "COPY files.tar /\n",
        // Else the layer would be one that is unpacked already, so that the files are removed again, and an ext4 without a journal
        // searches for minutes for inodes that were not deleted lately (fs/ext4/ialloc.c, recently_deleted).
        command: "mkdir /files && tar xf /files.tar -C /files && echo $NUMBER > /files/number",
        limit: Limit::Times(4.0),
    },
    Work {
        name: "`apt-get install` of nginx, git and python3-pip",
        base: "debian",
        before: "RUN apt-get update && apt-get install -y --no-install-recommends --download-only nginx git python3-pip\n",
        command: "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx git python3-pip",
        limit: Limit::Times(1.3),
    },
    Work {
        name: "`go build` of a server, with an empty build cache",
        base: "golang",
        before: "WORKDIR /src\nCOPY go.mod main.go ./\n",
        command: "CGO_ENABLED=0 go build -o /server .",
        limit: Limit::Times(1.3),
    },
];

/// As many measurements as the least is taken of.
const REPEATED: usize = 3;

/// A part of `scripts/campaign.sh cost`.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    if !is_root() {
        return skip("native root is root");
    }
    let mut text = format!(
        "CPU seconds of a build whose last step is measured and whose other steps are cached, the least of {REPEATED}; \
         executors take turns.\n\n| RUN | native root | `emulated` | ratio | more for each | target |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    let mut far_off = Vec::new();
    for work in &WORK[..if is_short() { 2 } else { WORK.len() }] {
        let Some(site) = Site::with_base(work.base) else { return };
        site.file("files.tar", files());
        for name in ["go.mod", "main.go"] {
            site.file(name, std::fs::read(repository_root().join("benches/go").join(name)).expect("there"));
        }
        let arguments = "ARG NUMBER\nRUN : $NUMBER;";
        site.dockerfile(&format!("FROM base\n{}RUN true\n{arguments} {}\n", work.before, work.command));
        let store = |executor: &str| site.path().join(format!("store-{executor}"));
        let seconds = |executor: &str, number: usize| {
            let begun = children_seconds();
            let number = format!("NUMBER={number}");
            let program =
                site.program_of(binary(), &store(executor), &["--executor", executor, "--build-arg", &number]);
            program.natively().run().success();
            children_seconds() - begun
        };
        let mut least = [f64::INFINITY; 2];
        for number in 0..=if is_short() { 1 } else { REPEATED } {
            for (least, executor) in least.iter_mut().zip(["native-root", "emulated"]) {
                let seconds = seconds(executor, number);
                // The first one has steps that are cached from then on.
                *least = if number == 0 { *least } else { least.min(seconds) };
            }
        }
        let [native, emulated] = least;
        let (more, target, is_held) = match work.limit {
            Limit::Times(limit) => (String::new(), format!("{limit}×"), emulated <= native * limit),
            Limit::More(limit, count) => {
                let each = (emulated - native) * 1000.0 / f64::from(count);
                (format!("{each:.2} ms"), format!("+{limit} ms"), each <= limit)
            }
        };
        // The short form holds what was reached, on a machine that does other things; the long one tells what was aimed at.
        let is_far_off = match work.limit {
            Limit::Times(limit) => emulated > native * limit * 1.5,
            Limit::More(limit, count) => (emulated - native) * 1000.0 / f64::from(count) > limit * 4.0,
        };
        let ratio = emulated / native;
        let row = format!(
            "| {} | {native:.2} | {emulated:.2} | {ratio:.2} | {more} | {target}{} |",
            work.name,
            mark(is_held)
        );
        println!("{row}");
        writeln!(text, "{row}").expect("a string");
        if is_far_off {
            far_off.push(row);
        }
    }
    report("cost", &text);
    assert!(!is_short() || far_off.is_empty(), "{}", far_off.join("\n"));
}

fn mark(is_held: bool) -> &'static str {
    if is_held { "" } else { ", missed" }
}

/// An archive of 20,000 small files in directories of a hundred, which belong to somebody.
fn files() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_uid(5);
    header.set_gid(6);
    for number in 0..20_000_usize {
        let content = cofferdam_tests::noise(300 + number * 7919 % 1700, number as u64);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        let path = format!("files/package-{:03}/file-{:02}", number / 100, number % 100);
        archive.append_data(&mut header, path, &content[..]).expect("memory");
    }
    archive.into_inner().expect("memory")
}
