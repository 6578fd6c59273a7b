//! `cofferdam store check`: whether the store is sound.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::{Args, Subcommand, ValueEnum};
use cofferdam_engine::{CheckedStore, Surroundings, check_store};
use cofferdam_image::ItemKind;

use crate::{environment::Environment, exit::Exit, explain, progress::units, say};

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Looks at every blob, index, unpacked layer and record; exit code 1 if something is wrong and stays so
    Check(CheckArguments),
}

/// Which store.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Removes what is wrong: builds make or fetch it again
    #[arg(long)]
    repair: bool,

    /// Form of the answer
    #[arg(long, value_name = "text|json", value_enum, default_value = "text")]
    format: Format,

    /// Directory that keeps layers between builds [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "COFFERDAM_STORE")]
    store: Option<PathBuf>,
}

/// Forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `cofferdam store`.
pub fn run(command: StoreCommand, environment: &Environment) -> Exit {
    let StoreCommand::Check(arguments) = command;
    let store = match environment.store(arguments.store) {
        Ok(store) => store,
        Err(error) => return explain::store_error(&error),
    };
    enter(&store);
    let checked = match check_store(&store, arguments.repair) {
        Ok(checked) => checked,
        Err(error) => return explain::store_error(&error),
    };
    let said = say(&match arguments.format {
        Format::Text => text(&store, &checked),
        Format::Json => json(&store, &checked),
    });
    if said == Exit::Success && !checked.is_sound() { Exit::Failed } else { said }
}

/// An ordinary user's unpacked layers can be read and removed only where builds made them: in a user namespace. Where there is none,
/// there are no such layers. To be called before any thread is started.
pub fn enter(store: &Path) {
    let _ = Surroundings::prepare(store, None);
}

/// What a person calls things.
pub fn kind_name(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Blob => "blobs",
        ItemKind::LayerIndex => "layer indexes",
        ItemKind::BlockIndex => "block indexes",
        ItemKind::UnpackedLayer => "unpacked layers",
        ItemKind::CacheRecord => "results of steps",
        ItemKind::Download => "downloads",
        ItemKind::BillOfMaterials => "bills of materials",
        ItemKind::FileHashes => "digests of files",
        ItemKind::Reference => "references",
        ItemKind::CacheMount => "cache mounts",
        ItemKind::CompiledPlugin => "compiled plugins",
    }
}

/// A moment as a number.
pub fn seconds_since_1970(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn text(store: &Path, checked: &CheckedStore) -> String {
    let mut text = String::new();
    for (kind, (count, bytes)) in &checked.kinds {
        text.push_str(&format!("{:<18} {count:>7} {:>9}\n", kind_name(*kind), units::bytes(*bytes)));
    }
    if checked.not_compared > 0 {
        let layers = units::count(checked.not_compared, "unpacked layer is", "unpacked layers are");
        text.push_str(&format!("{layers} not compared: the layer itself is not in the store\n"));
    }
    for finding in &checked.findings {
        let word = if finding.repaired { "removed" } else { "broken" };
        text.push_str(&format!("{word}: `{}`: {}\n", finding.path.display(), finding.why));
    }
    text + &match (checked.findings.is_empty(), checked.is_sound()) {
        (true, _) => format!("`{}` is sound\n", store.display()),
        (false, true) => format!("`{}` is sound again\n", store.display()),
        (false, false) => format!("`{}` is not sound: `--repair` removes what is broken\n", store.display()),
    }
}

fn json(store: &Path, checked: &CheckedStore) -> String {
    let kinds: Vec<_> = checked
        .kinds
        .iter()
        .map(|(kind, (count, bytes))| serde_json::json!({ "kind": kind, "count": count, "bytes": bytes }))
        .collect();
    let finding = |finding: &cofferdam_engine::StoreFinding| serde_json::json!({ "path": finding.path, "why": finding.why, "repaired": finding.repaired });
    let json = serde_json::json!({
        "store": store,
        "sound": checked.is_sound(),
        "kinds": kinds,
        "not-compared": checked.not_compared,
        "findings": checked.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    format!("{json:#}\n")
}
