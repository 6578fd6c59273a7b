//! Comparing an unpacked layer with the layer: names, types, sizes, content, and where links lead. Owners, modes and times are not
//! compared: what of them is real depends on who unpacked it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::PathBuf,
};

use cofferdam_layer::{LayerSink, SinkError};
use cofferdam_rootfs::{ConfinedDir, IndexEntry, Kind, LayerIndex, Metadata, RootPath, RootfsError};

/// Directories that should all hold the layer that streams by.
pub struct Comparison {
    directories: Vec<Unpacked>,
    buffers: [Vec<u8>; 2],
}

/// One of them.
struct Unpacked {
    path: PathBuf,
    root: ConfinedDir,
    /// What is wrong with the content of a file. A later entry of the same name counts.
    contents: BTreeMap<RootPath, &'static str>,
}

const BUFFER_BYTES: usize = 128 << 10;

impl Comparison {
    /// Directories that can't be opened are left out: they are gone.
    pub fn of(directories: &[PathBuf]) -> Self {
        let open = |path: &PathBuf| {
            let root = ConfinedDir::open(path).ok()?;
            Some(Unpacked { path: path.clone(), root, contents: BTreeMap::new() })
        };
        let buffers = [vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]];
        Self { directories: directories.iter().filter_map(open).collect(), buffers }
    }

    /// For each directory the first thing that is wrong with it, now that all of the layer was read.
    pub fn finish(self, index: &LayerIndex) -> Vec<(PathBuf, Option<String>)> {
        let verdict = |unpacked: Unpacked| {
            let wrong = unpacked.first_difference(index).unwrap_or_else(|error| Some(crate::chain(&error)));
            (unpacked.path, wrong)
        };
        self.directories.into_iter().map(verdict).collect()
    }
}

impl LayerSink for Comparison {
    fn entry(&mut self, path: &RootPath, _: &IndexEntry, content: Option<&mut dyn Read>) -> Result<(), SinkError> {
        let Some(content) = content else {
            for unpacked in &mut self.directories {
                unpacked.contents.remove(path);
            }
            return Ok(());
        };
        let mut files: Vec<_> = self.directories.iter().map(|unpacked| unpacked.root.open_file(path).ok()).collect();
        let mut differ = vec![false; files.len()];
        let [ours, theirs] = &mut self.buffers;
        loop {
            let length = read_full(content, ours)?;
            for (file, differ) in files.iter_mut().zip(&mut differ) {
                // One byte more than there should be is too much as well.
                let same = file.as_mut().is_some_and(|file| {
                    let wanted = if length == 0 { &mut theirs[..1] } else { &mut theirs[..length] };
                    read_full(file, wanted).is_ok_and(|found| found == length && wanted[..found] == ours[..length])
                });
                *differ |= !same;
            }
            if length == 0 {
                break;
            }
        }
        for (unpacked, differ) in self.directories.iter_mut().zip(differ) {
            match differ {
                true => unpacked.contents.insert(path.clone(), "has other content"),
                false => unpacked.contents.remove(path),
            };
        }
        Ok(())
    }
}

fn read_full(from: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl Unpacked {
    fn first_difference(&self, index: &LayerIndex) -> Result<Option<String>, RootfsError> {
        let mut known = BTreeSet::from([RootPath::root()]);
        for (path, entry) in &index.entries {
            let mut next = path.parent();
            while let Some(parent) = next.filter(|parent| known.insert(parent.clone())) {
                next = parent.parent();
            }
            let found = self.root.metadata(&path)?;
            let wrong = match (&entry, &found) {
                (IndexEntry::Present { .. }, None) => Some("is missing"),
                (IndexEntry::Present { metadata, .. }, Some(found)) if !is_like(metadata, found) => {
                    Some("is something else")
                }
                (IndexEntry::Present { .. }, Some(_)) => self.contents.get(&path).copied(),
                (IndexEntry::Whiteout, Some(found)) if !is_whiteout(found) => Some("should be removed"),
                (IndexEntry::Whiteout, _) => None,
            };
            if let Some(why) = wrong {
                return Ok(Some(format!("`{path}` {why}")));
            }
            known.insert(path);
        }
        let mut directories = vec![RootPath::root()];
        while let Some(directory) = directories.pop() {
            for name in self.root.read_directory(&directory)? {
                let path = directory.join(&RootPath::new(name)?)?;
                if !known.contains(&path) {
                    return Ok(Some(format!("`{path}` is not of the layer")));
                }
                if self.root.metadata(&path)?.is_some_and(|found| found.is_directory()) {
                    directories.push(path);
                }
            }
        }
        Ok(None)
    }
}

fn is_like(wanted: &Metadata, found: &Metadata) -> bool {
    match (&wanted.kind, &found.kind) {
        // Where none can be made it is an empty file.
        (Kind::CharacterDevice { .. } | Kind::BlockDevice { .. }, Kind::File { size: 0 }) => true,
        (wanted, found) => wanted == found,
    }
}

fn is_whiteout(found: &Metadata) -> bool {
    matches!(found.kind, Kind::CharacterDevice { major: 0, minor: 0 })
}
