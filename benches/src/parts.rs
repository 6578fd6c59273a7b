//! Where the time of case a goes: the parts of the build, done again one by one with the program's own crates.

use std::{
    collections::BTreeMap, fmt::Write as _, fs, hint::black_box, io::Read, path::Path, sync::Arc, time::Duration,
};

use cofferdam_digest::Digest;
use cofferdam_layer::{IndexOnly, ReadLimits, read_layer};
use cofferdam_registry::{Client, ClientOptions, NoCredentials, Repository};
use cofferdam_tests::{Events, Finished, Program, Registry, base, document, read_json};
use flate2::bufread::MultiGzDecoder;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    Outcome,
    case::{CASES, Context},
    results::median,
    suite::registry_with,
};

/// How often each part is done.
const REPEAT: usize = 7;

/// CPU time by what it went into.
pub struct Parts {
    /// Name and CPU time of one run each, in the order of the work; the base's layer is what each part is about.
    pub parts: Vec<(&'static str, Duration)>,
    /// Bytes of the base's layer, compressed.
    pub blob_bytes: u64,
    /// Bytes of the base's layer, uncompressed.
    pub tar_bytes: u64,
    /// How often each kind of transfer happened in a build that pushes: `uploaded`, `mounted`, `present`.
    pub transfers: BTreeMap<String, usize>,
}

impl Parts {
    /// Does the parts. `program` builds the case once, to tell what it transferred.
    pub fn measure(program: &Path, directory: &Path) -> Outcome<Self> {
        let registry = registry_with(&["debian"])?;
        let case = CASES.iter().find(|case| case.key == "a").ok_or("no case a")?;
        let context = Context::make(case, &directory.join("context-parts"))?;
        let transfers = transfers(program, context.directory(), directory, &registry)?;
        let layout = base("debian").ok_or("no base image debian")?;
        let index = read_json(&layout.join("index.json"));
        let manifest = document(&layout, index["manifests"][0]["digest"].as_str().ok_or("no manifest")?);
        let name = manifest["layers"][0]["digest"].as_str().ok_or("no layer")?;
        let digest: Digest = name.parse()?;
        let blob = fs::read(layout.join("blobs").join(name.replace(':', "/")))?;
        let mut tar = Vec::new();
        MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar)?;

        let repository: Repository = format!("{}/debian", registry.host()).parse()?;
        let get = cpu(|| fetch(&repository, digest, blob.len() as u64))?;
        let hash_blob = cpu(|| hash(&blob))?;
        let copy = directory.join("blob");
        let store = cpu(|| Ok(fs::write(&copy, &blob)?))?;
        fs::remove_file(copy)?;
        let inflate = cpu(|| inflate(&blob))?;
        let hash_tar = cpu(|| hash(&tar))?;
        let limits = ReadLimits::default();
        let read = cpu(|| {
            black_box(read_layer(&blob[..], None, &limits, &mut IndexOnly)?);
            Ok(())
        })?;
        let parts = vec![
            ("HTTP: fetch the base's layer", get.saturating_sub(hash_blob)),
            ("hash: SHA-256 of the layer as it comes", hash_blob),
            ("write it to the store", store),
            ("inflate it", inflate),
            ("hash: SHA-256 of the inflated archive", hash_tar),
            ("read the archive into an index", read.saturating_sub(inflate + hash_tar)),
        ];
        Ok(Self { parts, blob_bytes: blob.len() as u64, tar_bytes: tar.len() as u64, transfers })
    }

    /// The section of the report; `first` and `again` are the CPU times of case a.
    pub fn section(&self, first: Duration, again: Duration) -> String {
        let mut text = format!(
            "## Where case a's time goes\n\nEach part was done alone, {REPEAT} times, with the program's own crates and the base's layer ({:.1} MB, inflated {:.1} MB); the median is shown.\n\n| part | CPU s |\n| --- | --: |\n| what a build costs that has nothing to do (`again`): start, plugins, Dockerfile, questions to the registry | {:.3} |\n",
            self.blob_bytes as f64 / 1e6,
            self.tar_bytes as f64 / 1e6,
            again.as_secs_f64()
        );
        for (part, time) in &self.parts {
            let _ = writeln!(text, "| {part} | {:.3} |", time.as_secs_f64());
        }
        let known = again + self.parts.iter().map(|(_, time)| *time).sum::<Duration>();
        let rest = first.as_secs_f64() - known.as_secs_f64();
        let _ = writeln!(text, "| the rest (negative where parts cost less together) | {rest:.3} |");
        let _ = writeln!(text, "| the build as measured | {:.3} |", first.as_secs_f64());
        let transfers: Vec<String> = self.transfers.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
        let _ = writeln!(text, "\nBlobs on the way to the registry: {}.", transfers.join(", "));
        text
    }
}

fn transfers(
    program: &Path,
    context: &Path,
    directory: &Path,
    registry: &Registry,
) -> Outcome<BTreeMap<String, usize>> {
    let store = directory.join("store-parts");
    let built: Finished = Program::called(program, &store)
        .args(["build", "--push", "--progress", "json", "--build-arg", &format!("REGISTRY={}", registry.host())])
        .args(["--tag", &format!("{}/parts/a:latest", registry.host())])
        .args([context])
        .run();
    if built.code != 0 {
        return Err(built.stderr.into());
    }
    fs::remove_dir_all(store)?;
    let mut kinds = BTreeMap::new();
    for (_, kind) in Events::of(&built).transfers() {
        *kinds.entry(kind).or_default() += 1;
    }
    Ok(kinds)
}

fn hash(bytes: &[u8]) -> Outcome<()> {
    black_box(Digest::of(bytes));
    Ok(())
}

/// In pieces as large as those of `cofferdam-layer`.
fn inflate(blob: &[u8]) -> Outcome<()> {
    let mut decoder = MultiGzDecoder::new(blob);
    let mut buffer = vec![0; 256 * 1024];
    while decoder.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Reads a blob to its end; the client hashes it on the way.
fn fetch(repository: &Repository, digest: Digest, size_bytes: u64) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::new(ClientOptions::default(), Arc::new(NoCredentials));
        let mut stream = client.open_blob(repository, digest, size_bytes).await?;
        while stream.chunk().await?.is_some() {}
        Ok(())
    })
}

/// CPU time of this process while something is done, the median of some times.
fn cpu(mut work: impl FnMut() -> Outcome<()>) -> Outcome<Duration> {
    let now = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    let mut times = Vec::new();
    for _ in 0..REPEAT {
        let begun = now();
        work()?;
        times.push(now() - begun);
    }
    Ok(median(times))
}
