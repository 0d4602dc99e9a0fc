use std::fs::File;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::Error;

/// What a file has at an offset, as far as its file system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Bytes that are stored, up to this offset.
    Data {
        /// Where they end.
        end: u64,
    },
    /// Nothing is stored, and zeros are read, up to this offset.
    Hole {
        /// Where it ends.
        end: u64,
    },
    /// The file ends at the offset, or before it.
    End,
}

/// Whether less of a file is stored than it has bytes: it has holes, or its file system compresses it.
pub fn is_sparse(file: &File) -> Result<bool, Error> {
    rustix::fs::fstat(file).map(|stat| has_less(&stat)).map_err(Error::at("fstat", ""))
}

/// Whether a file has fewer blocks than its bytes fill.
pub(crate) fn has_less(stat: &rustix::fs::Stat) -> bool {
    // Blocks are counted in 512 bytes, whatever the file system's own are.
    u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512)
        < u64::try_from(stat.st_size).unwrap_or_default()
}

/// What `file` has at `offset`. It moves the position of the file. Where the file system knows no holes, everything is
/// data.
pub fn extent_at(file: &File, offset: u64) -> Result<Extent, Error> {
    let size = rustix::fs::fstat(file).map_err(Error::at("fstat", ""))?.st_size;
    let size = u64::try_from(size).unwrap_or_default();
    if offset >= size {
        return Ok(Extent::End);
    }
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data > offset => Ok(Extent::Hole { end: data.min(size) }),
        Ok(_) => match rustix::fs::seek(file, SeekFrom::Hole(offset)) {
            Ok(end) if end > offset => Ok(Extent::Data { end }),
            // The file was changed in between.
            Ok(_) | Err(Errno::NXIO) => Ok(Extent::Data { end: size }),
            Err(errno) => Err(Error::new("lseek", "", errno)),
        },
        // There is no data behind the offset.
        Err(Errno::NXIO) => Ok(Extent::Hole { end: size }),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Extent::Data { end: u64::MAX }),
        Err(errno) => Err(Error::new("lseek", "", errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn holes_and_data_are_told_apart() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(extent_at(&file, 0).unwrap(), Extent::End);
        file.set_len(8 << 20).unwrap();
        if !is_sparse(&file).unwrap() {
            // The file system of this test has no holes: nothing can be said about them.
            assert!(matches!(extent_at(&file, 0).unwrap(), Extent::Data { .. }));
            return;
        }
        assert_eq!(extent_at(&file, 0).unwrap(), Extent::Hole { end: 8 << 20 });
        file.write_all_at(b"data", 4 << 20).unwrap();
        assert_eq!(extent_at(&file, 1).unwrap(), Extent::Hole { end: 4 << 20 });
        let Extent::Data { end } = extent_at(&file, 4 << 20).unwrap() else {
            panic!("the data are not found")
        };
        assert_eq!(extent_at(&file, end).unwrap(), Extent::Hole { end: 8 << 20 });
        assert_eq!(extent_at(&file, 8 << 20).unwrap(), Extent::End);
    }
}
