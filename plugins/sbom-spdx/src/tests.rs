//! Against databases that the real tools made, and against databases that were made to do harm.

mod hostile;
mod languages;
mod systems;

use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use cofferdam_plugin_sdk::{
    Diagnostic, Scanner,
    diagnostics::Timestamp,
    fs::{Kind, Owner},
    json::{self, Value},
    sbom::Subject,
    testing::{Entry, MemoryTree},
};

use crate::Spdx;

fn subject() -> Subject {
    Subject {
        digest: format!("sha256:{}", "ab".repeat(32)),
        platform: "linux/amd64".to_owned(),
        date: Timestamp { seconds: 1_796_083_199, nanoseconds: 0 },
        options: Vec::new(),
    }
}

/// What a scan of a tree found: package URLs, and warnings.
fn scan(tree: &MemoryTree) -> (Value, Vec<Diagnostic>) {
    let mut report = Spdx::scan(&subject(), tree).unwrap();
    let document = report.documents.remove(0);
    assert_eq!(document.predicate_type, "https://spdx.dev/Document");
    let text = String::from_utf8(document.content).unwrap();
    (json::parse(&text).ok().unwrap(), report.warnings)
}

/// The package URLs of a tree of which nothing is unreadable.
fn purls(tree: &MemoryTree) -> Vec<String> {
    let (document, warnings) = scan(tree);
    assert_eq!(warnings, []);
    packages(&document).iter().filter_map(purl).collect()
}

fn packages(document: &Value) -> Vec<Value> {
    let Some(Value::Array(packages)) = document.get("packages") else { panic!("no packages") };
    packages.clone()
}

fn purl(package: &Value) -> Option<String> {
    let Value::Array(references) = package.get("externalRefs")? else { return None };
    references[0].get("referenceLocator")?.as_str().map(str::to_owned)
}

/// The text of a member of the package with this URL.
fn member(document: &Value, of: &str, key: &str) -> String {
    let package = packages(document).into_iter().find(|package| purl(package).as_deref() == Some(of));
    let package = package.unwrap_or_else(|| panic!("no {of}"));
    package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A directory that is removed when the test ends.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cofferdam-sbom-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, beneath: &str) -> PathBuf {
        self.0.join(beneath)
    }

    fn write(&self, beneath: &str, content: impl AsRef<[u8]>) {
        let path = self.path(beneath);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Runs a tool here; it must succeed.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.0).env("HOME", &self.0).env_remove("CARGO_TARGET_DIR");
        let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is in it, as an image's tree.
    fn tree(&self, beneath: &str) -> MemoryTree {
        let mut tree = MemoryTree::default();
        add(&mut tree, &self.path(beneath), b"");
        tree
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn add(tree: &mut MemoryTree, directory: &Path, beneath: &[u8]) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let at = [beneath, b"/", entry.file_name().as_encoded_bytes()].concat();
        let metadata = entry.path().symlink_metadata().unwrap();
        if metadata.is_dir() {
            tree.add_directory(&at);
            add(tree, &entry.path(), &at);
        } else if metadata.is_symlink() {
            tree.add_symlink(&at, std::fs::read_link(entry.path()).unwrap().as_os_str().as_encoded_bytes());
        } else if !metadata.file_type().is_socket() && !metadata.file_type().is_fifo() {
            tree.add(&at, file(metadata.permissions().mode() & 0o7777, std::fs::read(entry.path()).unwrap()));
        }
    }
}

fn file(mode: u32, content: Vec<u8>) -> Entry {
    let owner = Owner { uid: 0, gid: 0 };
    Entry { kind: Kind::File, mode, owner, mtime: None, content, device: (0, 0), xattrs: Default::default() }
}

/// A 64-bit ELF file with one section beside that of the names.
fn program(section: &str, content: &[u8]) -> Vec<u8> {
    let names = [b"\0", section.as_bytes(), b"\0"].concat();
    let table = 64 + names.len() + content.len();
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    program[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
    program[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 1, 0]);
    program.extend_from_slice(&names);
    program.extend_from_slice(content);
    for (name, kind, offset, size) in [(0, 0, 0, 0), (0, 3, 64, names.len()), (1, 1, 64 + names.len(), content.len())] {
        let mut entry = vec![0; 64];
        (entry[0], entry[4]) = (name, kind);
        entry[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
        entry[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
        program.extend_from_slice(&entry);
    }
    program
}

/// Whether a tool is there; where all must be (`COFFERDAM_REQUIRE_ALL`), one that is missing fails the test.
fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    assert!(found || std::env::var_os("COFFERDAM_REQUIRE_ALL").is_none(), "{program} is missing");
    if !found {
        eprintln!("SKIPPED: {program} is missing: scripts/install-test-tools.sh");
    }
    found
}
