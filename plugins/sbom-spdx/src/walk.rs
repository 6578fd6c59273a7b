//! What lies anywhere in the tree: package files and programs.

use cofferdam_plugin_sdk::{
    fs::{Kind, Metadata, Tree},
    paths,
    sbom::Error,
};

use crate::{binary, cargo, files, inventory::Inventory, npm, python};

/// More entries than any image has; a directory that is none can't keep the scanner busy for ever.
const MAX_ENTRIES: usize = 4_000_000;

/// What the kernel shows there is no part of an image.
const NOT_OF_THE_IMAGE: [&[u8]; 3] = [b"/proc", b"/sys", b"/dev"];

/// Adds what files all over the tree tell of packages.
///
/// # Errors
/// The host's.
pub fn collect(root: &dyn Tree, inventory: &mut Inventory) -> Result<(), Error> {
    let mut entries = 0;
    let mut directories = vec![b"/".to_vec()];
    while let Some(directory) = directories.pop() {
        let names = inventory.settle(files::names(root, &directory), &directory)?.unwrap_or_default();
        for name in names {
            entries += 1;
            if entries > MAX_ENTRIES {
                inventory.warn(b"/", &format!("it has more than {MAX_ENTRIES} entries: the rest is not looked at"));
                return Ok(());
            }
            let path = paths::join(&directory, &name);
            let found = root.stat(&path, false).map_err(files::Trouble::from);
            let Some(Some(found)) = inventory.settle(found, &path)? else { continue };
            match found.kind {
                Kind::Directory if !NOT_OF_THE_IMAGE.contains(&path.as_slice()) => directories.push(path),
                Kind::File => look_at(root, &path, &found, inventory)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn look_at(root: &dyn Tree, path: &[u8], found: &Metadata, inventory: &mut Inventory) -> Result<(), Error> {
    if npm::is_package_file(path) {
        inventory.add_all(npm::read(root, path), path)
    } else if python::is_metadata_file(path) {
        inventory.add_all(python::read(root, path), path)
    } else if paths::base_name(path) == b"Cargo.lock" {
        inventory.add_all(cargo::read_lock(root, path), path)
    } else if binary::may_be_one(found) {
        inventory.add_all(binary::read(root, path), path)
    } else {
        Ok(())
    }
}
