mod archive;
mod directory;
mod docker;
mod images;
mod members;
mod select;

use std::path::Path;
use std::sync::Arc;

pub use archive::ArchiveSource;
pub use directory::LayoutSource;
pub use images::{Parts, StoredImage, StoredImages};
use ocibuild_spec::ImageSource;
pub(crate) use select::{descriptor_of, full_name};

use crate::Error;

/// Opens whatever `path` is: an OCI layout directory, an OCI archive or a docker archive. A source with several
/// images gives the one that is asked for by name.
pub fn detect(path: impl AsRef<Path>) -> Result<Arc<dyn ImageSource>, Error> {
    let path = path.as_ref();
    let metadata = fs_err::metadata(path).map_err(Error::fs)?;
    if metadata.is_dir() {
        return Ok(Arc::new(LayoutSource::open(path, None, None)?));
    }
    Ok(Arc::new(ArchiveSource::open(path)?))
}
