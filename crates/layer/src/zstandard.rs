//! A tar as one Zstandard frame, compressed in jobs by threads of the library.
//!
//! The bytes of the frame follow from where its jobs begin and what they know of the bytes before them. Both depend on
//! parameters alone, and the number of threads is not among those. (So it is for any number but 0, which means no jobs.)

use std::io;
use std::thread;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, compress_bound, get_error_name};

use crate::{Error, ErrorKind};

/// The level for 0.
const DEFAULT_LEVEL: i32 = 3;

/// The logarithm of how far back matches are looked for: the 8 MiB that every reader has to support. BuildKit's window is as
/// large, and with half of it trees that hold files twice become larger than its layers.
const WINDOW_LOG: u32 = 23;

/// Bytes of one job, which one thread compresses. With the window and the number of threads it decides about the memory.
const JOB_SIZE: u32 = 1024 * 1024;

/// What a job sees of the bytes before it, other than repetitions of 64 bytes and more, which are found in all of the window:
/// as much as the library offers, 512 KiB.
const OVERLAP_LOG: u32 = 9;

/// The logarithm of the entries of the tables from level [`LARGE_TABLES`] on. The library's own take up to 512 MiB a thread.
const TABLE_LOG: u32 = 20;
const LARGE_TABLES: i32 = 9;

/// A tar of no more bytes is compressed at once, in the calling thread, with more effort at the default level.
const SMALL: usize = 4 * 1024 * 1024;

/// Bytes that are written at a time.
const OUTPUT: usize = 256 * 1024;

/// `ZSTD_error_memory_allocation` of `zstd_errors.h`, which never changes; errors are negated. It is also what the library
/// says when it gets no thread.
const NO_MEMORY: usize = 64_usize.wrapping_neg();

/// A frame that is being written.
pub(crate) struct Frame {
    level: i32,
    threads: u32,
    state: State,
    /// Bytes of tar that were compressed.
    offset: u64,
}

enum State {
    /// All of the tar so far, which may be small.
    Whole(Vec<u8>),
    Jobs {
        context: CCtx<'static>,
        output: Vec<u8>,
    },
}

impl Frame {
    /// A frame that up to `threads` threads compress, the caller's not among them.
    pub(crate) fn new(level: i32, threads: usize) -> Self {
        let level = if level == 0 { DEFAULT_LEVEL } else { level.clamp(1, 22) };
        let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
        Self { level, threads, state: State::Whole(Vec::new()), offset: 0 }
    }

    /// Takes the next bytes, and hands on what is ready.
    pub(crate) fn take(
        &mut self,
        block: &[u8],
        write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let State::Whole(tar) = &mut self.state {
            if tar.len() + block.len() <= SMALL {
                tar.extend_from_slice(block);
                return Ok(());
            }
            let tar = std::mem::take(tar);
            let context = jobs(self.level, self.threads).map_err(|source| self.failed(source))?;
            self.state = State::Jobs { context, output: Vec::with_capacity(OUTPUT) };
            self.compress(&tar, ZSTD_EndDirective::ZSTD_e_continue, write)?;
        }
        self.compress(block, ZSTD_EndDirective::ZSTD_e_continue, write)
    }

    /// Hands on all that is left.
    pub(crate) fn finish(mut self, write: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        match &self.state {
            State::Whole(tar) => {
                let packed = compress_whole(self.level, tar).map_err(|source| self.failed(source))?;
                write(&packed)
            }
            State::Jobs { .. } => self.compress(&[], ZSTD_EndDirective::ZSTD_e_end, write),
        }
    }

    fn compress(
        &mut self,
        block: &[u8],
        directive: ZSTD_EndDirective,
        write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let is_end = directive == ZSTD_EndDirective::ZSTD_e_end;
        let mut input = InBuffer::around(block);
        while let State::Jobs { context, output } = &mut self.state {
            let filled = output.len();
            let mut room = OutBuffer::around_pos(output, filled);
            let left = match context.compress_stream2(&mut room, &mut input, directive) {
                Ok(left) => left,
                // Not as many threads as wanted, but perhaps one.
                Err(NO_MEMORY) if self.offset == 0 && self.threads > 1 => {
                    self.threads = 1;
                    *context = jobs(self.level, 1)
                        .map_err(|source| ErrorKind::Compress { offset: self.offset, source })?;
                    continue;
                }
                Err(code) => return Err(self.failed(reason(code))),
            };
            let is_done = if is_end { left == 0 } else { input.pos() == block.len() };
            if output.len() >= OUTPUT / 2 || (is_end && is_done) {
                write(output)?;
                output.clear();
            }
            if is_done {
                break;
            }
        }
        self.offset += block.len() as u64;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        ErrorKind::Compress { offset: self.offset, source }.into()
    }
}

/// A context for a frame that threads compress.
fn jobs(level: i32, threads: u32) -> io::Result<CCtx<'static>> {
    let mut context = context(level)?;
    if level == DEFAULT_LEVEL {
        // Longer matches than the library's own for this level: numbers in text compress better by a sixth.
        set(&mut context, CParameter::MinMatch(6))?;
        set(&mut context, CParameter::ChainLog(17))?;
        set(&mut context, CParameter::HashLog(17))?;
    }
    set(&mut context, CParameter::NbWorkers(threads))?;
    set(&mut context, CParameter::JobSize(JOB_SIZE))?;
    set(&mut context, CParameter::OverlapSizeLog(OVERLAP_LOG))?;
    Ok(context)
}

/// A frame of a small tar. The default level takes another one, as fast as it is for so few bytes.
fn compress_whole(level: i32, tar: &[u8]) -> io::Result<Vec<u8>> {
    let mut context = if level == DEFAULT_LEVEL {
        match tar.len() >> 10 {
            0..64 => context(16)?,
            64..256 => context(13)?,
            _ => {
                let mut context = context(6)?;
                set(&mut context, CParameter::MinMatch(6))?;
                context
            }
        }
    } else {
        context(level)?
    };
    let mut packed = Vec::with_capacity(compress_bound(tar.len()));
    context.compress2(&mut packed, tar).map_err(reason)?;
    Ok(packed)
}

fn context(level: i32) -> io::Result<CCtx<'static>> {
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    set(&mut context, CParameter::CompressionLevel(level))?;
    set(&mut context, CParameter::ChecksumFlag(true))?;
    set(&mut context, CParameter::WindowLog(WINDOW_LOG))?;
    set(&mut context, CParameter::EnableLongDistanceMatching(true))?;
    if level >= LARGE_TABLES {
        set(&mut context, CParameter::ChainLog(TABLE_LOG))?;
        set(&mut context, CParameter::HashLog(TABLE_LOG))?;
    }
    Ok(context)
}

fn set(context: &mut CCtx<'_>, parameter: CParameter) -> io::Result<()> {
    context.set_parameter(parameter).map(drop).map_err(reason)
}

fn reason(code: usize) -> io::Error {
    if code == NO_MEMORY {
        let thread = thread::Builder::new().spawn(|| {});
        return thread.err().unwrap_or_else(|| io::ErrorKind::OutOfMemory.into());
    }
    io::Error::other(get_error_name(code))
}
