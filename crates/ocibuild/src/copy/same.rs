//! Which of the files that a copy places are those that are there already.
//!
//! Where the metadata cannot tell, the content decides. That is found out for all files of a step at once, by digests that
//! are known: those of the base are in the listings of its layers, and those of a source are what its key was made of.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ocibuild_snapshot::{Changes, NodeKind, Tree};
use ocibuild_spec::{Content, ContentDigest, ContentHasher};

use super::{Bytes, Contents, CopyContext, NEW_LAYER};
use crate::error::Error;
use crate::failure::ChangedPath;
use crate::failure::{HostFailure, HostOperation};
use crate::layers::FileOfLayer;

/// A file that is alike in all but perhaps its content to the one that it replaces.
struct Candidate {
    path: PathBuf,
    below: FileOfLayer,
    content: Content,
    size: u64,
}

/// What turns `base` into `after`, a tree with files of the step.
pub(super) fn changes(
    base: &Tree,
    after: &Tree,
    contents: &Contents,
    context: &CopyContext<'_>,
) -> Result<Changes, Error> {
    let mut candidates = Vec::new();
    let changes = ocibuild_snapshot::changes(base, after, &mut |path, before, now| {
        let (NodeKind::File { origin: below, .. }, NodeKind::File { size, origin }) =
            (&before.kind, &now.kind)
        else {
            return false;
        };
        if origin.layer == NEW_LAYER {
            let below = (below.layer, below.content);
            candidates.push(Candidate { path: path.to_owned(), below, content: origin.content, size: *size });
        }
        true
    });
    let same = decide(&candidates, contents, context)?;
    if same.iter().all(|same| *same) {
        return Ok(changes);
    }
    // The same trees raise the same questions, whatever the answers are.
    let mut same = same.into_iter();
    Ok(ocibuild_snapshot::changes(base, after, &mut |_, _, now| match &now.kind {
        NodeKind::File { origin, .. } if origin.layer == NEW_LAYER => same.next().unwrap_or(false),
        _ => true,
    }))
}

/// Which of the files have the content of those below.
fn decide(
    candidates: &[Candidate],
    contents: &Contents,
    context: &CopyContext<'_>,
) -> Result<Vec<bool>, Error> {
    let files: Vec<FileOfLayer> = candidates.iter().map(|candidate| candidate.below).collect();
    let below = (context.base_digests)(&files)?;
    let is_same = |(candidate, below): (&Candidate, Option<ContentDigest>)| match below {
        Some(below) => Ok(contents.digest(candidate)? == below),
        None => Ok(false),
    };
    candidates.iter().zip(below).map(is_same).collect()
}

impl Contents {
    /// The digest of a placed file; it is read only where nobody has read it yet.
    fn digest(&self, file: &Candidate) -> Result<ContentDigest, Error> {
        let Candidate { path, content, size, .. } = file;
        let bytes = usize::try_from(content.0).ok().and_then(|number| self.bytes.get(number));
        let known = match bytes {
            Some(Bytes::Inline(text)) => Some(ContentDigest::of(text)),
            Some(Bytes::Base { origin, .. }) => {
                self.base_files.as_ref().and_then(|files| files.digest(origin))
            }
            _ => self.known_digest(bytes, path),
        };
        match known {
            Some(digest) => Ok(digest),
            None => self.open(path, *content, *size).and_then(read_digest).map_err(|error| {
                ChangedPath::or(error, |error| {
                    HostFailure::operation(HostOperation::ReadCopied, error).into()
                })
            }),
        }
    }

    fn known_digest(&self, bytes: Option<&Bytes>, placed: &Path) -> Option<ContentDigest> {
        let (part, path) = bytes?.source_path(placed)?;
        self.sources[part].known_digest(&path)
    }
}

fn read_digest(mut reader: Box<dyn Read + Send>) -> io::Result<ContentDigest> {
    let mut hasher = ContentHasher::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
