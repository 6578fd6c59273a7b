//! Tells, at a tenth of the cost of trying, whether deflate could gain anything on a block.
//!
//! Images carry much that is compressed already (wheels, jars, pictures, models). Deflate at any level spends 20 ms per
//! MB on such data and makes it longer. The decision must be the same on every machine, so it is integer arithmetic.

/// How many of the 8 bits of a byte may be predictable, as the factor by which the sum of squared frequencies may exceed
/// that of uniform bytes, in thousandths: 2^0.05, so Huffman codes could save at most 0.6 %.
const UNIFORMITY_PER_MILLE: u64 = 1035;

/// A block is worth compressing from this part (one in so many) of sampled positions that repeat earlier ones.
const REPEATS_ONE_IN: usize = 64;

/// How far back deflate can refer (RFC 1951, section 2).
const WINDOW: usize = 32 * 1024;

/// Whether neither Huffman codes nor repetitions would make `block` smaller by about a percent.
pub(crate) fn is_incompressible(block: &[u8]) -> bool {
    // Below this the frequencies say too little.
    block.len() >= 16 * 1024 && bytes_are_uniform(block) && !has_repetitions(block)
}

/// Collision entropy of single bytes of at least 7.95 bits.
fn bytes_are_uniform(block: &[u8]) -> bool {
    // Four tables, so that equal neighbours don't wait for each other's increment.
    let mut counts = [[0u32; 256]; 4];
    for quad in block.chunks_exact(4) {
        for (table, byte) in counts.iter_mut().zip(quad) {
            table[usize::from(*byte)] += 1;
        }
    }
    let squares: u64 = (0..256).map(|byte| counts.iter().map(|table| u64::from(table[byte])).sum::<u64>().pow(2)).sum();
    let total = (block.len() / 4 * 4) as u64;
    // Chance alone adds `total` to the sum of squares.
    squares.saturating_sub(total) * 256 * 1000 <= total * total * UNIFORMITY_PER_MILLE
}

/// Whether sequences of eight bytes come again within deflate's window. Positions are sampled by content (one byte in 32,
/// as bytes are uniform here), so that a sequence is sampled wherever it stands.
fn has_repetitions(block: &[u8]) -> bool {
    const BITS: u32 = 12;
    let mut last = vec![u32::MAX; 1 << BITS];
    let (mut sampled, mut repeated) = (0usize, 0usize);
    for (position, byte) in block.iter().enumerate() {
        if *byte >= 8 {
            continue;
        }
        let Some(word) = block[position..].first_chunk::<8>() else { break };
        let hash = u64::from_le_bytes(*word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sampled += 1;
        let slot = &mut last[(hash >> (64 - BITS)) as usize];
        let earlier = *slot as usize;
        if earlier < position && position - earlier <= WINDOW && block[earlier..].starts_with(word) {
            repeated += 1;
        }
        *slot = position as u32;
    }
    repeated * REPEATS_ONE_IN > sampled
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without any pattern, the same in every run (xorshift64*).
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252u64;
        (0..len)
            .map(|_| {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
            })
            .collect()
    }

    #[test]
    fn noise_is_incompressible_and_text_is_not() {
        assert!(is_incompressible(&noise(256 * 1024)));
        assert!(is_incompressible(&noise(20 * 1024)));
        assert!(!is_incompressible(&b"drwxr-xr-x root root ".repeat(4096)));
        assert!(!is_incompressible(&[0; 65536]));
    }

    #[test]
    fn repeated_noise_and_noise_with_a_gap_are_compressible() {
        assert!(!is_incompressible(&noise(16 * 1024).repeat(16)), "deflate finds the repetition");
        let mut gap = noise(256 * 1024);
        gap[..32 * 1024].fill(0);
        assert!(!is_incompressible(&gap), "an eighth is zeros");
    }
}
