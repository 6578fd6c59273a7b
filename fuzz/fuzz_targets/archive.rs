//! Any bytes as a layer and as an archive that ADD unpacks: read or refused, within bounds, with names that stay inside.
#![no_main]

use std::io::{Cursor, Read};

use cofferdam_archive::EntryKind;
use cofferdam_layer::{IndexOnly, ReadLimits, read_archive, read_layer};
use libfuzzer_sys::fuzz_target;

/// More is not read of a stream that grows as it is decompressed.
const CONTENT_LIMIT_BYTES: u64 = 8 << 20;

fuzz_target!(|input: (u8, &[u8])| {
    let (form, bytes) = input;
    match form % 3 {
        0 => {
            let _ = read_layer(bytes, None, &limits(), &mut IndexOnly);
        }
        1 => {
            let bytes = with_right_checksums(bytes);
            let _ = read_archive(&bytes[..], None, &limits(), &mut IndexOnly);
            unpack(&bytes);
        }
        _ => unpack(bytes),
    }
});

fn limits() -> ReadLimits {
    ReadLimits { uncompressed_bytes: CONTENT_LIMIT_BYTES, ..ReadLimits::default() }
}

fn unpack(bytes: &[u8]) {
    let Ok(Some(mut archive)) = cofferdam_archive::open(Cursor::new(bytes)) else { return };
    let mut left_bytes = CONTENT_LIMIT_BYTES;
    while let Ok(Some(entry)) = archive.next_entry() {
        let is_inside = |name: &[u8]| name.split(|byte| *byte == b'/').all(|part| part != b".." && part != b".");
        assert!(is_inside(&entry.name) && !entry.name.starts_with(b"/"), "{entry:?}");
        if let EntryKind::HardLink(target) = &entry.kind {
            assert!(is_inside(target) && !target.starts_with(b"/"), "{entry:?}");
        }
        let Ok(read) = std::io::copy(&mut archive.by_ref().take(left_bytes), &mut std::io::sink()) else { return };
        left_bytes -= read;
        if left_bytes == 0 {
            return;
        }
    }
}

/// Each block with the checksum that it would have as a header (POSIX.1-2017, pax, "ustar Interchange Format"): random ones
/// would hardly ever be right.
fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|byte| *byte != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}
