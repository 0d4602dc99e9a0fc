//! Manifests and indexes: what is read can be written and read again, as itself, and never as the other kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild_spec::{Document, check_manifest, json, parse_manifest_or_index};

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = parse_manifest_or_index(bytes, None) else { return };
    let written = match &document {
        Document::Manifest(manifest) => {
            let _ = check_manifest(manifest);
            json::to_vec(manifest)
        }
        Document::Index(index) => json::to_vec(index),
    };
    let written = written.expect("a document is JSON");
    let again = parse_manifest_or_index(&written, None).expect("a written document is one");
    assert_eq!(again, document);
});
