//! A stage's file system in one directory, for executors that can mount nothing.
//!
//! Everything in it belongs to the builder's own user, and what nobody has asked for is not there at all. What of it is not
//! true on the disk (owners, modes, devices, attributes of the system, the bytes of files that were never written to) is in a
//! journal that somebody else keeps: here it is a trait.

use std::{collections::BTreeMap, io, sync::Arc};

use crate::{
    ChangeSet, ConfinedDir, Content, HostEntry, IndexEntry, Kind, LayerIndex, LayerStack, Owner, RootPath, RootfsError,
    Tree, UnpackForm, Unpacker, upper,
};

/// What a journal says of an entry.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// As the image has it.
    pub owner: Owner,
    /// 0o7777 at most.
    pub mode: u32,
    /// The device that an empty file stands for.
    pub device: Option<Kind>,
    /// The attributes that are not on the disk.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Where an entry comes from that the layers have.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The journal's number for it.
    pub number: u32,
    /// Where the layers have it.
    pub path: RootPath,
    /// A file whose bytes are not in the tree, but where the layers have them.
    pub is_stub: bool,
    /// Nothing but its name may have changed.
    pub is_untouched: bool,
    /// A directory that hides what the layers below have in it.
    pub is_opaque: bool,
}

/// What a journal has to tell about an entry of the tree.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// In place of what the disk has.
    pub recorded: Option<Recorded>,
    /// If the layers have it.
    pub origin: Option<Origin>,
}

/// The journal of a flat tree.
pub trait FlatJournal {
    /// What it tells about an entry.
    ///
    /// # Errors
    /// The entry can't be looked at.
    fn look(&self, path: &RootPath, entry: &HostEntry) -> Result<Looked, RootfsError>;

    /// Whether a name of a directory, by that one's [`Origin::number`], is missing only because nobody has asked for it.
    fn is_waiting(&self, directory: u32, name: &[u8]) -> bool;
}

/// What a walk over a flat tree needs to know.
pub(crate) struct Flat<'f> {
    pub journal: &'f dyn FlatJournal,
    pub made_of: Arc<dyn Tree>,
}

impl Flat<'_> {
    /// The bytes of a stub.
    pub fn content(&self, looked: &Looked) -> Option<Content> {
        let origin = looked.origin.as_ref().filter(|origin| origin.is_stub)?;
        Some(Content::Tree { tree: self.made_of.clone(), path: origin.path.clone() })
    }
}

/// What a command changed in a tree that is made of `made_of`: the layers `below`, and perhaps changes on top of them that
/// count as the command's. The rules are those of [`upper::changes`].
///
/// # Errors
/// The tree can't be read, or a layer's content can't be had.
pub fn changes(
    tree: &Arc<ConfinedDir>,
    below: &LayerStack,
    made_of: &Arc<LayerStack>,
    journal: &dyn FlatJournal,
) -> Result<ChangeSet, RootfsError> {
    upper::flat_changes(tree, below, &Flat { journal, made_of: made_of.clone() })
}

/// Makes of a tree, whose layer was written, what unpacking that layer would give: files that were written to are moved into
/// the empty directory `into`.
///
/// # Errors
/// The machine refused, or a layer's content can't be had.
pub fn settle(
    tree: &ConfinedDir,
    index: &LayerIndex,
    made_of: &LayerStack,
    journal: &dyn FlatJournal,
    into: Arc<ConfinedDir>,
) -> Result<(), RootfsError> {
    let mut unpacker = Unpacker::new(into, UnpackForm::Plain);
    // The directory of the last file, in both places: entries of a directory follow each other.
    let mut here: Option<(RootPath, ConfinedDir, ConfinedDir)> = None;
    for (path, entry) in &index.entries {
        let IndexEntry::Present { metadata, hard_link, .. } = entry else { continue };
        if !metadata.is_file() || hard_link.is_some() {
            unpacker.entry(&path, &metadata, hard_link.as_ref(), &mut io::empty())?;
            continue;
        }
        let missing = || RootfsError::NotFound(path.clone());
        let (above, name) = path.parent().zip(path.file_name()).ok_or_else(missing)?;
        let (_, from, into) = match here.take().filter(|(directory, ..)| *directory == above) {
            Some(known) => here.insert(known),
            None => here.insert((above.clone(), tree.open_directory(&above)?, unpacker.directory(&above)?)),
        };
        let found = from.entry(&RootPath::new(name)?)?.ok_or_else(missing)?;
        match journal.look(&path, &found)?.origin.filter(|origin| origin.is_stub) {
            Some(origin) => unpacker.entry(&path, &metadata, None, &mut made_of.open(&origin.path)?)?,
            None => unpacker.take(&path, &metadata, &found, from, into)?,
        }
    }
    unpacker.finish()
}
