//! Where records of steps are kept.

use std::fmt;
use std::time::SystemTime;

use ocibuild_spec::Digest;
use serde::{Deserialize, Serialize};

use super::documents::Documents;
use super::{CacheError, StepRecord, VERSION};

/// Records of finished steps, by the keys of the steps.
///
/// A step has one key that everything counts in, and may have another that is known before its files were looked at. A
/// record is under the first; an *alias* leads to it from the second (9.12).
///
/// Any number of threads and builds may read and write at the same time. A record is there whole or not at all, and the
/// last one that was put under a key counts. Nobody relies on a record that was put to be there later: without it the
/// step runs again.
pub(crate) trait StepRecords: fmt::Debug + Send + Sync {
    /// For each of the keys, in their order, the record under it, or the one that its alias leads to. One that is damaged
    /// or of another version counts as none.
    fn look_up(&self, keys: &[Digest]) -> Result<Vec<Option<StepRecord>>, CacheError>;

    /// Keeps a record under its key, in the place of another one.
    fn put(&self, record: &StepRecord) -> Result<(), CacheError>;

    /// Makes `from` lead to the record under `to`, which need not be there yet.
    fn put_alias(&self, from: &Digest, to: &Digest) -> Result<(), CacheError>;
}

/// Records as files of a directory.
#[derive(Debug, Clone)]
pub(crate) struct RecordDirectory {
    records: Documents,
    aliases: Documents,
}

/// The key by content that a key by inputs stands for (9.12).
#[derive(Debug, Serialize, Deserialize)]
struct Alias {
    v: u32,
    from: Digest,
    key: Digest,
}

impl StepRecords for RecordDirectory {
    fn look_up(&self, keys: &[Digest]) -> Result<Vec<Option<StepRecord>>, CacheError> {
        let look_up = |key: &Digest| {
            let found = match self.record(key)? {
                Some(record) => Some(record),
                None => self.alias(key)?.map_or(Ok(None), |key| self.record(&key))?,
            };
            if let Some(record) = &found {
                self.records.touch(&record.key);
            }
            Ok(found)
        };
        keys.iter().map(look_up).collect()
    }

    fn put(&self, record: &StepRecord) -> Result<(), CacheError> {
        self.records.write_json(&record.key, record)
    }

    fn put_alias(&self, from: &Digest, to: &Digest) -> Result<(), CacheError> {
        self.aliases.write_json(from, &Alias { v: VERSION, from: from.clone(), key: to.clone() })
    }
}

impl RecordDirectory {
    pub(super) fn new(records: Documents, aliases: Documents) -> Self {
        Self { records, aliases }
    }

    fn record(&self, key: &Digest) -> Result<Option<StepRecord>, CacheError> {
        Ok(self.records.read_json(key)?.filter(|record: &StepRecord| record.is_of(key)))
    }

    fn alias(&self, from: &Digest) -> Result<Option<Digest>, CacheError> {
        let alias: Option<Alias> = self.aliases.read_json(from)?;
        Ok(alias.filter(|alias| alias.v == VERSION && alias.from == *from).map(|alias| alias.key))
    }

    /// Whether no step was ever recorded here.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All records that are not damaged, and when each was used last.
    pub(crate) fn all(&self) -> Result<Vec<(StepRecord, SystemTime)>, CacheError> {
        let mut all = Vec::new();
        for key in self.records.keys()? {
            if let (Some(record), Some(used)) = (self.record(&key)?, self.records.used(&key)) {
                all.push((record, used));
            }
        }
        Ok(all)
    }

    pub(crate) fn remove(&self, record: &StepRecord) -> Result<(), CacheError> {
        self.records.remove(&record.key).map(drop)
    }

    /// Removes aliases that lead to no record; the bytes that went.
    pub(super) fn remove_dangling_aliases(&self) -> Result<u64, CacheError> {
        let mut freed = 0;
        for from in self.aliases.keys()? {
            let key = self.alias(&from)?;
            if key.map_or(Ok(None), |key| self.record(&key))?.is_none() {
                freed += self.aliases.remove(&from)?;
            }
        }
        Ok(freed)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn folders(&self) -> (&Documents, &Documents) {
        (&self.records, &self.aliases)
    }

    #[cfg(test)]
    pub(super) fn has_alias(&self, from: &Digest) -> bool {
        self.alias(from).unwrap().is_some()
    }
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::{DiffId, MediaType, Timestamp};

    use super::super::{EncodingOptions, LayerEncoding};
    use super::*;

    fn record(key: &Digest) -> StepRecord {
        let descriptor = ocibuild_spec::Descriptor::of(MediaType::ImageLayer, b"");
        let form = LayerEncoding::new(DiffId(Digest::of(b"")), descriptor, EncodingOptions::default());
        StepRecord::new(key.clone(), Vec::new(), Timestamp::default(), form)
    }

    #[test]
    fn many_keys_are_looked_up_in_their_order() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| Documents::open(place.path().join(name)).unwrap();
        let directory = RecordDirectory::new(folder("records"), folder("aliases"));
        let records: &dyn StepRecords = &directory;
        let [one, two, quick, nowhere, damaged] =
            ["one", "two", "quick", "nowhere", "damaged"].map(Digest::of);
        assert!(directory.is_empty());
        for key in [&one, &two] {
            records.put(&record(key)).unwrap();
        }
        records.put_alias(&quick, &one).unwrap();
        records.put_alias(&nowhere, &damaged).unwrap();
        fs_err::write(directory.records.path(&damaged), "{").unwrap();
        let asked = [&two, &quick, &nowhere, &damaged, &one].map(Clone::clone);
        let found = records.look_up(&asked).unwrap();
        let keys: Vec<_> = found.into_iter().map(|record| record.map(|record| record.key)).collect();
        assert_eq!(keys, [Some(two), Some(one.clone()), None, None, Some(one)]);
        // An alias that leads nowhere goes, the other one stays.
        assert!(directory.remove_dangling_aliases().unwrap() > 0);
        assert_eq!(directory.aliases.keys().unwrap(), [quick]);
    }

    /// What is damaged counts as none; a disk that fails does not.
    #[test]
    fn what_cannot_be_read_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| Documents::open(place.path().join(name)).unwrap();
        let directory = RecordDirectory::new(folder("records"), folder("aliases"));
        let key = Digest::of("key");
        fs_err::create_dir(directory.records.path(&key)).unwrap();
        let error = directory.look_up(&[key]).unwrap_err();
        assert!(matches!(error, CacheError::Read(..)), "{error:?}");
    }
}
