//! RPM databases: each holds one header for each package, in one of three forms.
//!
//! | file | form | who has it |
//! | --- | --- | --- |
//! | `rpmdb.sqlite` | [`sqlite`] | Fedora, RHEL 9 and later |
//! | `Packages.db` | [`ndb`] | SUSE |
//! | `Packages` | [`bdb`], Berkeley DB | RHEL 8 and earlier, Amazon Linux 2 |

mod bdb;
mod bytes;
mod header;
mod ndb;
mod sqlite;

use cofferdam_plugin_sdk::{fs::Tree, paths, sbom::Error};

use crate::{
    files::{self, Trouble},
    inventory::{Inventory, MAX_PACKAGES},
    package::Package,
    system::System,
};

/// Where the database is: always, since Fedora 36, and in trees that rpm-ostree made.
const DIRECTORIES: [&str; 3] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"];

/// It is held in memory whole, and a plugin has 256 MiB. A thousand packages have some 60 MB.
const LIMIT_BYTES: usize = 128 << 20;
const LOG_LIMIT_BYTES: usize = 32 << 20;

/// Headers hold the names of a package's files.
const HEADER_LIMIT_BYTES: usize = 16 << 20;

/// Called with each header.
type Visitor<'v> = &'v mut dyn FnMut(&[u8]) -> Result<(), Trouble>;

/// Adds the packages that are installed.
///
/// # Errors
/// The host's.
pub fn collect(root: &dyn Tree, system: &System, inventory: &mut Inventory) -> Result<(), Error> {
    for directory in DIRECTORIES {
        for name in ["rpmdb.sqlite", "Packages.db", "Packages"] {
            let place = paths::join(directory.as_bytes(), name.as_bytes());
            inventory.add_all(read(root, &place, name, system), &place)?;
        }
    }
    Ok(())
}

fn read(root: &dyn Tree, place: &[u8], name: &str, system: &System) -> Result<Vec<Package>, Trouble> {
    let Some(database) = files::read(root, place, LIMIT_BYTES)? else { return Ok(Vec::new()) };
    let mut packages = Vec::new();
    // What lies there twice is not held by a file of this length.
    let mut left = database.len() + LOG_LIMIT_BYTES;
    let mut add = |blob: &[u8]| {
        left = left.checked_sub(blob.len()).ok_or_else(|| Trouble::content("its packages overlap"))?;
        packages.extend(header::package(blob, system)?);
        match packages.len() > MAX_PACKAGES {
            true => Err(Trouble::content(format!("it has more than {MAX_PACKAGES} packages"))),
            false => Ok(()),
        }
    };
    match name {
        "rpmdb.sqlite" => {
            let log = files::read(root, &[place, b"-wal"].concat(), LOG_LIMIT_BYTES)?.unwrap_or_default();
            sqlite::rows(database, &log, &mut add)?;
        }
        "Packages.db" => ndb::blobs(&database, &mut add)?,
        _ => bdb::values(&database, &mut add)?,
    }
    Ok(packages)
}
