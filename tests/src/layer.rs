//! What a layer has, read by another implementation of tar than the program's, to be compared entry by entry.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use cofferdam_digest::Digest;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEntry {
    /// The kind: `file`, `dir`, `link TARGET` …
    pub kind: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds of the last change.
    pub mtime: u64,
    /// Bytes.
    pub size: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// What is in it.
    pub content: String,
}

impl LayerEntry {
    /// Whether it differs from another one in its content and times at most.
    pub fn is_like(&self, other: &Self) -> bool {
        let of = |entry: &Self| (entry.kind.clone(), entry.mode, entry.uid, entry.gid, entry.xattrs.clone());
        of(self) == of(other)
    }
}

impl fmt::Display for LayerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, uid, gid, mtime, size, xattrs, content } = self;
        write!(f, "{kind} {mode:o} {uid}:{gid} {size} B, time {mtime}")?;
        for (name, value) in xattrs {
            write!(f, ", {name}={value:x?}")?;
        }
        if *size > 0 { write!(f, ", {}", &content[..12]) } else { Ok(()) }
    }
}

/// The entries of a layer by their names.
#[derive(Debug, Default)]
pub struct Layer(pub BTreeMap<String, LayerEntry>);

impl Layer {
    /// Reads a blob that is compressed with gzip.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn read(blob: &Path) -> Self {
        let file = File::open(blob).unwrap_or_else(|error| panic!("{}: {error}", blob.display()));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(io::BufReader::new(file)));
        let entries = archive.entries().expect("an archive");
        Self(entries.map(|entry| read(&mut entry.expect("an entry")).expect("an entry")).collect())
    }

    /// Where another layer differs: the name of each entry, what it is here, and what it is there.
    pub fn differences<'l>(
        &'l self,
        other: &'l Self,
    ) -> Vec<(&'l str, Option<&'l LayerEntry>, Option<&'l LayerEntry>)> {
        let mut names: Vec<&str> = self.0.keys().chain(other.0.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let both = names.into_iter().map(|name| (name, self.0.get(name), other.0.get(name)));
        both.filter(|(_, here, there)| here != there).collect()
    }
}

fn read(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<(String, LayerEntry)> {
    let mut xattrs = BTreeMap::new();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        if let Some(name) = record.key().unwrap_or_default().strip_prefix("SCHILY.xattr.") {
            xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
        }
    }
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let target = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
    let header = entry.header().clone();
    let kind = match header.entry_type() {
        tar::EntryType::Regular => "file".to_owned(),
        tar::EntryType::Directory => "dir".to_owned(),
        tar::EntryType::Symlink => format!("link {}", target.unwrap_or_default()),
        tar::EntryType::Link => format!("second name of {}", target.unwrap_or_default()),
        tar::EntryType::Fifo => "fifo".to_owned(),
        other => format!("{other:?} {:?}:{:?}", header.device_major()?, header.device_minor()?),
    };
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    let (uid, gid, mtime) = (header.uid()?, header.gid()?, header.mtime()?);
    let (mode, size) = (header.mode()?, content.len() as u64);
    let content = Digest::of(&content).hex();
    Ok((name, LayerEntry { kind, mode, uid, gid, mtime, size, xattrs, content }))
}
