//! Compressed streams, recognised by how they begin.

use std::io::{BufReader, Read};

use crate::zstd::Frames;

/// A compression that ADD unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The .xz file format, version 1.2.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The compression of a stream that begins like this, if any.
    pub fn detect(head: &[u8]) -> Option<Self> {
        let magics: [(&[u8], Self); 5] = [
            (b"\x1f\x8b\x08", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\xfd7zXZ\x00", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            // A skippable frame, which `pzstd` writes first.
            (b"\x50\x2a\x4d\x18", Self::Zstd),
        ];
        magics.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, compression)| compression)
    }
}

/// What the stream decompresses to; concatenated streams are one, as the command line tools have it.
pub fn decoder<'a>(compression: Compression, source: impl Read + 'a) -> Box<dyn Read + 'a> {
    match compression {
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(source)),
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(source)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new(BufReader::with_capacity(1 << 16, source), true)),
        Compression::Zstd => Box::new(Frames::new(BufReader::with_capacity(1 << 16, source))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    /// Compressed by the tool of that name, if this machine has it.
    fn compressed(tool: &str, content: &[u8]) -> Option<Vec<u8>> {
        let mut child = Command::new(tool).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut input = child.stdin.take()?;
        let content = content.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&content));
        let output = child.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        Some(output.stdout)
    }

    #[test]
    fn streams_of_the_usual_tools_are_read_one_after_the_other() {
        let content: Vec<u8> = (0..300_000u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect();
        for (tool, compression) in [
            ("gzip", Compression::Gzip),
            ("bzip2", Compression::Bzip2),
            ("xz", Compression::Xz),
            ("zstd", Compression::Zstd),
        ] {
            let Some(mut stream) = compressed(tool, &content) else {
                eprintln!("skipped: no `{tool}` here");
                continue;
            };
            assert_eq!(Compression::detect(&stream), Some(compression));
            stream.extend(compressed(tool, b"end").unwrap());
            let mut decoded = Vec::new();
            decoder(compression, stream.as_slice()).read_to_end(&mut decoded).unwrap();
            assert!(decoded == [content.as_slice(), b"end"].concat(), "{tool}");
        }
    }

    #[test]
    fn damaged_streams_are_errors() {
        for (tool, compression) in [
            ("gzip", Compression::Gzip),
            ("bzip2", Compression::Bzip2),
            ("xz", Compression::Xz),
            ("zstd", Compression::Zstd),
        ] {
            let Some(stream) = compressed(tool, &b"some text, repeated ".repeat(5000)) else { continue };
            let cut = &stream[..stream.len() - 3];
            assert!(decoder(compression, cut).read_to_end(&mut Vec::new()).is_err(), "{tool} cut");
            let mut flipped = stream.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 0x55;
            assert!(decoder(compression, flipped.as_slice()).read_to_end(&mut Vec::new()).is_err(), "{tool} flipped");
        }
    }

    #[test]
    fn other_content_is_not_compressed() {
        for head in [&b""[..], b"\x1f", b"PK\x03\x04", b"BZ", b"hello"] {
            assert_eq!(Compression::detect(head), None);
        }
    }
}
