//! Images on their way to and from registries.

pub(crate) mod pull;
mod push;

use std::sync::atomic::{AtomicUsize, Ordering};

use ocibuild_registry::BlobPush;
use ocibuild_spec::{Descriptor, Reference};

pub use pull::{PullOptions, Pulled};
pub use push::Pushed;
pub(crate) use push::{ImageUpload, also, push};

use crate::error::Error;

/// Where a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// In the state directory.
    State,
    /// At a registry, under this name with a digest.
    Registry(Reference),
}

/// Blobs that are on their way to or from one registry at the same time.
const AT_ONCE: usize = 4;

/// What happens while an image is pushed or pulled; told from several threads, of each blob in order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Transfer<'a> {
    /// An image for an index was found.
    Found {
        /// The name it was given by.
        name: &'a Reference,
        /// Where it is.
        origin: &'a Origin,
    },
    /// A blob is looked at.
    Started {
        /// The blob.
        blob: &'a Descriptor,
    },
    /// So many bytes of it are over.
    Progress {
        /// The blob.
        blob: &'a Descriptor,
        /// Bytes from its beginning; fewer than before where they have to be sent again.
        bytes: u64,
    },
    /// The registry has it.
    Pushed {
        /// The blob.
        blob: &'a Descriptor,
        /// How it came by it.
        how: &'a BlobPush,
    },
    /// The state directory has it.
    Pulled {
        /// The blob.
        blob: &'a Descriptor,
        /// It was there before.
        existed: bool,
    },
    /// A manifest or an index has a name now.
    Named {
        /// The name.
        name: &'a Reference,
        /// What it stands for.
        descriptor: &'a Descriptor,
    },
}

/// Who is told about [`Transfer`]s.
pub type Watcher<'a> = dyn Fn(Transfer<'_>) + Sync + 'a;

/// Does the work for all items, several at a time, until one fails.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), Error> + Sync) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let run = || -> Result<(), Error> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                next.store(items.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        // Of those that do not start, this one does the work.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, run).ok();
        let threads: Vec<_> = (1..AT_ONCE.min(items.len())).map_while(start).collect();
        let own = run();
        // The first one that failed is the one to tell about; the others stopped because of it.
        threads.into_iter().fold(own, |result, thread| {
            result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}
