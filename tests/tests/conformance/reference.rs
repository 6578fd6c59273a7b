//! An image as the reference data writes it down, and the same of an image that was built here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::Path,
};

use cofferdam_digest::Digest;
use cofferdam_tests::{document, read_json};
use serde_json::{Value, json};

/// What is compared of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The configuration, without times and without what belongs to the base.
    pub config: Value,
    /// For each layer above the base, its entries: `[name, type, mode, uid, gid, size, linkname, sha256?]`. Times are those
    /// of another day, and extended attributes are out of question: BuildKit's layers drop `user.*`.
    pub layers: Vec<Vec<Value>>,
}

/// The places of an entry's parts.
pub mod part {
    /// The path, without a slash at either end.
    pub const NAME: usize = 0;
    /// `file`, `dir`, `symlink`, `hardlink`, …
    pub const KIND: usize = 1;
    /// Octal, with `0o`.
    pub const MODE: usize = 2;
    /// Bytes.
    pub const SIZE: usize = 5;
    /// Of a file's content; in the recorded data after the modification time.
    pub const HASH: usize = 7;
}

impl Picture {
    /// Of the reference data, and how many layers the base had.
    pub fn expected(recorded: &Value) -> (Self, usize) {
        let recorded_layers = recorded["layers"].as_array().expect("a build that succeeded has layers");
        let base_layers = recorded_layers.iter().filter(|layer| *layer == "base").count();
        let layers = recorded_layers[base_layers..].iter().map(|layer| {
            let entries = layer.as_array().expect("entries").iter().map(|entry| {
                let mut entry = entry.as_array().expect("an entry").clone();
                // The time; then what one of the tools that recorded writes before the permission bits: the type.
                entry.remove(part::HASH);
                entry.truncate(part::HASH + 1);
                let mode = entry[part::MODE].as_str().and_then(|mode| u32::from_str_radix(&mode[2..], 8).ok());
                entry[part::MODE] = json!(format!("0o{:o}", mode.expect("a mode") & 0o7777));
                Value::Array(entry)
            });
            entries.collect()
        });
        (Self { config: config(&recorded["config"], base_layers), layers: layers.collect() }, base_layers)
    }

    /// Of an OCI layout.
    pub fn built(layout: &Path, base_layers: usize) -> Self {
        let index = read_json(&layout.join("index.json"));
        let digest = |value: &Value| value["digest"].as_str().expect("a digest").to_owned();
        let manifest = document(layout, &digest(&index["manifests"][0]));
        let written = document(layout, &digest(&manifest["config"]));
        let blobs = manifest["layers"].as_array().expect("layers");
        let layers = blobs[base_layers.min(blobs.len())..].iter().map(|blob| {
            let file = fs::File::open(layout.join("blobs").join(digest(blob).replace(':', "/"))).expect("a blob");
            entries(flate2::read::GzDecoder::new(file))
        });
        Self { config: config(&written, base_layers), layers: layers.collect() }
    }

    /// The same with all layers in one, as a file system shows them.
    pub fn flattened(mut self) -> Self {
        let mut names: BTreeMap<String, Value> = BTreeMap::new();
        for entry in self.layers.drain(..).flatten() {
            let name = entry[part::NAME].as_str().expect("a name").to_owned();
            let (directory, file) = name.rsplit_once('/').unwrap_or(("", &name));
            let gone = match file.strip_prefix(".wh.") {
                Some(".wh..opq") => Some(directory.to_owned()),
                Some(removed) => Some(format!("{directory}/{removed}").trim_start_matches('/').to_owned()),
                None if entry[part::KIND] != "dir" => Some(name.clone()),
                None => None,
            };
            if let Some(gone) = gone {
                names.retain(|known, _| !known.strip_prefix(&gone).is_some_and(|rest| rest.starts_with('/')));
                if !file.starts_with(".wh..wh.") {
                    names.remove(&gone);
                }
            }
            if !file.starts_with(".wh.") {
                names.insert(name, entry);
            }
        }
        self.layers = vec![names.into_values().collect()];
        self
    }

    /// What differs, a line for each difference; empty if nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for key in ["architecture", "os", "author", "config", "history"] {
            let (ours, theirs) = (&self.config[key], &other.config[key]);
            if ours != theirs {
                found.push(format!("{key}: {ours}\n    not {theirs}"));
            }
        }
        if self.layers.len() != other.layers.len() {
            found.push(format!("{} layers, not {}", self.layers.len(), other.layers.len()));
        }
        for (number, (ours, theirs)) in self.layers.iter().zip(&other.layers).enumerate() {
            let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) =
                (ours.iter().map(Value::to_string).collect(), theirs.iter().map(Value::to_string).collect());
            found.extend(ours.difference(&theirs).map(|entry| format!("layer {number} has {entry}")));
            found.extend(theirs.difference(&ours).map(|entry| format!("layer {number} lacks {entry}")));
        }
        found
    }
}

/// The parts of a configuration that do not depend on the day, and the history above the base.
fn config(document: &Value, base_layers: usize) -> Value {
    let mut base_left = base_layers;
    let history = document["history"].as_array().cloned().unwrap_or_default().into_iter().filter_map(|mut line| {
        if base_left > 0 {
            base_left -= usize::from(line["empty_layer"] != true);
            return None;
        }
        line.as_object_mut().expect("a line of the history").remove("created");
        Some(line)
    });
    json!({
        "architecture": document["architecture"],
        "os": document["os"],
        "author": document["author"],
        "config": document["config"],
        "history": history.collect::<Vec<_>>(),
    })
}

fn entries(archive: impl Read) -> Vec<Value> {
    let mut archive = tar::Archive::new(archive);
    archive
        .entries()
        .expect("an archive")
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_end_matches('/').to_owned();
            let header = entry.header().clone();
            let kind = match header.entry_type() {
                tar::EntryType::Regular => "file",
                tar::EntryType::Directory => "dir",
                tar::EntryType::Symlink => "symlink",
                tar::EntryType::Link => "hardlink",
                tar::EntryType::Fifo => "fifo",
                tar::EntryType::Char => "char",
                tar::EntryType::Block => "block",
                other => panic!("{name}: an entry of type {other:?}"),
            };
            let linkname = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
            let mut row = vec![
                json!(name),
                json!(kind),
                json!(format!("0o{:o}", header.mode().expect("a number") & 0o7777)),
                json!(header.uid().expect("a number")),
                json!(header.gid().expect("a number")),
                json!(entry.size()),
                json!(linkname.unwrap_or_default()),
            ];
            if kind == "file" {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("readable");
                row.push(json!(Digest::of(&content).to_string().trim_start_matches("sha256:")));
            }
            Value::Array(row)
        })
        .collect()
}
