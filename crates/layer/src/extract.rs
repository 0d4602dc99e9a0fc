use std::io::{self, Read};

use ocibuild_spec::{CancelToken, Entry};

use crate::{Error, Limits};

/// Hands every file of the plain tar of a layer, with its content, to `visit`, in the order of the tar; what `visit`
/// does not read is skipped. Reads to the end of the stream.
pub fn extract_files(
    tar: &mut dyn Read,
    limits: &Limits,
    cancel: &CancelToken,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Error> {
    let _ = (tar, limits, cancel, visit);
    todo!()
}
