use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use ocibuild_layer::{Format, Limits, Policy, TarReader, decompress, is_tar, sniff};
use ocibuild_snapshot::Tree;
use ocibuild_spec::{EntryKind, Timestamp};

use crate::copy::{Archive, Bytes, Placement, Source, SourceNode, TreeSource, archived};
use crate::error::Error;
use crate::failure::{ContextFailure, CopyProblem, HostFailure, HostOperation};
use crate::layers::FileRange;

/// The files of an archive, which is read where it lies: nothing of it is unpacked.
#[derive(Debug)]
pub(super) struct ArchiveSource {
    view: TreeSource,
    placement: Placement,
    plain: File,
}

/// What a stream of bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// A tar, compressed or not.
    Archive,
    /// Something else, as text for instance.
    Other,
    /// Compressed, but no tar.
    Compressed(Format),
}

/// Looks at the beginning of a file.
pub(super) fn nature_of(file: &File, size: u64) -> Result<Nature, Error> {
    let whole = || -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(FileRange { file: file.try_clone().map_err(cannot_read)?, at: 0, left: size }))
    };
    let mut first = Vec::new();
    whole()?.take(512).read_to_end(&mut first).map_err(cannot_read)?;
    let format = sniff(&first);
    let Ok((_, mut plain)) = decompress(whole()?) else { return Ok(Nature::Compressed(format)) };
    let mut block = Vec::new();
    let begins = match plain.by_ref().take(512).read_to_end(&mut block) {
        Ok(_) => true,
        // What the decoder refuses although it is whole, as a window that is too large.
        Err(error) if is_of_the_decoder(&error) => {
            return Err(ContextFailure::NotDecompressed { source: error }.into());
        }
        Err(_) => false,
    };
    // An archive without entries has no header, only its end.
    let is_empty_tar = begins && block.len() == 512 && block.iter().all(|byte| *byte == 0);
    let limits = Limits::for_blob(size);
    let has_header = || is_tar(&mut io::Cursor::new(block).chain(plain), &limits).unwrap_or(false);
    if is_empty_tar || (begins && has_header()) {
        return Ok(Nature::Archive);
    }
    Ok(if format == Format::Plain { Nature::Other } else { Nature::Compressed(format) })
}

impl ArchiveSource {
    /// Lists the archive in `file`, of `size` bytes. Names in it are confined as those of `ADD` are (6.63).
    pub(super) fn open(file: &File, size: u64, scratch: &Path) -> Result<(Self, Option<Timestamp>), Error> {
        let own = |at| file.try_clone().map(|file| FileRange { file, at, left: size }).map_err(cannot_read);
        let (format, mut stream) = decompress(Box::new(own(0)?)).map_err(broken)?;
        let limits = Limits::for_blob(size);
        let plain = if format == Format::Plain {
            file.try_clone().map_err(cannot_read)?
        } else {
            let mut plain = tempfile::tempfile_in(scratch).map_err(cannot_read)?;
            let mut bounded = stream.by_ref().take(limits.tar_size + 1);
            let mut buffer = vec![0; 64 << 10];
            let mut written = 0;
            loop {
                let count = bounded.read(&mut buffer).map_err(broken)?;
                if count == 0 {
                    break;
                }
                written += count as u64;
                if written > limits.tar_size {
                    let limit = limits.tar_size;
                    return Err(ContextFailure::DecompressesTooMuch { limit }.into());
                }
                plain.write_all(&buffer[..count]).map_err(cannot_read)?;
            }
            plain.seek(SeekFrom::Start(0)).map_err(cannot_read)?;
            plain
        };
        let length = plain.metadata().map_err(cannot_read)?.len();
        let whole = FileRange { file: plain.try_clone().map_err(cannot_read)?, at: 0, left: length };
        let mut reader =
            TarReader::new(io::BufReader::with_capacity(64 << 10, whole), Policy::Archive, limits);
        let mut entries = Vec::new();
        while let Some(found) = reader.next_entry().map_err(broken)? {
            entries.push(found);
        }
        reader.drain().map_err(broken)?;
        let files = entries.iter().map(|found| &found.entry);
        let files = files.filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
        let newest = files.map(|entry| entry.metadata.mtime).max();
        let mut placement = Placement::new(Tree::new(), Timestamp::default());
        placement.extract(&Archive { entries, number: 0 }, "/").map_err(broken)?;
        let view = TreeSource::new(std::sync::Arc::new(placement.tree.clone()));
        Ok((Self { view, placement, plain }, newest))
    }
}

impl Source for ArchiveSource {
    fn stat(&self, path: &Path) -> Result<Option<SourceNode>, Error> {
        self.view.stat(path)
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        self.view.names(path)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        match self.view.content(path).map(|(content, size)| (self.placement.bytes.get(content), size)) {
            Some((Some(Bytes::Archive { offset, sparse, .. }), size)) => {
                let file = self.plain.try_clone().map_err(cannot_read)?;
                Ok(archived(file, *offset, size, sparse.as_ref()))
            }
            _ => Err(CopyProblem::NotRegular { path: path.to_owned() }.into()),
        }
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    ContextFailure::BrokenArchive { source: error.into() }.into()
}

fn is_of_the_decoder(error: &io::Error) -> bool {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<ocibuild_layer::Error>());
    own.is_some()
}

fn cannot_read(error: io::Error) -> Error {
    HostFailure::operation(HostOperation::KeepContext, error).into()
}
