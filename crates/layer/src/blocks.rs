//! From blocks of tar to the bytes of a blob: in the calling thread, or on several with a bounded number of blocks under
//! way. Which of the two, and how many threads, is not visible in the bytes.
//!
//! gzip members are made by threads of ours, in any order. A plain tar and a Zstandard frame take the blocks in their order, in
//! one thread behind the one that makes them; the frame has threads of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use ocibuild_spec::{Digest, Hasher};

use crate::gzip::GzipCompressor;
use crate::zstandard::Frame;
use crate::{Compression, Error, ErrorKind};

/// Takes full blocks, and gives back empty ones.
pub(crate) trait Blocks {
    /// Takes `block`, of which only the last of all may be short, and leaves an empty one in its place.
    fn take(&mut self, block: &mut Vec<u8>) -> Result<(), Error>;
}

/// Digest and size of a blob.
#[derive(Debug)]
pub(crate) struct Blob {
    /// `None` if the blob is the plain tar, whose digest is known already.
    pub(crate) digest: Option<Digest>,
    pub(crate) size: u64,
}

struct BlobWriter<'s> {
    sink: &'s mut dyn Write,
    hasher: Option<Hasher>,
    size: u64,
}

impl<'s> BlobWriter<'s> {
    fn new(sink: &'s mut dyn Write, compression: Compression) -> Self {
        let hasher = (compression != Compression::None).then(Hasher::new);
        Self { sink, hasher, size: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.size += bytes.len() as u64;
        self.sink.write_all(bytes).map_err(|source| ErrorKind::WriteBlob { source }.into())
    }

    fn finish(self) -> Result<Blob, Error> {
        self.sink.flush().map_err(|source| ErrorKind::WriteBlob { source })?;
        Ok(Blob { digest: self.hasher.map(Hasher::finish), size: self.size })
    }
}

/// Runs `produce` and writes what it makes to `sink`.
pub(crate) fn run<T: Send>(
    compression: Compression,
    threads: usize,
    sink: &mut dyn Write,
    produce: impl FnOnce(&mut dyn Blocks) -> Result<T, Error> + Send,
) -> Result<(T, Blob), Error> {
    let blob = BlobWriter::new(sink, compression);
    if threads <= 1 {
        return run_here(compression, blob, produce);
    }
    let elsewhere = match compression {
        Compression::Gzip { level } => run_on(threads, level, blob, produce),
        Compression::None | Compression::Zstd { .. } => run_behind(threads, compression, blob, produce),
    };
    match elsewhere {
        Elsewhere::Done(result) => result,
        Elsewhere::NoThreads(blob, produce) => run_here(compression, blob, produce),
    }
}

/// What came of the wish for threads.
enum Elsewhere<'s, T, P> {
    Done(Result<(T, Blob), Error>),
    /// This user or this host has no more of them, and nothing has happened yet.
    NoThreads(BlobWriter<'s>, P),
}

/// Takes blocks in their order, and writes what becomes of them.
struct Encoder<'s> {
    blob: BlobWriter<'s>,
    form: Form,
}

enum Form {
    Plain,
    Gzip { compressor: GzipCompressor, packed: Vec<u8>, offset: u64 },
    Zstd(Frame),
}

impl<'s> Encoder<'s> {
    fn new(compression: Compression, threads: usize, blob: BlobWriter<'s>) -> Self {
        let form = match compression {
            Compression::None => Form::Plain,
            Compression::Gzip { level } => {
                Form::Gzip { compressor: GzipCompressor::new(level), packed: Vec::new(), offset: 0 }
            }
            Compression::Zstd { level } => Form::Zstd(Frame::new(level, threads)),
        };
        Self { blob, form }
    }

    fn finish(mut self) -> Result<Blob, Error> {
        if let Form::Zstd(frame) = self.form {
            frame.finish(&mut |bytes| self.blob.write(bytes))?;
        }
        self.blob.finish()
    }
}

impl Blocks for Encoder<'_> {
    fn take(&mut self, block: &mut Vec<u8>) -> Result<(), Error> {
        let Self { blob, form } = self;
        match form {
            Form::Plain => blob.write(block)?,
            Form::Gzip { compressor, packed, offset } => {
                compress(compressor, block, packed, *offset)?;
                *offset += block.len() as u64;
                blob.write(packed)?;
            }
            Form::Zstd(frame) => frame.take(block, &mut |bytes| blob.write(bytes))?,
        }
        block.clear();
        Ok(())
    }
}

fn run_here<T>(
    compression: Compression,
    blob: BlobWriter<'_>,
    produce: impl FnOnce(&mut dyn Blocks) -> Result<T, Error>,
) -> Result<(T, Blob), Error> {
    let mut encoder = Encoder::new(compression, 1, blob);
    let made = produce(&mut encoder)?;
    Ok((made, encoder.finish()?))
}

fn compress(
    compressor: &mut GzipCompressor,
    block: &[u8],
    packed: &mut Vec<u8>,
    offset: u64,
) -> Result<(), Error> {
    compressor.compress(block, packed).map_err(|source| ErrorKind::Compress { offset, source }.into())
}

/// Runs `produce` in a thread of its own, and all else in this one.
fn run_behind<T: Send, P: FnOnce(&mut dyn Blocks) -> Result<T, Error> + Send>(
    threads: usize,
    compression: Compression,
    blob: BlobWriter<'_>,
    produce: P,
) -> Elsewhere<'_, T, P> {
    // One that is emptied, and one to find then; what is filled is the producer's own.
    let (give_back, empty) = buffers(2, compression.block_size());
    let (full, jobs) = channel();
    // A thread that does not start must not take it along.
    let produce = Mutex::new(Some(produce));
    let take = || produce.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let run = move || take().map(|produce| produce(&mut Producer { empty, full, number: 0, offset: 0 }));
        let Ok(producer) = thread::Builder::new().spawn_scoped(scope, run) else {
            let produce = take().expect("no thread has taken it");
            return Elsewhere::NoThreads(blob, produce);
        };
        let written = encode(&jobs, give_back, Encoder::new(compression, threads, blob));
        let made = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let made = made.expect("only a thread that does not start leaves it");
        Elsewhere::Done(written.and_then(|blob| Ok((made?, blob))))
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "whatever the outcome, the producer must see that this end is closed"
)]
fn encode(jobs: &Receiver<Job>, give_back: SyncSender<Job>, mut encoder: Encoder<'_>) -> Result<Blob, Error> {
    for mut job in jobs {
        encoder.take(&mut job.block)?;
        // The producer may be done already.
        let _ = give_back.send(job);
    }
    encoder.finish()
}

/// A pair of buffers on its way: to a compressor with a block, to the writer with that compressed, and back.
struct Job {
    number: u64,
    /// Where the block begins in the tar.
    offset: u64,
    block: Vec<u8>,
    packed: Vec<u8>,
}

struct Producer {
    empty: Receiver<Job>,
    full: Sender<Job>,
    number: u64,
    offset: u64,
}

impl Blocks for Producer {
    fn take(&mut self, block: &mut Vec<u8>) -> Result<(), Error> {
        // Nobody gives buffers back, or takes them, once something failed there; the error is theirs to report.
        let mut job = self.empty.recv().map_err(|_| ErrorKind::Cancelled)?;
        std::mem::swap(&mut job.block, block);
        block.clear();
        (job.number, job.offset) = (self.number, self.offset);
        self.number += 1;
        self.offset += job.block.len() as u64;
        self.full.send(job).map_err(|_| ErrorKind::Cancelled.into())
    }
}

/// So many empty jobs for blocks of `size` bytes, in a channel that holds all of them.
fn buffers(count: usize, size: usize) -> (SyncSender<Job>, Receiver<Job>) {
    let (give_back, empty) = sync_channel(count);
    for _ in 0..count {
        let job = Job { number: 0, offset: 0, block: Vec::with_capacity(size), packed: Vec::new() };
        give_back.send(job).expect("the channel holds all buffers and its other end is here");
    }
    (give_back, empty)
}

/// Makes gzip members on threads of their own, what is to be compressed on another, and writes in this one.
fn run_on<T: Send, P: FnOnce(&mut dyn Blocks) -> Result<T, Error> + Send>(
    threads: usize,
    level: u32,
    mut blob: BlobWriter<'_>,
    produce: P,
) -> Elsewhere<'_, T, P> {
    // One block per compressor, one to find when it is done, and one in the writer's hands.
    let (give_back, empty) = buffers(threads + 2, Compression::Gzip { level }.block_size());
    let (full, jobs) = channel();
    let jobs = Mutex::new(jobs);
    let (done, results) = channel();
    // A thread that does not start must not take it along.
    let produce = Mutex::new(Some(produce));
    let take = || produce.lock().unwrap_or_else(PoisonError::into_inner).take();
    let made = thread::scope(|scope| {
        let jobs = &jobs;
        let started = (0..threads).map_while(|_| {
            let done = done.clone();
            thread::Builder::new().spawn_scoped(scope, move || work(level, jobs, &done)).ok()
        });
        let workers = started.count();
        drop(done);
        let run = move || take().map(|produce| produce(&mut Producer { empty, full, number: 0, offset: 0 }));
        let producer = match workers {
            0 => None,
            _ => thread::Builder::new().spawn_scoped(scope, run).ok(),
        }?;
        let written = write_in_order(&results, give_back, &mut blob);
        // The workers must see that nobody listens, even while the producer waits for them.
        drop(results);
        let made = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Some(written.and(made))
    });
    match (made, take()) {
        (None, Some(produce)) => Elsewhere::NoThreads(blob, produce),
        (made, _) => {
            let made = made.expect("what is to be produced is there unless it was produced");
            Elsewhere::Done(made.and_then(|made| Ok((made, blob.finish()?))))
        }
    }
}

/// Tells the writer that a block will not come; it would wait for ever otherwise.
struct TellPanic<'d>(&'d Sender<Result<Job, Error>>);

impl Drop for TellPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Err(ErrorKind::Cancelled.into()));
        }
    }
}

/// Compresses jobs until there are no more, or nobody wants them.
fn work(level: u32, jobs: &Mutex<Receiver<Job>>, done: &Sender<Result<Job, Error>>) {
    let _guard = TellPanic(done);
    let mut compressor = GzipCompressor::new(level);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = job else { return };
        let result = compress(&mut compressor, &job.block, &mut job.packed, job.offset).map(|()| job);
        if done.send(result).is_err() {
            return;
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "whatever the outcome, the producer must see that this end is closed"
)]
fn write_in_order(
    results: &Receiver<Result<Job, Error>>,
    give_back: SyncSender<Job>,
    blob: &mut BlobWriter<'_>,
) -> Result<(), Error> {
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for result in results {
        let job = result?;
        waiting.insert(job.number, job);
        while let Some(job) = waiting.remove(&next) {
            blob.write(&job.packed)?;
            next += 1;
            // The producer may be done already.
            let _ = give_back.send(job);
        }
    }
    Ok(())
}
