//! Layers that a build reads from one end to the other.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ocibuild_spec::{CancelToken, DiffId};

use crate::error::Error;
use crate::single_flight::SingleFlight;

/// Which layers are being read: none by two threads at the same time, and none twice where once does. A layer is fetched,
/// decompressed and hashed whenever it is read, so that is what most of a first build's time goes into.
#[derive(Debug, Default)]
pub(crate) struct LayerReads {
    flights: SingleFlight<DiffId, ()>,
    to_unpack: Mutex<HashSet<DiffId>>,
}

impl LayerReads {
    /// Says that a step will need these layers unpacked. Who only wants to know what is in one unpacks it, too, which takes
    /// the same pass.
    pub(crate) fn expect_unpacked<'d>(&self, layers: impl IntoIterator<Item = &'d DiffId>) {
        self.to_unpack().extend(layers.into_iter().cloned());
    }

    pub(super) fn is_to_be_unpacked(&self, layer: &DiffId) -> bool {
        self.to_unpack().contains(layer)
    }

    /// Reads a layer with `read`, or waits until somebody else has. That counts as long as the layer `is_read`.
    pub(super) fn once(
        &self,
        layer: &DiffId,
        cancel: &CancelToken,
        is_read: impl Fn() -> bool,
        read: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.flights.get_or(layer, cancel, |()| is_read(), |_| if is_read() { Ok(()) } else { read() })
    }

    fn to_unpack(&self) -> MutexGuard<'_, HashSet<DiffId>> {
        self.to_unpack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
