//! Sections of ELF files by name (System V ABI, chapter 4), read piece by piece: programs may be larger than a plugin's
//! memory.

use cofferdam_plugin_sdk::fs::Tree;

use crate::files::{Trouble, read_at};

/// Of a 64-bit file; that of a 32-bit file is shorter, and no file is.
pub const HEADER_BYTES: usize = 64;

/// Beyond this no program goes; the format itself allows more by a detour.
const MAX_SECTIONS: usize = 0xff00;

/// Of the section that has the others' names.
const NAMES_LIMIT_BYTES: usize = 4 << 20;

/// An open ELF file with its table of sections.
pub struct Elf<'t> {
    root: &'t dyn Tree,
    path: &'t [u8],
    sections: Vec<Section>,
    names: Vec<u8>,
}

struct Section {
    name: usize,
    kind: u32,
    offset: u64,
    size: u64,
}

/// A section without bytes in the file (SHT_NOBITS).
const WITHOUT_BYTES: u32 = 8;

/// How a file's numbers are written.
#[derive(Clone, Copy)]
struct Form {
    wide: bool,
    big_endian: bool,
}

impl<'t> Elf<'t> {
    /// Reads the table of sections; none if the file is not ELF or has no sections.
    ///
    /// # Errors
    /// The file can't be read. A table that makes no sense is none: many a file only begins like a program.
    pub fn open(root: &'t dyn Tree, path: &'t [u8]) -> Result<Option<Self>, Trouble> {
        let header = read_at(root, path, 0, HEADER_BYTES)?;
        let Some(form) = Form::of(&header) else { return Ok(None) };
        let table = match form.wide {
            true => [form.word(&header, 0x28, 8), form.word(&header, 0x3a, 2), form.word(&header, 0x3c, 2)],
            false => [form.word(&header, 0x20, 4), form.word(&header, 0x2e, 2), form.word(&header, 0x30, 2)],
        };
        let names_at = form.word(&header, if form.wide { 0x3e } else { 0x32 }, 2);
        let ([Some(offset), Some(entry_bytes), Some(count)], Some(names_at)) = (table, names_at) else {
            return Ok(None);
        };
        let (entry_bytes, count) = (entry_bytes as usize, count as usize);
        let least = if form.wide { 0x40 } else { 0x28 };
        if offset == 0 || count == 0 || count > MAX_SECTIONS || !(least..=256).contains(&entry_bytes) {
            return Ok(None);
        }
        let bytes = read_at(root, path, offset, entry_bytes * count)?;
        let sections: Vec<Section> = bytes.chunks_exact(entry_bytes).filter_map(|entry| form.section(entry)).collect();
        let mut elf = Self { root, path, sections, names: Vec::new() };
        if let Some(section) = elf.sections.get(names_at as usize) {
            elf.names = elf.content(section, NAMES_LIMIT_BYTES)?;
        }
        Ok(Some(elf))
    }

    /// The bytes of a section, if there is one of this name.
    ///
    /// # Errors
    /// It is longer than `limit`, or cut short.
    pub fn section(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Trouble> {
        let is_called = |section: &&Section| {
            let rest = self.names.get(section.name..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
            rest.is_some_and(|rest| rest.first() == Some(&0))
        };
        let Some(section) = self.sections.iter().find(is_called) else { return Ok(None) };
        if section.kind == WITHOUT_BYTES {
            return Ok(None);
        }
        if section.size > limit as u64 {
            return Err(Trouble::content(format!("its section `{name}` has more than {} MiB", limit >> 20)));
        }
        self.content(section, limit).map(Some)
    }

    fn content(&self, section: &Section, limit: usize) -> Result<Vec<u8>, Trouble> {
        read_at(self.root, self.path, section.offset, section.size.min(limit as u64) as usize)
    }
}

impl Form {
    fn of(header: &[u8]) -> Option<Self> {
        let (wide, big_endian) = match header {
            [0x7f, b'E', b'L', b'F', class @ 1..=2, data @ 1..=2, ..] => (*class == 2, *data == 2),
            _ => return None,
        };
        Some(Self { wide, big_endian })
    }

    fn section(self, entry: &[u8]) -> Option<Section> {
        let (offset, size) = match self.wide {
            true => (self.word(entry, 0x18, 8)?, self.word(entry, 0x20, 8)?),
            false => (self.word(entry, 0x10, 4)?, self.word(entry, 0x14, 4)?),
        };
        let kind = u32::try_from(self.word(entry, 4, 4)?).ok()?;
        Some(Section { name: usize::try_from(self.word(entry, 0, 4)?).ok()?, kind, offset, size })
    }

    /// A number of `length` bytes.
    fn word(self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let bytes = bytes.get(at..at + length)?;
        let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(match self.big_endian {
            true => bytes.iter().fold(0, push),
            false => bytes.iter().rev().fold(0, push),
        })
    }
}
