//! The compressions of layers: telling them apart, decoding, encoding.

use std::{
    fmt,
    io::{self, BufReader, Chain, Cursor, Read, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    LayerError,
    blocks::{BlockIndex, EarlierBlocks},
    gzip,
};

/// Large enough that system calls and calls into the decoders don't matter, small enough to stay in the cache.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// How a layer is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// gzip (RFC 1952).
    Gzip {
        /// 0 (stored) to 9 (smallest); larger values count as 9.
        level: u32,
    },
    /// Zstandard (RFC 8878).
    Zstd {
        /// 1 to 22; other values count as the nearest of these.
        level: i32,
    },
    /// A plain archive.
    None,
}

impl Compression {
    /// The format that it results in.
    pub const fn format(self) -> Format {
        match self {
            Self::Gzip { .. } => Format::Gzip,
            Self::Zstd { .. } => Format::Zstd,
            Self::None => Format::Plain,
        }
    }

    /// What follows `application/vnd.oci.image.layer.v1.tar` in the media type: `+gzip`, `+zstd` or nothing (OCI image
    /// specification, layer.md).
    pub const fn media_type_suffix(self) -> &'static str {
        self.format().media_type_suffix()
    }
}

/// gzip at level 6, what every client reads.
impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: 6 }
    }
}

/// What a blob is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
    /// Not compressed.
    Plain,
}

impl Format {
    /// What follows `application/vnd.oci.image.layer.v1.tar` in the media type.
    pub const fn media_type_suffix(self) -> &'static str {
        match self {
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
            Self::Plain => "",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Plain => "uncompressed",
        })
    }
}

/// How many bytes [`detect`] wants to see.
pub const MAGIC_BYTES: usize = 6;

/// Tells the format by its first bytes ([`MAGIC_BYTES`] of them, fewer if the blob is shorter). Everything without a
/// known signature counts as plain.
///
/// # Errors
/// [`LayerError::UnknownCompression`] for bzip2 and xz, which images can't use.
pub fn detect(head: &[u8]) -> Result<Format, LayerError> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Format::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Format::Zstd),
        // A skippable frame may come first (RFC 8878, section 3.1.2).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Format::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Err(LayerError::UnknownCompression("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(LayerError::UnknownCompression("xz")),
        _ => Ok(Format::Plain),
    }
}

/// A reader of the uncompressed bytes, whatever the blob is compressed with: all members of a gzip file, all frames of
/// zstd (windows of at most 128 MiB).
pub struct Decoder<R: Read>(Inner<R>);

type Input<R> = BufReader<Counted<Chain<Cursor<Vec<u8>>, R>>>;

enum Inner<R: Read> {
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
    Plain(Input<R>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of the blob to find its format.
    ///
    /// # Errors
    /// [`LayerError::Read`] if the blob can't be read, [`LayerError::UnknownCompression`] as [`detect`] says.
    pub fn new(mut blob: R) -> Result<Self, LayerError> {
        let mut head = Vec::with_capacity(MAGIC_BYTES);
        blob.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut head).map_err(LayerError::Read)?;
        let format = detect(&head)?;
        let input = buffered(head, blob);
        Ok(Self(match format {
            Format::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Format::Zstd => {
                Inner::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(LayerError::Read)?))
            }
            Format::Plain => Inner::Plain(input),
        }))
    }

    /// Takes the bytes as they are, whatever they look like.
    pub fn plain(blob: R) -> Self {
        Self(Inner::Plain(buffered(Vec::new(), blob)))
    }

    /// The format that was found.
    pub fn format(&self) -> Format {
        match self.0 {
            Inner::Gzip(_) => Format::Gzip,
            Inner::Zstd(_) => Format::Zstd,
            Inner::Plain(_) => Format::Plain,
        }
    }

    /// How many bytes of the blob were consumed so far.
    pub fn compressed_bytes(&self) -> u64 {
        let input = match &self.0 {
            Inner::Gzip(decoder) => decoder.get_ref(),
            Inner::Zstd(decoder) => decoder.get_ref(),
            Inner::Plain(input) => input,
        };
        input.get_ref().bytes - input.buffer().len() as u64
    }
}

fn buffered<R: Read>(head: Vec<u8>, rest: R) -> Input<R> {
    BufReader::with_capacity(BUFFER_BYTES, Counted { inner: Cursor::new(head).chain(rest), bytes: 0 })
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Plain(input) => input.read(buffer),
        }
    }
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// A writer that compresses, with the same bytes on any machine. [`Encoder::finish`] must be called for a whole stream.
pub struct Encoder<W: Write>(Outer<W>);

enum Outer<W: Write> {
    Gzip(Box<gzip::Encoder<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Plain(W),
}

impl<W: Write> Encoder<W> {
    /// Compresses into `inner`.
    ///
    /// # Errors
    /// The compressor can't get its memory.
    pub fn new(inner: W, compression: Compression) -> io::Result<Self> {
        Self::reusing(inner, compression, None)
    }

    /// As [`Encoder::new`]; gzip takes compressed blocks from `earlier` where it can, which changes no byte.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub(crate) fn reusing(inner: W, compression: Compression, earlier: Option<Arc<EarlierBlocks>>) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::Gzip { level } => Outer::Gzip(Box::new(gzip::Encoder::new(inner, level, earlier))),
            Compression::Zstd { level } => Outer::Zstd(zstd::stream::write::Encoder::new(inner, level.clamp(1, 22))?),
            Compression::None => Outer::Plain(inner),
        }))
    }

    /// Writes what is left and gives the inner writer back.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.finish_indexed()?.0)
    }

    /// As [`Encoder::finish`], with the blocks that a later encoder can use.
    pub(crate) fn finish_indexed(self) -> io::Result<(W, BlockIndex)> {
        match self.0 {
            Outer::Gzip(encoder) => encoder.finish(),
            Outer::Zstd(encoder) => Ok((encoder.finish()?, BlockIndex::default())),
            Outer::Plain(inner) => Ok((inner, BlockIndex::default())),
        }
    }

    /// A place where a gzip block may end: it does if it has at least `min_bytes`. Nothing in the other formats.
    pub(crate) fn cut(&mut self, min_bytes: usize) -> io::Result<()> {
        match &mut self.0 {
            Outer::Gzip(encoder) => encoder.cut(min_bytes),
            Outer::Zstd(_) | Outer::Plain(_) => Ok(()),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Outer::Gzip(encoder) => encoder.write(bytes),
            Outer::Zstd(encoder) => encoder.write(bytes),
            Outer::Plain(inner) => inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Outer::Gzip(encoder) => encoder.flush(),
            Outer::Zstd(encoder) => encoder.flush(),
            Outer::Plain(inner) => inner.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(bytes: &[u8], compression: Compression) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(blob: &[u8]) -> io::Result<(Format, Vec<u8>)> {
        let mut decoder = Decoder::new(blob).unwrap();
        let mut out = Vec::new();
        decoder.read_to_end(&mut out)?;
        assert_eq!(decoder.compressed_bytes(), blob.len() as u64);
        Ok((decoder.format(), out))
    }

    const ALL: [Compression; 3] = [Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }, Compression::None];

    #[test]
    fn each_compression_comes_back_and_is_found_by_its_first_bytes() {
        for compression in ALL {
            for bytes in [&b""[..], b"x", &b"layer".repeat(200_000)] {
                let (format, decoded) = decode(&encode(bytes, compression)).unwrap();
                assert_eq!(decoded, bytes);
                assert!(format == compression.format() || bytes.is_empty());
            }
        }
    }

    #[test]
    fn members_and_frames_one_after_the_other_are_one_content() {
        for compression in &ALL[..2] {
            let blob = [encode(b"one ", *compression), encode(b"two", *compression)].concat();
            assert_eq!(decode(&blob).unwrap().1, b"one two");
        }
        let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &encode(b"data", ALL[1])].concat();
        assert_eq!(decode(&skippable).unwrap(), (Format::Zstd, b"data".to_vec()));
    }

    #[test]
    fn a_stream_that_is_cut_off_or_damaged_is_an_error() {
        for compression in &ALL[..2] {
            let blob = encode(&b"some content, ".repeat(1000), *compression);
            for len in [7, blob.len() / 2, blob.len() - 1] {
                assert!(Decoder::new(&blob[..len]).unwrap().read_to_end(&mut Vec::new()).is_err(), "{len}");
            }
        }
        let mut damaged = encode(b"content", ALL[0]);
        let crc = damaged.len() - 5;
        damaged[crc] ^= 1;
        assert!(decode(&damaged).is_err());
    }

    #[test]
    fn compressions_that_images_lack_are_named() {
        for (head, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz")] {
            assert!(matches!(Decoder::new(head), Err(LayerError::UnknownCompression(found)) if found == name));
        }
    }
}
