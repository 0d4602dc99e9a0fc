use std::io::{self, Read};

use ocibuild_spec::{CancelToken, Entry, EntryKind};

use crate::index::LayerReader;
use crate::{Error, ErrorKind, Limits};

/// Hands every file of the plain tar of a layer, with its content, to `visit`, in the order of the tar; what `visit`
/// does not read is skipped. Reads to the end of the stream.
///
/// The tar's own repetitions are not resolved here: of two files with one path both come, and a path may lead through
/// a link. Whoever wants what [`LayerListing`](crate::LayerListing) lists compares the content number.
pub fn extract_files(
    tar: &mut dyn Read,
    limits: &Limits,
    cancel: &CancelToken,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Error> {
    let mut reader = LayerReader::new(tar, limits, cancel);
    while let Some(found) = reader.next_entry()? {
        if let EntryKind::File { .. } = found.entry.kind {
            visit(&found.entry, reader.as_reader()).map_err(|source| failed(&found.entry, source))?;
        }
    }
    reader.finish().map(|_| ())
}

/// An error of our reader comes back through the caller's hands.
fn failed(entry: &Entry, source: io::Error) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => ErrorKind::Extract { path: entry.path.clone(), source }.into(),
    }
}
