//! The umask belongs to the whole process, so this test has one of its own.

use std::{collections::BTreeMap, sync::Arc};

use cofferdam_rootfs::{ConfinedDir, Kind, Metadata, Owner, RootPath, Timestamp, UnpackForm, Unpacker};
use rustix::fs::Mode;

#[test]
fn modes_are_those_of_the_layer_under_every_umask() {
    let real = tempfile::tempdir().unwrap();
    let target = Arc::new(ConfinedDir::open(real.path()).unwrap());
    let kinds =
        [("dir", Kind::Directory, 0o755), ("dir/file", Kind::File { size: 1 }, 0o666), ("dir/pipe", Kind::Fifo, 0o622)];
    for umask in [0o777, 0o077, 0] {
        let before = rustix::process::umask(Mode::from_raw_mode(umask));
        let mut unpacker = Unpacker::new(target.clone(), UnpackForm::SingleId);
        for (name, kind, mode) in &kinds {
            let metadata = Metadata {
                kind: kind.clone(),
                mode: *mode,
                owner: Owner::default(),
                mtime: Timestamp::default(),
                xattrs: BTreeMap::new(),
            };
            let path = RootPath::new(format!("under-{umask:o}/{name}")).unwrap();
            unpacker.entry(&path, &metadata, None, &mut &b"x"[..]).unwrap();
        }
        unpacker.finish().unwrap();
        rustix::process::umask(before);
        for (name, _, mode) in &kinds {
            let path = RootPath::new(format!("under-{umask:o}/{name}")).unwrap();
            assert_eq!(target.entry(&path).unwrap().unwrap().metadata.mode, *mode, "{umask:o} {name}");
        }
        let implied = RootPath::new(format!("under-{umask:o}")).unwrap();
        assert_eq!(target.entry(&implied).unwrap().unwrap().metadata.mode, 0o755, "{umask:o}");
    }
}
