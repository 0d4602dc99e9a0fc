//! What the fuzz target `cache_document` checks; the tests below run it over the target's corpus.

use fs_err as fs;
use ocibuild_layer::Compression;
use ocibuild_spec::{DiffId, Digest, Reference};

use super::documents::Documents;
use super::origins::MAX_ORIGINS;
use super::{Cache, EncodingOptions, StepRecord, StepRecords as _, base_names};

/// The folders of a cache that hold documents of known content, each with the key that `key` has there.
fn folders<'c>(cache: &'c Cache, key: &Digest, name: &Reference) -> [(&'c Documents, Digest); 6] {
    let (records, aliases) = cache.records.folders();
    let same = [records, aliases, cache.listings.folder(), cache.origins.folder(), cache.validators.folder()];
    let [records, aliases, listings, origins, urls] = same.map(|folder| (folder, key.clone()));
    [records, aliases, listings, origins, urls, (cache.base_names.folder(), base_names::key(name))]
}

fn record(cache: &Cache, key: &Digest) -> Option<StepRecord> {
    cache.records.look_up(std::slice::from_ref(key)).expect("the cache can be read").pop().flatten()
}

/// Puts a document, in which `KEY` stands for the key that is asked for, into every folder of a cache and reads it back
/// as a build would, under its key and another one.
///
/// # Panics
///
/// When what is taken is not of that key, or does not survive being written again.
pub fn check_cache_document(text: &[u8]) {
    thread_local!(static PLACE: (tempfile::TempDir, Cache) = {
        let place = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::open(place.path()).expect("a cache in a new directory");
        (place, cache)
    });
    PLACE.with(|(_, cache)| check_in(cache, text));
}

fn check_in(cache: &Cache, text: &[u8]) {
    let name: Reference = "localhost/app:1".parse().expect("a name");
    let (key, other) = (Digest::of("the key"), Digest::of("another key"));
    let document = filled(text, &key);
    for (folder, own) in folders(cache, &key, &name) {
        for key in [&own, &other] {
            folder.write(key, &document).expect("the cache can be written");
        }
    }

    if let Some(found) = record(cache, &key) {
        assert_eq!(found.key, key);
        for compression in [Compression::None, Compression::GZIP] {
            for force in [false, true] {
                let wanted = EncodingOptions { compression, clamp: None, force };
                assert!(found.form(wanted).is_none_or(|form| form.fits(wanted)), "{found:?}");
            }
        }
        cache.records.put(&found).expect("the cache can be written");
        assert_eq!(record(cache, &key), Some(found));
    }
    // Neither the record nor the alias is of this key.
    assert_eq!(record(cache, &other), None);
    if let Some(validator) = cache.validators.get(&key) {
        cache.validators.put(&validator).expect("the cache can be written");
        assert_eq!(cache.validators.get(&key), Some(validator));
    }
    assert_eq!(cache.validators.get(&other), None);
    if let Some(root) = cache.base_image(&name) {
        cache.put_base_image(&name, &root).expect("the cache can be written");
        assert_eq!(cache.base_image(&name), Some(root));
    }
    cache.origins.put(&key, &name).expect("the cache can be written");
    let repositories = cache.origins.repositories_with(&key, "localhost");
    assert_eq!(repositories.first().map(String::as_str), Some("app"));
    assert!(repositories.len() <= MAX_ORIGINS, "{repositories:?}");
    assert_eq!(cache.origins.repositories_with(&other, "localhost"), Vec::<String>::new());
    if let Some(listing) = cache.listings.get(&DiffId(key.clone())) {
        cache.listings.put(&DiffId(key.clone()), &listing).expect("the cache can be written");
        assert_eq!(cache.listings.get(&DiffId(key.clone())), Some(listing));
    }
    assert_eq!(cache.listings.get(&DiffId(other)), None);
    cache.records.all().expect("the cache can be listed");
    cache.base_images().expect("the cache can be listed");
    cache.remove_unneeded(|_| false, |_| false, true).expect("the cache can be emptied");
    assert!(!cache.listings.has(&DiffId(key)));
}

/// The document with the key wherever it says `KEY`.
fn filled(text: &[u8], key: &Digest) -> Vec<u8> {
    const MARK: &[u8] = b"KEY";
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(key.to_string().as_bytes());
        rest = &rest[at + MARK.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn documents_of_the_corpus_hold() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/cache_document");
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in &files {
            check_cache_document(&fs::read(path).unwrap());
        }
        assert!(files.len() >= 5);
    }

    /// Else the target would look at nothing but documents that are refused.
    #[test]
    fn documents_of_the_corpus_are_taken() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::open(place.path()).unwrap();
        let (key, name) = (Digest::of("the key"), "localhost/app:1".parse().unwrap());
        let [records, aliases, _, origins, urls, bases] = folders(&cache, &key, &name);
        let files = [
            (records, "record.txt"),
            (aliases, "alias.txt"),
            (urls, "validator.txt"),
            (origins, "origins.txt"),
            (bases, "base.txt"),
        ];
        for ((folder, at), name) in files {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/cache_document");
            folder.write(&at, &filled(&fs::read(corpus.join(name)).unwrap(), &key)).unwrap();
        }
        let found = record(&cache, &key).unwrap();
        assert!(found.form(EncodingOptions::default()).is_none());
        assert!(cache.records.has_alias(&key) && cache.validators.get(&key).is_some());
        assert_eq!(cache.origins.repositories_with(&key, "localhost"), ["app", "base"]);
        assert!(cache.base_image(&name).is_some());
    }
}
