//! Where an archive is cut into the blocks that are compressed by themselves.
//!
//! Blocks that began at fixed distances would all change when one file gets longer. Cuts depend on the members around them
//! instead, so the blocks after an edit are soon those of the archive before it, and their compressed bytes can be used
//! again.

use crate::gzip::BLOCK_BYTES;

/// Between small members, a block of fewer bytes is not cut. Part of the format of our layers, as everything here.
const MIN_BYTES: usize = 96 * 1024;

/// How many bytes of small members have one place for a cut among them, on average: blocks get 156 KiB, and one in ten is
/// cut at its greatest length, amid a member.
const SPACING_BYTES: u64 = 64 * 1024;

/// Bytes of a member without content, about: the header.
const HEADER_BYTES: u64 = 512;

/// Decides, member by member.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    after_large: bool,
}

impl Cuts {
    /// Before a member: `None` if no block may end here, else how many bytes a block must have to end.
    ///
    /// A member that fills a block or more begins one, and so does the member after it. Among the others, chance decides,
    /// drawn from path and size and in proportion to the size.
    pub(crate) fn before(&mut self, path: &[u8], size_bytes: u64) -> Option<usize> {
        let large = size_bytes >= BLOCK_BYTES as u64;
        if std::mem::replace(&mut self.after_large, large) || large {
            return Some(1);
        }
        (hash(path) % SPACING_BYTES < size_bytes + HEADER_BYTES).then_some(MIN_BYTES)
    }
}

/// FNV-1a, and a last round that mixes the bits.
fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_member_begins_a_block_and_ends_one() {
        let mut cuts = Cuts::default();
        assert_eq!(cuts.before(b"large", 1 << 30), Some(1));
        assert_eq!(cuts.before(b"small", 0), Some(1));
        assert_ne!(cuts.before(b"small", 0), Some(1));
    }

    #[test]
    fn small_members_have_a_place_for_a_cut_in_64_kib_whatever_their_size() {
        for size in [0, 1_000, 5_000, 30_000] {
            let count = 4_000_000 / (size + HEADER_BYTES);
            let found =
                (0..count).filter(|n| Cuts::default().before(format!("a/{n}").as_bytes(), size).is_some()).count();
            assert!((40..85).contains(&found), "{found} in {count} of {size} bytes");
        }
    }
}
