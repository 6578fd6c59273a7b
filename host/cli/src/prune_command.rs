//! `cofferdam prune`: makes room in the store.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use cofferdam_engine::{PruneRequest, Pruned, prune};

use crate::{
    environment::Environment,
    exit::Exit,
    explain,
    progress::units,
    request::{self, UsageError},
    say,
    store_command::{Format, enter, kind_name, seconds_since_1970},
};

/// What goes.
#[derive(Debug, Args)]
#[command(
    after_help = "What builders use that are at work stays, whatever is asked for. Without a bound everything else goes, but for
images that have a name.

Examples:
  cofferdam prune --max-used-space 20GB
  cofferdam prune --filter until=336h"
)]
pub struct PruneArguments {
    /// Images that have a name go too
    #[arg(short, long)]
    all: bool,

    /// Only what was not used for a time, for example until=336h
    #[arg(long = "filter", value_name = "until=DURATION")]
    filters: Vec<String>,

    /// As `--filter until=`
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,

    /// What was used last stays, up to this room, for example 20GB
    #[arg(long, alias = "keep-storage", alias = "reserved-space", value_name = "SIZE")]
    max_used_space: Option<String>,

    /// Removes nothing, and says what would go
    #[arg(long)]
    dry_run: bool,

    /// Taken for Docker's sake: nothing is asked in any case
    #[arg(short, long, hide = true)]
    force: bool,

    /// Form of the answer
    #[arg(long, value_name = "text|json", value_enum, default_value = "text")]
    format: Format,

    /// Directory that keeps layers between builds [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "COFFERDAM_STORE")]
    store: Option<PathBuf>,
}

impl PruneArguments {
    fn request(&self) -> Result<PruneRequest, UsageError> {
        let mut unused_for: Option<Duration> = None;
        let filters = self.filters.iter().map(|filter| match filter.split_once('=') {
            Some(("until", text)) => request::duration("--filter", text),
            _ => Err(request::form("--filter", filter, "until=DURATION, the only filter that there is")),
        });
        let older = self.older_than.iter().map(|text| request::duration("--older-than", text));
        for limit in filters.chain(older) {
            unused_for = unused_for.max(Some(limit?));
        }
        let size = |text: &String| {
            let wrong = || request::form("--max-used-space", text, "a size, for example 500MB or 20GB");
            request::bytes(text).ok_or_else(wrong)
        };
        let keep_bytes = self.max_used_space.as_ref().map(size).transpose()?;
        Ok(PruneRequest { all: self.all, unused_for, keep_bytes, dry_run: self.dry_run })
    }
}

/// `cofferdam prune`.
pub fn run(arguments: &PruneArguments, environment: &Environment) -> Exit {
    let request = match arguments.request() {
        Ok(request) => request,
        Err(error) => return explain::usage_error(&error),
    };
    let store = match environment.store(arguments.store.clone()) {
        Ok(store) => store,
        Err(error) => return explain::store_error(&error),
    };
    enter(&store);
    match prune(&store, &request) {
        Ok(pruned) => say(&match arguments.format {
            Format::Text => text(&pruned, request.dry_run),
            Format::Json => json(&pruned, request.dry_run),
        }),
        Err(error) => explain::store_error(&error),
    }
}

fn text(pruned: &Pruned, dry_run: bool) -> String {
    let mut text = String::new();
    for (kind, (count, bytes)) in pruned.by_kind() {
        text.push_str(&format!("{:<18} {count:>7} {:>9}\n", kind_name(kind), units::bytes(bytes)));
    }
    for image in &pruned.images {
        let name = image.name.clone().unwrap_or_else(|| units::short(&image.descriptor.digest));
        text.push_str(&format!("image {name}\n"));
    }
    let word = if dry_run { "would be freed" } else { "freed" };
    text.push_str(&format!("{} {word}, {} stay", units::bytes(pruned.freed_bytes()), units::bytes(pruned.kept_bytes)));
    if pruned.builders > 0 {
        let builders = units::count(pruned.builders, "builder is", "builders are");
        text.push_str(&format!(", {} in use ({builders} at work)", units::bytes(pruned.used_bytes)));
    }
    text + "\n"
}

fn json(pruned: &Pruned, dry_run: bool) -> String {
    let items: Vec<_> = pruned
        .items
        .iter()
        .map(|item| {
            let used = seconds_since_1970(item.used);
            serde_json::json!({ "kind": item.kind, "path": item.path, "bytes": item.bytes, "used": used })
        })
        .collect();
    let image = |image: &cofferdam_image::StoredImage| serde_json::json!({ "name": image.name, "digest": image.descriptor.digest });
    let json = serde_json::json!({
        "dry-run": dry_run,
        "freed-bytes": pruned.freed_bytes(),
        "kept-bytes": pruned.kept_bytes,
        "used-bytes": pruned.used_bytes,
        "builders": pruned.builders,
        "items": items,
        "images": pruned.images.iter().map(image).collect::<Vec<_>>(),
    });
    format!("{json:#}\n")
}
