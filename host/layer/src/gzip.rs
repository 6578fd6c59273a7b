//! A gzip encoder that uses several processors and gives the same bytes with any number of them (RFC 1952, RFC 1951).
//!
//! The input is cut every [`BLOCK_BYTES`], however it arrives. Each block is compressed by itself, with the 32 KiB before
//! it as dictionary, and ends at a byte boundary (an empty stored block), so that the pieces can be joined to one deflate
//! stream. Blocks that can't get smaller are stored.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
};

use flate2::{Compress, Crc, FlushCompress, Status};

use crate::incompressible::is_incompressible;

/// Part of the format of our layers: another value gives other digests.
const BLOCK_BYTES: usize = 256 * 1024;

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
    level: u32,
    job: Job,
    crc: Crc,
    header_written: bool,
    first: Compressor,
    pool: Pool,
    spare: Vec<Job>,
}

impl<W: Write> Encoder<W> {
    /// `level`: 0 to 9; larger ones count as 9. Threads start with the second block only.
    pub(crate) fn new(inner: W, level: u32) -> Self {
        let level = level.min(9);
        Self {
            inner,
            level,
            job: Job::default(),
            crc: Crc::new(),
            header_written: false,
            first: Compressor::new(level),
            pool: Pool::default(),
            spare: Vec::new(),
        }
    }

    /// Writes the rest and the trailer.
    ///
    /// # Errors
    /// Those of `inner`.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.write_header()?;
        while let Some(job) = self.pool.next()? {
            self.inner.write_all(&job.output)?;
        }
        if self.job.block_len() > 0 {
            self.first.run(&mut self.job)?;
            self.inner.write_all(&self.job.output)?;
        }
        self.inner.write_all(&END)?;
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.inner)
    }

    fn write_header(&mut self) -> io::Result<()> {
        if !self.header_written {
            self.inner.write_all(&HEADER)?;
            self.header_written = true;
        }
        Ok(())
    }

    /// Hands the full block on and starts the next one.
    fn submit(&mut self) -> io::Result<()> {
        let mut next = self.spare.pop().unwrap_or_default();
        next.follow(&self.job);
        let mut full = std::mem::replace(&mut self.job, next);
        self.pool.start(self.level);
        if self.pool.is_empty() {
            self.first.run(&mut full)?;
            self.inner.write_all(&full.output)?;
            self.spare.push(full);
            return Ok(());
        }
        if self.pool.is_full()
            && let Some(done) = self.pool.next()?
        {
            self.inner.write_all(&done.output)?;
            self.spare.push(done);
        }
        self.pool.push(full)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_header()?;
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
    deflate: Option<Compress>,
    level: u32,
}

impl Compressor {
    fn new(level: u32) -> Self {
        Self { deflate: None, level }
    }

    /// Fills the job's output with deflate blocks that end at a byte boundary; none of them is final.
    fn run(&mut self, job: &mut Job) -> io::Result<()> {
        let (dictionary, block) = job.data.split_at(job.dictionary_len);
        job.output.clear();
        if self.level == 0 || is_incompressible(block) {
            store(block, &mut job.output);
            return Ok(());
        }
        // zlib's state takes 300 KB and is only made for the first block that needs it.
        let deflate = self.deflate.get_or_insert_with(|| Compress::new(flate2::Compression::new(self.level), false));
        deflate.reset();
        if !dictionary.is_empty() {
            deflate.set_dictionary(dictionary).map_err(io::Error::other)?;
        }
        job.output.reserve(block.len() + block.len() / 8 + 64);
        let mut consumed = 0;
        loop {
            let before = deflate.total_in();
            let status = deflate
                .compress_vec(&block[consumed..], &mut job.output, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            consumed += (deflate.total_in() - before) as usize;
            // zlib.h on deflate(): the flush is complete when some of the output space is left.
            if consumed == block.len() && job.output.len() < job.output.capacity() {
                return Ok(());
            }
            if status == Status::StreamEnd {
                return Err(io::Error::other("deflate ended its stream before the block was compressed"));
            }
            job.output.reserve(64 * 1024);
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
    fn start(&mut self, level: u32) {
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
            let work = move || {
                let mut compressor = Compressor::new(level);
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
        let mut encoder = Encoder::new(Vec::new(), level);
        encoder.pool.started = !threads;
        for chunk in chunks {
            encoder.write_all(chunk).unwrap();
        }
        encoder.finish().unwrap()
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
        let error = Encoder::new(Full, 6).write_all(&mixture()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
