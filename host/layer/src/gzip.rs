//! A gzip encoder that uses several processors and gives the same bytes with any number of them (RFC 1952, RFC 1951).
//!
//! The input is cut where the writer says so ([`Encoder::cut`]) and after [`BLOCK_BYTES`] at the latest, however it
//! arrives. Each block is compressed by itself, with the 32 KiB before it as dictionary, and ends at a byte boundary (an
//! empty stored block), so that the pieces can be joined to one deflate stream. Blocks that can't get smaller are stored.
//! What becomes of a block depends on level, dictionary and block alone, so it can be taken from an earlier layer.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use cofferdam_digest::Digest;

use flate2::{Compress, Crc, FlushCompress, Status};

use crate::{
    blocks::{self, BlockIndex, EarlierBlocks},
    incompressible::is_incompressible,
};

/// The longest block. Part of the format of our layers: another value gives other digests.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

/// How far back deflate can refer (RFC 1951, section 2).
const DICTIONARY_BYTES: usize = 32 * 1024;

/// More threads than this find no work: reading and hashing, on one thread, are about twelve times as fast as deflate.
const THREADS: usize = 8;

/// RFC 1952, section 2.3: no name, no modification time, operating system unknown (255).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty final block with fixed codes (RFC 1951, section 3.2.3): ends the deflate stream.
const END: [u8; 2] = [0x03, 0x00];

/// Compresses what is written to it. [`Encoder::finish`] must be called for a whole stream.
pub(crate) struct Encoder<W> {
    inner: W,
    job: Job,
    crc: Crc,
    /// Bytes of `inner` so far; none before the header.
    offset: u64,
    /// Bytes of the blocks that were handed on.
    submitted: u64,
    first: Compressor,
    pool: Pool,
    spare: Vec<Job>,
    blocks: BlockIndex,
}

impl<W: Write> Encoder<W> {
    /// `level`: 0 to 9; larger ones count as 9. Threads start after the first [`BLOCK_BYTES`] only. With `earlier`, blocks
    /// are taken from there where they can be, and the index of these blocks is made.
    pub(crate) fn new(inner: W, level: u32, earlier: Option<Arc<EarlierBlocks>>) -> Self {
        Self {
            inner,
            job: Job::default(),
            crc: Crc::new(),
            offset: 0,
            submitted: 0,
            first: Compressor { level: level.min(9), earlier },
            pool: Pool::default(),
            spare: Vec::new(),
            blocks: BlockIndex::default(),
        }
    }

    /// Begins a new block with the next byte if the present one has at least `min_bytes`.
    ///
    /// # Errors
    /// Those of `inner`.
    pub(crate) fn cut(&mut self, min_bytes: usize) -> io::Result<()> {
        if self.job.block_len() >= min_bytes.max(1) { self.submit() } else { Ok(()) }
    }

    /// Writes the rest and the trailer. The index is empty unless there were earlier blocks, or none of them, to use.
    ///
    /// # Errors
    /// Those of `inner`.
    pub(crate) fn finish(mut self) -> io::Result<(W, BlockIndex)> {
        self.write_header()?;
        while let Some(job) = self.pool.next()? {
            self.write_block(&job)?;
        }
        if self.job.block_len() > 0 {
            let mut last = std::mem::take(&mut self.job);
            self.first.run(&mut last)?;
            self.write_block(&last)?;
        }
        self.inner.write_all(&END)?;
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok((self.inner, self.blocks))
    }

    fn write_header(&mut self) -> io::Result<()> {
        if self.offset == 0 {
            self.inner.write_all(&HEADER)?;
            self.offset = HEADER.len() as u64;
        }
        Ok(())
    }

    fn write_block(&mut self, job: &Job) -> io::Result<()> {
        self.write_header()?;
        self.inner.write_all(&job.output)?;
        if let Some((key, digest)) = job.name {
            self.blocks.push(key, self.offset, &job.output, digest);
        }
        self.offset += job.output.len() as u64;
        Ok(())
    }

    /// Hands the block on and starts the next one.
    fn submit(&mut self) -> io::Result<()> {
        let mut next = self.spare.pop().unwrap_or_default();
        next.follow(&self.job);
        let mut full = std::mem::replace(&mut self.job, next);
        self.submitted += full.block_len() as u64;
        if self.submitted >= BLOCK_BYTES as u64 {
            self.pool.start(&self.first);
        }
        if self.pool.is_empty() {
            self.first.run(&mut full)?;
            self.write_block(&full)?;
            self.spare.push(full);
            return Ok(());
        }
        if self.pool.is_full()
            && let Some(done) = self.pool.next()?
        {
            self.write_block(&done)?;
            self.spare.push(done);
        }
        self.pool.push(full)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.job.block_len() == BLOCK_BYTES {
            self.submit()?;
        }
        let count = bytes.len().min(BLOCK_BYTES - self.job.block_len());
        self.job.data.extend_from_slice(&bytes[..count]);
        self.crc.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// One block on its way.
#[derive(Default)]
struct Job {
    /// The dictionary, then the block.
    data: Vec<u8>,
    dictionary_len: usize,
    output: Vec<u8>,
    /// Key of the block and digest of the output, where they are wanted and the block is compressed.
    name: Option<(Digest, Digest)>,
}

impl Job {
    fn block_len(&self) -> usize {
        self.data.len() - self.dictionary_len
    }

    /// Becomes an empty block after `previous`.
    fn follow(&mut self, previous: &Self) {
        let from = previous.data.len().saturating_sub(DICTIONARY_BYTES);
        self.data.clear();
        self.data.reserve(DICTIONARY_BYTES + BLOCK_BYTES);
        self.data.extend_from_slice(&previous.data[from..]);
        self.dictionary_len = self.data.len();
    }
}

/// Compresses blocks, one after the other.
struct Compressor {
    level: u32,
    earlier: Option<Arc<EarlierBlocks>>,
}

impl Compressor {
    /// Fills the job's output with deflate blocks that end at a byte boundary; none of them is final.
    fn run(&self, job: &mut Job) -> io::Result<()> {
        let (dictionary, block) = job.data.split_at(job.dictionary_len);
        job.output.clear();
        job.name = None;
        if self.level == 0 || is_incompressible(block) {
            store(block, &mut job.output);
            return Ok(());
        }
        let Some(earlier) = &self.earlier else {
            return self.compress(dictionary, block, &mut job.output);
        };
        let key = blocks::key(self.level, dictionary, block);
        let digest = match earlier.copy(&key, &mut job.output) {
            Some(digest) => digest,
            None => {
                self.compress(dictionary, block, &mut job.output)?;
                Digest::of(&job.output)
            }
        };
        job.name = Some((key, digest));
        Ok(())
    }

    fn compress(&self, dictionary: &[u8], block: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        // A new state for each block, which costs 1 % of compressing it: zlib-rs hashes the last bytes of a dictionary
        // together with those after them in its window, which `reset` leaves there from the block before.
        let mut deflate = Compress::new(flate2::Compression::new(self.level), false);
        if !dictionary.is_empty() {
            deflate.set_dictionary(dictionary).map_err(io::Error::other)?;
        }
        output.reserve(block.len() + block.len() / 8 + 64);
        let mut consumed = 0;
        loop {
            let before = deflate.total_in();
            let status =
                deflate.compress_vec(&block[consumed..], output, FlushCompress::Sync).map_err(io::Error::other)?;
            consumed += (deflate.total_in() - before) as usize;
            // zlib.h on deflate(): the flush is complete when some of the output space is left.
            if consumed == block.len() && output.len() < output.capacity() {
                return Ok(());
            }
            if status == Status::StreamEnd {
                return Err(io::Error::other("deflate ended its stream before the block was compressed"));
            }
            output.reserve(64 * 1024);
        }
    }
}

/// Stored blocks (RFC 1951, section 3.2.4), which begin at a byte boundary as every block here does.
fn store(block: &[u8], output: &mut Vec<u8>) {
    for chunk in block.chunks(0xffff) {
        let len = chunk.len() as u16;
        output.push(0);
        output.extend_from_slice(&len.to_le_bytes());
        output.extend_from_slice(&(!len).to_le_bytes());
        output.extend_from_slice(chunk);
    }
}

/// Threads that take blocks in turn, so that results come back in order without sorting. None of them outlives the
/// encoder by more than the block in its hands: they end when their channel is closed.
#[derive(Default)]
struct Pool {
    workers: Vec<Worker>,
    started: bool,
    /// The workers that have a job, oldest first.
    waiting: VecDeque<usize>,
    next_worker: usize,
}

struct Worker {
    jobs: SyncSender<Job>,
    results: Receiver<io::Result<Job>>,
}

impl Pool {
    /// Starts the threads, once. One processor, or a machine that gives no more threads, leaves the pool empty.
    fn start(&mut self, model: &Compressor) {
        if self.started {
            return;
        }
        self.started = true;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        if processors == 1 {
            return;
        }
        for _ in 0..processors.min(THREADS) {
            let (jobs, incoming) = mpsc::sync_channel::<Job>(2);
            let (outgoing, results) = mpsc::sync_channel(2);
            let compressor = Compressor { level: model.level, earlier: model.earlier.clone() };
            let work = move || {
                for mut job in incoming {
                    let result = compressor.run(&mut job).map(|()| job);
                    if outgoing.send(result).is_err() {
                        return;
                    }
                }
            };
            if thread::Builder::new().name("gzip".into()).spawn(work).is_err() {
                break;
            }
            self.workers.push(Worker { jobs, results });
        }
    }

    fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.workers.len() * 2
    }

    fn push(&mut self, job: Job) -> io::Result<()> {
        self.workers[self.next_worker].jobs.send(job).map_err(|_| worker_died())?;
        self.waiting.push_back(self.next_worker);
        self.next_worker = (self.next_worker + 1) % self.workers.len();
        Ok(())
    }

    /// The oldest block, waiting for it if need be.
    fn next(&mut self) -> io::Result<Option<Job>> {
        match self.waiting.pop_front() {
            None => Ok(None),
            Some(worker) => self.workers[worker].results.recv().map_err(|_| worker_died())?.map(Some),
        }
    }
}

fn worker_died() -> io::Error {
    io::Error::other("a compression thread ended unexpectedly")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn gzip(chunks: &[&[u8]], level: u32, threads: bool) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), level, None);
        encoder.pool.started = !threads;
        for chunk in chunks {
            encoder.write_all(chunk).unwrap();
        }
        encoder.finish().unwrap().0
    }

    /// The parts, with a cut after each that leaves a block of at least `min_bytes`.
    fn gzip_parts(parts: &[&[u8]], min_bytes: usize, chunk_bytes: usize, threads: bool) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), 6, None);
        encoder.pool.started = !threads;
        for part in parts {
            part.chunks(chunk_bytes).for_each(|chunk| encoder.write_all(chunk).unwrap());
            encoder.cut(min_bytes).unwrap();
        }
        encoder.finish().unwrap().0
    }

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    }

    /// A mixture: text, noise (stored blocks), zeros, with a length that ends in the middle of a block.
    fn mixture() -> Vec<u8> {
        let mut bytes = b"the quick brown fox ".repeat(40_000);
        let mut state = 1u64;
        bytes.extend((0..900_001).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        }));
        bytes.resize(bytes.len() + 700_000, 0);
        bytes
    }

    #[test]
    fn any_length_comes_back() {
        let bytes = mixture();
        for len in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, bytes.len()] {
            for level in [0, 1, 6, 9, 77] {
                assert_eq!(gunzip(&gzip(&[&bytes[..len]], level, true)), &bytes[..len], "{len} bytes at level {level}");
            }
        }
    }

    #[test]
    fn the_bytes_depend_neither_on_threads_nor_on_how_the_input_arrives() {
        let bytes = mixture();
        let whole = gzip(&[&bytes], 6, true);
        assert_eq!(gzip(&[&bytes], 6, false), whole);
        assert_eq!(gzip(&bytes.chunks(997).collect::<Vec<_>>(), 6, true), whole);
        assert_eq!(&whole[..10], HEADER);
    }

    #[test]
    fn cuts_are_where_they_are_asked_for() {
        let bytes = mixture();
        let parts: Vec<&[u8]> = bytes.chunks(100_003).collect();
        for min_bytes in [0, 1, 100_003, 150_000, BLOCK_BYTES, usize::MAX] {
            let cut = gzip_parts(&parts, min_bytes, usize::MAX, true);
            assert_eq!(gunzip(&cut), bytes, "{min_bytes}");
            assert_eq!(gzip_parts(&parts, min_bytes, 997, false), cut, "{min_bytes}");
            assert_eq!(cut == gzip(&[&bytes], 6, true), min_bytes >= BLOCK_BYTES, "{min_bytes}");
        }
        // Full blocks, and none of nothing.
        let blocks: Vec<&[u8]> = bytes.chunks(BLOCK_BYTES).flat_map(|block| [block, &[]]).collect();
        assert_eq!(gzip_parts(&blocks, 0, 997, true), gzip(&[&bytes], 6, true));
    }

    #[test]
    fn a_block_depends_on_nothing_before_its_dictionary() {
        let mut state = 9u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        // With one state for all blocks, round 9 went wrong.
        let compressor = Compressor { level: 6, earlier: None };
        for round in 0..60 {
            let len = next() % BLOCK_BYTES;
            let data: Vec<u8> = (0..=len).map(|_| b"etaoin shrdlu\n"[next() % 14]).collect();
            let job = Job { data, dictionary_len: (next() % 40_000).min(DICTIONARY_BYTES).min(len), ..Job::default() };
            let mut here = Job { data: job.data.clone(), dictionary_len: job.dictionary_len, ..Job::default() };
            let mut elsewhere = job;
            compressor.run(&mut here).unwrap();
            Compressor { level: 6, earlier: None }.run(&mut elsewhere).unwrap();
            assert!(here.output == elsewhere.output, "round {round}: {len} bytes");
        }
    }

    #[test]
    fn noise_is_stored_and_text_is_compressed() {
        let bytes = mixture();
        let text_only = gzip(&[&bytes[..800_000]], 6, true).len();
        assert!(text_only < 8_000, "{text_only}");
        let all = gzip(&[&bytes], 6, true).len();
        assert!((900_000..930_000).contains(&all), "{all}");
    }

    #[test]
    fn a_failing_receiver_ends_the_encoder_with_its_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = Encoder::new(Full, 6, None).write_all(&mixture()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
