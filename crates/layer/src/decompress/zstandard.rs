//! Zstandard frames as one stream. The decoder of the `zstd` crate says only in words why a frame is refused; here the
//! reason has to be told from damage.

use std::io::{self, BufRead, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use crate::{Error, ErrorKind, Format};

/// `ZSTD_error_frameParameter_windowTooLarge` of `zstd_errors.h`, which never changes; errors are negated.
const WINDOW_TOO_LARGE: usize = 16_usize.wrapping_neg();

pub(super) struct Zstandard<R> {
    reader: R,
    context: DCtx<'static>,
    /// No frame is begun and not ended.
    is_between: bool,
    window_log: u32,
}

impl<R: BufRead> Zstandard<R> {
    /// Frames that need a larger window than 2 to the power of `window_log` are refused.
    pub(super) fn new(reader: R, window_log: u32) -> io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        let parameter = DParameter::WindowLogMax(window_log);
        context.set_parameter(parameter).map_err(|code| io::Error::other(get_error_name(code)))?;
        Ok(Self { reader, context, is_between: true, window_log })
    }
}

impl<R: BufRead> Read for Zstandard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.reader.fill_buf()?;
            let is_end = input.is_empty();
            if is_end && self.is_between {
                return Ok(0);
            }
            let mut from = InBuffer::around(input);
            let mut to = OutBuffer::around(&mut *buffer);
            let left = self.context.decompress_stream(&mut to, &mut from);
            let (taken, made) = (from.pos(), to.pos());
            self.reader.consume(taken);
            match left {
                Ok(left) => self.is_between = left == 0,
                Err(WINDOW_TOO_LARGE) => {
                    let maximum = 1 << self.window_log;
                    let error = ErrorKind::DecoderMemory { format: Format::Zstd, maximum };
                    return Err(io::Error::new(io::ErrorKind::InvalidData, Error::from(error)));
                }
                Err(code) => return Err(io::Error::new(io::ErrorKind::InvalidData, get_error_name(code))),
            }
            if made > 0 {
                return Ok(made);
            }
            if is_end && !self.is_between {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last frame is incomplete"));
            }
        }
    }
}
