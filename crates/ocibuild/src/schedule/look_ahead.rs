//! Records that are asked for together.

use std::cell::RefCell;
use std::collections::HashMap;

use ocibuild_spec::Digest;

use crate::cache::{CacheError, StepRecord, StepRecords};

/// Records that were looked up for steps to come. A key builds on the one before it, and once one is known so are those
/// of all commands behind it, as long as no files count in between: one question for all of them.
///
/// It is for looking up what earlier builds left, before this one makes anything.
#[derive(Debug, Default)]
pub(super) struct LookAhead {
    records: RefCell<HashMap<Digest, Option<StepRecord>>>,
}

impl LookAhead {
    /// The record of a key. If nobody asked for it before, those of the keys `behind` it are asked for as well.
    pub(super) fn record(
        &self,
        records: &dyn StepRecords,
        key: &Digest,
        behind: impl FnOnce() -> Vec<Digest>,
    ) -> Result<Option<StepRecord>, CacheError> {
        if let Some(known) = self.records.borrow_mut().remove(key) {
            return Ok(known);
        }
        let keys: Vec<Digest> = std::iter::once(key.clone()).chain(behind()).collect();
        let mut found = keys.iter().cloned().zip(records.look_up(&keys)?);
        let own = found.next().and_then(|(_, record)| record);
        if own.is_some() {
            self.records.borrow_mut().extend(found);
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ocibuild_spec::{Descriptor, DiffId, MediaType, Timestamp};

    use super::*;
    use crate::cache::{EncodingOptions, LayerEncoding};

    /// Has a record of each key of which there is one, and notes what it is asked for.
    #[derive(Debug)]
    struct Noted {
        known: Vec<Digest>,
        asked: Mutex<Vec<usize>>,
    }

    impl StepRecords for Noted {
        fn look_up(&self, keys: &[Digest]) -> Result<Vec<Option<StepRecord>>, CacheError> {
            self.asked.lock().unwrap().push(keys.len());
            let record = |key: &Digest| {
                let descriptor = Descriptor::of(MediaType::ImageLayer, b"");
                let form =
                    LayerEncoding::new(DiffId(Digest::of(b"")), descriptor, EncodingOptions::default());
                let record = StepRecord::new(key.clone(), Vec::new(), Timestamp::default(), form);
                self.known.contains(key).then_some(record)
            };
            Ok(keys.iter().map(record).collect())
        }

        fn put(&self, _: &StepRecord) -> Result<(), CacheError> {
            unreachable!("nothing is made")
        }

        fn put_alias(&self, _: &Digest, _: &Digest) -> Result<(), CacheError> {
            unreachable!("nothing is made")
        }
    }

    #[test]
    fn keys_that_are_known_together_are_asked_for_together() {
        let keys = ["a", "b", "c", "d"].map(Digest::of);
        let records = Noted { known: keys[..3].to_vec(), asked: Mutex::default() };
        let ahead = LookAhead::default();
        let ask = |number: usize| {
            let behind = || keys[number + 1..].to_vec();
            ahead.record(&records, &keys[number], behind).unwrap().map(|record| record.key)
        };
        let found: Vec<_> = (0..4).map(ask).collect();
        assert_eq!(found, [Some(keys[0].clone()), Some(keys[1].clone()), Some(keys[2].clone()), None]);
        assert_eq!(*records.asked.lock().unwrap(), [4]);
        // What is behind a step without a result runs under other keys, or has none to be found; it is not kept.
        assert_eq!((ask(3), ask(3)), (None, None));
        assert_eq!(*records.asked.lock().unwrap(), [4, 1, 1]);
    }
}
