//! Listings of layers that a build has decoded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ocibuild_layer::LayerListing;
use ocibuild_spec::DiffId;

/// As many entries are kept in all: about 200 bytes each.
const MAX_ENTRIES: usize = 300_000;

/// The listings that were used last. A step asks for those of its stack several times over, and the next step asks for
/// the same again.
#[derive(Debug, Default)]
pub(crate) struct DecodedListings {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The one used last comes last.
    listings: VecDeque<(DiffId, Arc<LayerListing>)>,
    entries: usize,
}

impl DecodedListings {
    pub(super) fn get(&self, layer: &DiffId) -> Option<Arc<LayerListing>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.listings.iter().position(|(known, _)| known == layer)?;
        let found = kept.listings.remove(at)?;
        let listing = Arc::clone(&found.1);
        kept.listings.push_back(found);
        Some(listing)
    }

    /// Keeps a listing, and drops those that were not used for the longest time. One that is too large for all of the
    /// room is not kept.
    pub(super) fn put(&self, layer: &DiffId, listing: &Arc<LayerListing>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = kept.listings.iter().any(|(known, _)| known == layer);
        if is_known || listing.entries.len() > MAX_ENTRIES {
            return;
        }
        kept.entries += listing.entries.len();
        kept.listings.push_back((layer.clone(), Arc::clone(listing)));
        while kept.entries > MAX_ENTRIES {
            let Some((_, oldest)) = kept.listings.pop_front() else { break };
            kept.entries -= oldest.entries.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::{Digest, Entry, EntryKind, Metadata};

    use super::*;

    fn listing(entries: usize) -> Arc<LayerListing> {
        let entry = Entry { path: "d".into(), metadata: Metadata::default(), kind: EntryKind::Directory };
        Arc::new(LayerListing { entries: vec![entry; entries], ..LayerListing::default() })
    }

    #[test]
    fn the_ones_used_last_are_kept() {
        let layers = ["a", "b", "c", "d"].map(|name| DiffId(Digest::of(name)));
        let listings = DecodedListings::default();
        for layer in &layers[..2] {
            listings.put(layer, &listing(MAX_ENTRIES / 2));
        }
        assert!(listings.get(&layers[0]).is_some());
        listings.put(&layers[2], &listing(1));
        listings.put(&layers[3], &listing(MAX_ENTRIES + 1));
        let kept = layers.each_ref().map(|layer| listings.get(layer).is_some());
        assert_eq!(kept, [true, false, true, false]);
    }
}
