//! References, digests and platforms: what is read can be written and read again, as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild_spec::{Digest, Platform, Reference, Timestamp};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let written = reference.to_string();
        assert_eq!(written.parse::<Reference>().expect("written references are references"), reference);
        let familiar = reference.familiar();
        assert_eq!(
            familiar.parse::<Reference>().expect("short forms are references"),
            reference,
            "{familiar}"
        );
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let written = platform.to_string();
        let again: Platform = written.parse().expect("written platforms are platforms");
        assert_eq!(again.to_string(), written);
    }
    let _ = text.parse::<Timestamp>();
});
