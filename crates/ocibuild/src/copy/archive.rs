//! Archives among the files of `ADD` (6.60): how they are told from others, and read.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_layer::{
    Cancellable, ErrorKind as LayerErrorKind, Format, Limits, Policy, TarReader, decompress, is_tar,
};
use ocibuild_spec::CancelToken;

use super::extract::Archive;
use super::select::Selected;
use super::source::{Source, SourceKind};
use crate::error::{Error, ErrorKind, class_below};
use crate::failure::ChangedPath;
use crate::failure::{CopyProblem, FileAction, HostFailure};
use crate::threads::ThreadBudget;

/// What archives are read with.
pub(crate) struct Archives<'a> {
    /// A directory for spools, on the disk of the state directory.
    pub(crate) scratch: &'a Path,
    /// Bytes that an archive may unpack to, whatever its own size.
    pub(crate) limit: Option<u64>,
    /// Threads that decompress.
    pub(crate) threads: &'a ThreadBudget,
    pub(crate) cancel: &'a CancelToken,
    /// Told of damage that is not an error to BuildKit.
    pub(crate) warn: &'a dyn Fn(&str),
}

/// A file that may be an archive.
struct Candidate<'a> {
    source: &'a dyn Source,
    path: &'a Path,
    limits: Limits,
    archives: &'a Archives<'a>,
}

impl Archives<'_> {
    /// The archive that `ADD` unpacks instead of copying the file that was selected, if it is one; its plain tar is the
    /// file.
    pub(super) fn open(
        &self,
        source: &dyn Source,
        selected: &Selected,
        number: usize,
    ) -> Result<Option<(Archive, File)>, Error> {
        let SourceKind::File { size } = selected.node.kind else { return Ok(None) };
        let limits = Limits::for_archive(size, self.limit);
        let _share = self.threads.take(1, self.cancel)?;
        let candidate = Candidate { source, path: &selected.path, limits, archives: self };
        if !candidate.look(|whole| candidate.is_archive(whole))? {
            return Ok(None);
        }
        candidate.look(|whole| candidate.read(whole, number)).map(Some)
    }
}

impl Candidate<'_> {
    /// What `look` finds in the file. A file that may change is read to its end whatever was found, where it shows whether
    /// the bytes are those of the key, and a change is told before what became of it.
    fn look<T>(&self, look: impl FnOnce(&Stream) -> Result<T, Error>) -> Result<T, Error> {
        let whole = Stream::new(self.source.open(self.path)?);
        let found = look(&whole);
        if self.source.may_change() {
            let mut rest = Cancellable::new(whole, self.archives.cancel);
            io::copy(&mut rest, &mut io::sink()).map_err(|error| self.unreadable(&error))?;
        }
        found
    }

    fn plain(&self, whole: &Stream) -> Result<(Format, Box<dyn Read + Send>), Error> {
        let whole = Cancellable::new(whole.clone(), self.archives.cancel);
        let (format, plain) = decompress(Box::new(whole)).map_err(|error| self.unreadable(&error))?;
        Ok((format, Box::new(Cancellable::new(plain, self.archives.cancel))))
    }

    /// Whether the first header is there. A file that is damaged before it, or is compressed without being an archive, is
    /// copied as it is; of damage the user hears.
    fn is_archive(&self, whole: &Stream) -> Result<bool, Error> {
        let (format, mut plain) = self.plain(whole)?;
        let damage = match is_tar(&mut plain, &self.limits) {
            Ok(true) => return Ok(true),
            Ok(false) if format == Format::Plain => return Ok(false),
            Ok(false) => match self.drain(&mut plain)? {
                Rest::Damaged(error) => error,
                Rest::Whole | Rest::TooLong => return Ok(false),
            },
            Err(error) => self.damage(format, &error)?,
        };
        (self.archives.warn)(&format!(
            "/{} is damaged {format} data: {damage}: it is copied as it is, and not unpacked",
            self.path.display()
        ));
        Ok(false)
    }

    fn read(&self, whole: &Stream, number: usize) -> Result<(Archive, File), Error> {
        let scratch = self.archives.scratch;
        let no_spool = |error| no_spool(scratch, error);
        let (format, plain) = self.plain(whole)?;
        let mut spool = tempfile::tempfile_in(scratch).map_err(no_spool)?;
        let copy = BufWriter::with_capacity(SPOOL_BUFFER, spool.try_clone().map_err(no_spool)?);
        let tee = Tee { inner: plain, copy, failure: None };
        let mut reader = TarReader::new(tee, Policy::Archive, self.limits);
        let mut entries = Vec::new();
        loop {
            match reader.next_entry() {
                Ok(Some(found)) => entries.push(found),
                Ok(None) => break,
                Err(error) => {
                    let failure = reader.into_inner().failure;
                    return Err(failure.map_or_else(|| self.broken(&error), no_spool));
                }
            }
        }
        let mut tee = reader.into_inner();
        tee.copy.flush().map_err(no_spool)?;
        // BuildKit stops here; but nobody has looked at the checksums yet. What follows a plain tar has none.
        if format != Format::Plain {
            match self.drain(&mut tee.inner)? {
                Rest::Whole => {}
                Rest::TooLong => return Err(self.too_large(self.limits.tar_size)),
                Rest::Damaged(error) => (self.archives.warn)(&format!(
                    "/{} is damaged {format} data: {error}: its files are unpacked, as BuildKit does it, but may be wrong",
                    self.path.display()
                )),
            }
        }
        spool.seek(SeekFrom::Start(0)).map_err(no_spool)?;
        Ok((Archive { entries, number }, spool))
    }

    /// Reads what is left of a stream.
    fn drain(&self, plain: &mut dyn Read) -> Result<Rest, Error> {
        let mut buffer = vec![0; SPOOL_BUFFER];
        let mut read = 0_u64;
        loop {
            match plain.read(&mut buffer) {
                Ok(0) => return Ok(Rest::Whole),
                Ok(count) => read += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match error.downcast::<ocibuild_layer::Error>() {
                    Ok(error) => return Err(self.broken(&error)),
                    Err(error) if is_of_the_host(&error) => return Err(self.unreadable(&error)),
                    Err(error) => return Ok(Rest::Damaged(error)),
                },
            }
            if read > self.limits.tar_size {
                return Ok(Rest::TooLong);
            }
        }
    }

    /// The damage for which a stream could not be read; an error if it is none.
    fn damage(&self, format: Format, error: &ocibuild_layer::Error) -> Result<io::Error, Error> {
        match error.kind() {
            LayerErrorKind::ReadTar { source, .. } if format != Format::Plain && !is_of_the_host(source) => {
                Ok(io::Error::new(source.kind(), source.to_string()))
            }
            _ => Err(self.broken(error)),
        }
    }

    fn broken(&self, error: &ocibuild_layer::Error) -> Error {
        let path = self.path.to_owned();
        match error.kind() {
            LayerErrorKind::Cancelled => Error::cancelled(),
            LayerErrorKind::LimitExceeded { what, maximum, .. } if what.is_of_content() => {
                self.too_large(*maximum)
            }
            LayerErrorKind::ReadTar { source, .. } if is_of_the_host(source) => self.unreadable(source),
            LayerErrorKind::DecoderMemory { .. } => {
                CopyProblem::ArchiveRefused { path, reason: error.to_string(), remedy: error.hint() }.into()
            }
            LayerErrorKind::LimitExceeded { .. } => {
                CopyProblem::ArchiveRefused { path, reason: error.to_string(), remedy: None }.into()
            }
            kind => CopyProblem::BrokenArchive { path, reason: Why(kind).to_string() }.into(),
        }
    }

    fn too_large(&self, maximum: u64) -> Error {
        CopyProblem::ArchiveTooLarge { path: self.path.to_owned(), maximum }.into()
    }

    fn unreadable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        if let Some(changed) = ChangedPath::below(error) {
            return changed.into();
        }
        if class_below(error) == Some(ErrorKind::Cancelled) {
            return Error::cancelled();
        }
        CopyProblem::ArchiveUnreadable { path: self.path.to_owned(), reason: error.to_string() }.into()
    }
}

/// What is wrong with an archive, the damage that a decoder found included.
struct Why<'e>(&'e LayerErrorKind);

impl std::fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            LayerErrorKind::ReadTar { source, .. } => write!(f, "{}: {source}", self.0),
            kind => kind.fmt(f),
        }
    }
}

/// A file of which others read as much as they want, and which is read on from there.
#[derive(Clone)]
struct Stream(Arc<Mutex<Box<dyn Read + Send>>>);

impl Stream {
    fn new(reader: Box<dyn Read + Send>) -> Self {
        Self(Arc::new(Mutex::new(reader)))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

/// What follows the end of an archive.
enum Rest {
    Whole,
    TooLong,
    Damaged(io::Error),
}

/// What the operating system answered, or the source itself: nothing that a decoder finds wrong.
fn is_of_the_host(error: &io::Error) -> bool {
    let is_of_the_source =
        error.get_ref().is_some_and(|inner| inner.is::<Error>() || inner.is::<ChangedPath>());
    error.raw_os_error().is_some() || is_of_the_source
}

const SPOOL_BUFFER: usize = 64 << 10;

fn no_spool(scratch: &Path, error: io::Error) -> Error {
    HostFailure::file(FileAction::WriteBelow, scratch, error).into()
}

/// Copies what is read.
struct Tee<R> {
    inner: R,
    copy: BufWriter<File>,
    /// Why the copy could not be written.
    failure: Option<io::Error>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Err(error) = self.copy.write_all(&buffer[..count]) {
            self.failure = Some(error);
            return Err(io::Error::other("the copy cannot be written"));
        }
        Ok(count)
    }
}
