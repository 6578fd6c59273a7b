//! Tells, at a hundredth of the cost of trying, whether deflate could gain anything on a block.
//!
//! Images carry much that is compressed already (wheels, jars, pictures, models). Deflate at any level spends 20 ms per
//! MB on such data and makes it longer. The decision must be the same on every machine, so it is integer arithmetic; and
//! every byte of every layer comes by, so it looks at samples: 16 KiB of single bytes, and one in 256 of the sequences.

/// How many of the 8 bits of a byte may be predictable, as the factor by which the sum of squared frequencies may exceed
/// that of uniform bytes, in thousandths: 2^0.05, so Huffman codes could save at most 0.6 %. Chance makes that of a
/// sample of 16 KiB differ by 1.4 thousandths (one standard deviation).
const UNIFORMITY_PER_MILLE: u64 = 1035;

/// Bytes of a block whose frequencies are counted, about; fewer say too little.
const SAMPLE_BYTES: usize = 16 * 1024;

/// Bytes of one piece of the sample: a line of the processor's cache.
const PIECE_BYTES: usize = 64;

/// A block is worth compressing from this part (one in so many) of sampled positions that repeat earlier ones.
const REPEATS_ONE_IN: usize = 64;

/// The first byte of the sequences that are looked up. Not zero: padding between noise is too little to gain from, and
/// where it is not, the frequencies show it.
const SAMPLED_BYTE: u8 = 0xa7;

/// How far back deflate can refer (RFC 1951, section 2).
const WINDOW: usize = 32 * 1024;

/// Whether neither Huffman codes nor repetitions would make `block` smaller by about a percent.
pub(crate) fn is_incompressible(block: &[u8]) -> bool {
    block.len() >= SAMPLE_BYTES && bytes_are_uniform(block) && !has_repetitions(block)
}

/// Collision entropy of single bytes of at least 7.95 bits, in pieces from all over the block. They stand at irregular
/// distances: data often has a structure of 512 or 4096 bytes.
fn bytes_are_uniform(block: &[u8]) -> bool {
    // Four tables, so that equal neighbours don't wait for each other's increment.
    let mut counts = [[0u32; 256]; 4];
    let stride = (block.len() / (SAMPLE_BYTES / PIECE_BYTES)).max(PIECE_BYTES);
    let mut total = 0u64;
    for (number, stretch) in block.chunks_exact(stride).enumerate() {
        let start = (number.wrapping_mul(0x9e37_79b1) >> 8) % (stride - PIECE_BYTES + 1);
        let piece = &stretch[start..start + PIECE_BYTES];
        for quad in piece.chunks_exact(4) {
            for (table, byte) in counts.iter_mut().zip(quad) {
                table[usize::from(*byte)] += 1;
            }
        }
        total += PIECE_BYTES as u64;
    }
    let squares: u64 = (0..256).map(|byte| counts.iter().map(|table| u64::from(table[byte])).sum::<u64>().pow(2)).sum();
    // Chance alone adds `total` to the sum of squares.
    squares.saturating_sub(total) * 256 * 1000 <= total * total * UNIFORMITY_PER_MILLE
}

/// Whether sequences of eight bytes come again within deflate's window. Positions are sampled by content (one byte in
/// 256, as bytes are uniform here), so that a sequence is sampled wherever it stands.
fn has_repetitions(block: &[u8]) -> bool {
    // The window has 128 samples.
    const BITS: u32 = 10;
    let mut last = [u32::MAX; 1 << BITS];
    let (mut sampled, mut repeated) = (0usize, 0usize);
    for position in memchr::memchr_iter(SAMPLED_BYTE, block) {
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
    fn blocks_that_are_text_in_part_are_compressible_wherever_the_text_is() {
        let text = b"drwxr-xr-x root root ".repeat(16 * 1024);
        for len in [20 * 1024, 100_000, 256 * 1024] {
            for share in [2, 4, 8, 12] {
                let mut block = noise(len);
                for place in [0, len / 3, len - len / share] {
                    let end = (place + len / share).min(len);
                    let mut block = block.clone();
                    block[place..end].copy_from_slice(&text[place..end]);
                    assert!(!is_incompressible(&block), "1/{share} of {len} bytes at {place} is text");
                }
                // The same share in islands, at distances that file systems and databases like.
                for step in [512, 4096, 16384] {
                    for island in (0..len - step).step_by(step) {
                        let end = island + step / share;
                        block[island..end].copy_from_slice(&text[island..end]);
                    }
                    assert!(!is_incompressible(&block), "1/{share} of each {step} of {len} bytes is text");
                }
            }
        }
    }

    #[test]
    fn text_with_islands_of_noise_is_compressible() {
        let mut block = b"-rw-r--r-- root root ".repeat(13 * 1024);
        let noise = noise(block.len());
        for island in (0..block.len() - 4096).step_by(4096) {
            block[island..island + 3584].copy_from_slice(&noise[island..island + 3584]);
        }
        assert!(!is_incompressible(&block), "an eighth is text");
    }

    #[test]
    fn a_header_and_padding_amid_noise_are_not_worth_the_time() {
        let mut block = noise(256 * 1024);
        for header in [0, 100 * 1024] {
            block[header..header + 400].fill(0);
            block[header + 512..header + 1000].fill(0);
        }
        assert!(is_incompressible(&block), "one in 147 bytes is zero");
    }

    /// Not a judgement, a number: `cargo test --release --workspace incompressible_speed -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn incompressible_speed() {
        let noise = noise(256 * 1024);
        let text = b"drwxr-xr-x root root ".repeat(12 * 1024);
        for (what, block) in [("noise", &noise), ("text", &text)] {
            let start = std::time::Instant::now();
            for _ in 0..2000 {
                std::hint::black_box(is_incompressible(std::hint::black_box(block)));
            }
            let nanoseconds = start.elapsed().as_nanos() as f64 / (2000 * block.len()) as f64;
            println!("{what}: {nanoseconds:.3} ns/byte");
        }
    }

    #[test]
    fn repeated_noise_and_noise_with_a_gap_are_compressible() {
        assert!(!is_incompressible(&noise(16 * 1024).repeat(16)), "deflate finds the repetition");
        let mut gap = noise(256 * 1024);
        gap[..32 * 1024].fill(0);
        assert!(!is_incompressible(&gap), "an eighth is zeros");
    }
}
