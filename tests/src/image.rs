//! A finished image, seen with other eyes than the program's own: its documents as JSON, its file system as umoci
//! unpacks it.

use std::{
    cell::OnceCell,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{Layer, LayerEntry, run, tool};

/// An image in an OCI layout.
pub struct Image {
    layout: PathBuf,
    manifest: Value,
    document: Value,
    root: OnceCell<tempfile::TempDir>,
}

impl Image {
    /// The only image of a layout; its tag is `latest`.
    #[track_caller]
    pub fn open(layout: &Path) -> Self {
        let json = |path: PathBuf| -> Value {
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_json::from_slice(&bytes).expect("JSON")
        };
        let blob = |digest: &Value| layout.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"));
        let index = json(layout.join("index.json"));
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1), "one image: {index}");
        let manifest = json(blob(&index["manifests"][0]["digest"]));
        let document = json(blob(&manifest["config"]["digest"]));
        Self { layout: layout.to_path_buf(), manifest, document, root: OnceCell::new() }
    }

    /// A value of the image configuration's `config` object, for example `Env`; null where it is absent.
    pub fn config(&self, key: &str) -> Value {
        self.document["config"][key].clone()
    }

    /// The image configuration.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The manifest.
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// The DiffID of each layer, the base's first.
    pub fn diff_ids(&self) -> Vec<&str> {
        let listed = self.document["rootfs"]["diff_ids"].as_array().expect("layers");
        listed.iter().filter_map(Value::as_str).collect()
    }

    /// How many layers there are.
    pub fn layer_count(&self) -> usize {
        self.manifest["layers"].as_array().expect("layers").len()
    }

    /// The entries of a layer as `tar` lists their names; negative numbers count from the last.
    #[track_caller]
    pub fn layer_names(&self, number: isize) -> Vec<String> {
        let blob = self.layer_blob(number);
        let listed = run(Command::new("tar").arg("-tzf").arg(blob)).success().stdout;
        listed.lines().map(str::to_owned).collect()
    }

    /// What is in a layer; negative numbers count from the last.
    #[track_caller]
    pub fn layer(&self, number: isize) -> Layer {
        Layer::read(&self.layer_blob(number))
    }

    #[track_caller]
    fn layer_blob(&self, number: isize) -> PathBuf {
        let layers = self.manifest["layers"].as_array().expect("layers");
        let place = if number < 0 { layers.len().checked_add_signed(number) } else { usize::try_from(number).ok() };
        let digest = layers[place.expect("there is such a layer")]["digest"].as_str().expect("a digest");
        self.layout.join("blobs").join(digest.replace(':', "/"))
    }

    /// Where another image's layers differ, as lines, but for the entries of these names.
    #[track_caller]
    pub fn differences(&self, other: &Self, unlike: &[&str]) -> Vec<String> {
        let (here, there) = (self.diff_ids(), other.diff_ids());
        if here.len() != there.len() {
            return vec![format!("{} layers, and {}", here.len(), there.len())];
        }
        let mut lines = Vec::new();
        for (number, _) in (0..).zip(here.iter().zip(&there)).filter(|(_, (here, there))| here != there) {
            let (here, there) = (self.layer(number), other.layer(number));
            let said = |entry: Option<&LayerEntry>| entry.map_or("nothing".to_owned(), LayerEntry::to_string);
            let differences = here.differences(&there);
            if differences.is_empty() {
                lines.push(format!("layer {number}: the same entries in other bytes"));
            }
            let meant = differences.into_iter().filter(|(name, ..)| !unlike.contains(name));
            lines.extend(meant.map(|(name, here, there)| format!("{name}: {}, and {}", said(here), said(there))));
        }
        lines
    }

    /// Where umoci unpacked it.
    #[track_caller]
    pub fn root(&self) -> PathBuf {
        let unpacked = self.root.get_or_init(|| {
            let directory = tempfile::Builder::new().prefix("cofferdam-image").tempdir().expect("a directory");
            let umoci = tool("umoci").expect("umoci (scripts/install-test-tools.sh)");
            let image = format!("{}:latest", self.layout.display());
            run(Command::new(umoci).args(["raw", "unpack", "--image", &image]).arg(directory.path().join("root")))
                .success();
            directory
        });
        unpacked.path().join("root")
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Whether there is anything of this name.
    #[track_caller]
    pub fn has(&self, path: &str) -> bool {
        self.place(path).symlink_metadata().is_ok()
    }

    /// What is there: `file 644 0:0`, `dir 755 0:0`, `fifo 644 0:0`, `link TARGET`, `nothing`.
    #[track_caller]
    pub fn entry(&self, path: &str) -> String {
        let place = self.place(path);
        let Ok(metadata) = place.symlink_metadata() else { return "nothing".to_owned() };
        let kind = match metadata.file_type() {
            kind if kind.is_symlink() => return format!("link {}", fs::read_link(place).expect("a link").display()),
            kind if kind.is_dir() => "dir",
            kind if kind.is_fifo() => "fifo",
            kind if kind.is_file() => "file",
            _ => "device",
        };
        format!("{kind} {:o} {}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
    }

    /// A file's content.
    #[track_caller]
    pub fn content(&self, path: &str) -> String {
        let place = self.place(path);
        let bytes = fs::read(&place).unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The names in a directory, sorted, joined by blanks.
    #[track_caller]
    pub fn names(&self, path: &str) -> String {
        let entries = fs::read_dir(self.place(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.join(" ")
    }
}
