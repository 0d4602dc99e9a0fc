use std::collections::HashMap;

use ocibuild_spec::{CancelToken, DiffId, EntryKind};

use super::{ImageDetails, State};
use crate::error::{Error, ErrorKind};
use crate::layers::{Layer, Layers};

/// What layers take up once they are unpacked, each looked at once.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    known: HashMap<DiffId, u64>,
}

impl Sizes {
    /// For each layer of an image the bytes of its files, as docker counts them. Of a layer that no index can be made of
    /// (it is not a tar, or damaged) it is the size of the blob: looking at images is possible all the same.
    pub(super) fn of(&mut self, state: &State<'_>, image: &ImageDetails) -> Result<Vec<u64>, Error> {
        let cancel = CancelToken::new();
        let layers = Layers::of_store(state.layout, state.snapshots, state.cache.listings(), &cancel);
        let diff_ids = image.config.rootfs.layers();
        let mut sizes = Vec::with_capacity(diff_ids.len());
        for (number, descriptor) in image.manifest.layers().iter().enumerate() {
            let Some(diff_id) = diff_ids.get(number) else {
                sizes.push(descriptor.size);
                continue;
            };
            if let Some(size) = self.known.get(diff_id) {
                sizes.push(*size);
                continue;
            }
            let layer = Layer::stored(state.layout, diff_id.clone(), descriptor.clone());
            let size = match layers.index(&layer) {
                Ok(index) => index.entries.iter().map(|entry| file_size(&entry.kind)).sum(),
                Err(error) if error.kind() == ErrorKind::Refused => descriptor.size,
                Err(error) => return Err(error),
            };
            self.known.insert(diff_id.clone(), size);
            sizes.push(size);
        }
        Ok(sizes)
    }
}

fn file_size(kind: &EntryKind) -> u64 {
    if let EntryKind::File { size, .. } = kind { *size } else { 0 }
}
