//! What the contexts are filled with: the same bytes on every machine.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::Path,
};

/// Files of the large context, in directories of a hundred.
pub const FILES: u32 = 20_000;

/// A generator of numbers (splitmix64): fast, and good enough to be incompressible.
pub struct Numbers(u64);

impl Numbers {
    /// Another seed, other numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next one, at least 0 and below 1.
    fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Writes a file that no compressor makes smaller.
pub fn random_file(path: &Path, bytes: u64, seed: u64) -> io::Result<()> {
    let mut numbers = Numbers::new(seed);
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    for _ in 0..bytes / 8 {
        file.write_all(&numbers.draw().to_le_bytes())?;
    }
    file.flush()
}

/// Writes [`FILES`] files of 0.3 to 20 KB, 100 MB together, of text that compresses as source code does (to about a quarter).
pub fn source_tree(directory: &Path) -> io::Result<()> {
    let mut numbers = Numbers::new(1);
    let words: Vec<String> = (0..3000).map(|_| word(&mut numbers)).collect();
    for number in 0..FILES {
        let place = directory.join(format!("package-{:03}", number / 100));
        if number.is_multiple_of(100) {
            fs::create_dir(&place)?;
        }
        // Many are small and few are large: each doubling of the size is as frequent as the others, 5 KB on the average.
        let least = 318 << (numbers.draw() % 6);
        let bytes = (least + numbers.draw() % least) as usize;
        fs::write(place.join(format!("file-{:02}.txt", number % 100)), text(&mut numbers, &words, bytes))?;
    }
    Ok(())
}

/// The file in the middle of the order in which [`source_tree`]'s files are copied.
pub const MIDDLE_FILE: &str = "package-100/file-00.txt";

fn word(numbers: &mut Numbers) -> String {
    let letters = 2 + numbers.draw() % 9;
    (0..letters).map(|_| char::from(b'a' + (numbers.fraction() * numbers.fraction() * 26.0) as u8)).collect()
}

/// Lines of words, of which some are far more frequent than others, as in any text.
fn text(numbers: &mut Numbers, words: &[String], bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        let choice = numbers.fraction() * numbers.fraction() * numbers.fraction();
        text.push_str(&words[(choice * words.len() as f64) as usize]);
        text.push(if numbers.draw().is_multiple_of(9) { '\n' } else { ' ' });
    }
    text.truncate(bytes);
    text
}
