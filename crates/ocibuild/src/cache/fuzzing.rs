//! What the fuzz target `cache_document` checks; the tests below run it over the target's corpus.

use std::sync::OnceLock;

use fs_err as fs;
use ocibuild_layer::Compression;
use ocibuild_spec::{DiffId, Digest, Reference};

use super::{Cache, EncodingOptions, key_of_base};

/// The folders of the cache that hold documents, drafts aside.
const FOLDERS: [&str; 6] = ["records", "aliases", "layer-listings", "origins", "urls", "bases"];

/// Puts a document, in which `KEY` stands for the key that is asked for, into every folder of a cache and reads it back
/// as a build would, under its key and another one.
///
/// # Panics
///
/// When what is taken is not of that key, or does not survive being written again.
pub fn check_cache_document(text: &[u8]) {
    static PLACE: OnceLock<(tempfile::TempDir, Cache)> = OnceLock::new();
    let (_, cache) = PLACE.get_or_init(|| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::open(place.path()).expect("a cache in a new directory");
        (place, cache)
    });
    let name: Reference = "localhost/app:1".parse().expect("a name");
    let (key, other) = (Digest::of("the key"), Digest::of("another key"));
    let document = filled(text, &key);
    for folder in FOLDERS {
        let own = if folder == "bases" { key_of_base(&name) } else { key.clone() };
        for key in [&own, &other] {
            fs::write(cache.path(folder, key), &document).expect("the cache can be written");
        }
    }

    if let Some(record) = cache.record(&key) {
        assert_eq!(record.key, key);
        for compression in [Compression::None, Compression::GZIP] {
            for force in [false, true] {
                let wanted = EncodingOptions { compression, clamp: None, force };
                assert!(record.form(wanted).is_none_or(|form| form.fits(wanted)), "{record:?}");
            }
        }
        cache.put_record(&record).expect("the cache can be written");
        assert_eq!(cache.record(&key), Some(record));
    }
    assert_eq!(cache.record(&other), None);
    if let Some(to) = cache.alias(&key) {
        cache.put_alias(&key, &to).expect("the cache can be written");
        assert_eq!(cache.alias(&key), Some(to));
    }
    assert_eq!(cache.alias(&other), None);
    if let Some(validator) = cache.validator(&key) {
        cache.put_validator(&validator).expect("the cache can be written");
        assert_eq!(cache.validator(&key), Some(validator));
    }
    assert_eq!(cache.validator(&other), None);
    if let Some(root) = cache.base_image(&name) {
        cache.put_base_image(&name, &root).expect("the cache can be written");
        assert_eq!(cache.base_image(&name), Some(root));
    }
    cache.put_origin(&key, &name).expect("the cache can be written");
    let repositories = cache.repositories_with(&key, "localhost");
    assert_eq!(repositories.first().map(String::as_str), Some("app"));
    assert!(repositories.len() <= super::MAX_ORIGINS, "{repositories:?}");
    assert_eq!(cache.repositories_with(&other, "localhost"), Vec::<String>::new());
    if let Some(listing) = cache.index(&DiffId(key.clone())) {
        cache.put_index(&DiffId(key.clone()), &listing).expect("the cache can be written");
        assert_eq!(cache.index(&DiffId(key.clone())), Some(listing));
    }
    assert_eq!(cache.index(&DiffId(other)), None);
    cache.records().expect("the cache can be listed");
    cache.remove_indexes(|_| false, |_| false).expect("the cache can be emptied");
    assert!(!cache.has_index(&DiffId(key)));
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
        let put = |folder: &str, at: &Digest, name: &str| {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/cache_document");
            let document = filled(&fs::read(corpus.join(name)).unwrap(), &key);
            fs::write(cache.path(folder, at), document).unwrap();
        };
        put("records", &key, "record.txt");
        put("aliases", &key, "alias.txt");
        put("urls", &key, "validator.txt");
        put("origins", &key, "origins.txt");
        put("bases", &key_of_base(&name), "base.txt");
        assert!(cache.record(&key).is_some_and(|record| record.form(EncodingOptions::default()).is_none()));
        assert!(cache.alias(&key).is_some() && cache.validator(&key).is_some());
        assert_eq!(cache.repositories_with(&key, "localhost"), ["app", "base"]);
        assert!(cache.base_image(&name).is_some());
    }
}
