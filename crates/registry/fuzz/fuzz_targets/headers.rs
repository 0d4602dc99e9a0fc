//! A header, read as each of those that registries send: no panic, and what is read can be written and read again.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use ocibuild_registry::fuzzing::{challenges, content_range, next_link, retry_after, upload_range};

fuzz_target!(|header: &str| {
    let found = challenges(header);
    let mut written = String::new();
    for (scheme, parameters) in &found {
        assert!(!scheme.is_empty() && !scheme.contains([' ', '\t', ',', '=']), "{scheme:?}");
        let _ = write!(written, "{scheme} ");
        for (name, value) in parameters {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(written, "{name}=\"{value}\", ");
        }
    }
    assert_eq!(challenges(&written), found, "{written}");

    if let Some(target) = next_link(header) {
        assert!(!target.contains('>'), "{target}");
        assert_eq!(
            next_link(&format!("<{target}>; rel=\"next\"")),
            (!target.contains(',')).then_some(target)
        );
    }
    if let Some((first, last, total)) = content_range(header) {
        assert!(first <= last && last < u64::MAX);
        let total_text = total.map_or("*".to_owned(), |total| total.to_string());
        assert_eq!(content_range(&format!("bytes {first}-{last}/{total_text}")), Some((first, last, total)));
    }
    if let Some(last) = upload_range(header) {
        assert!(last < u64::MAX);
        assert_eq!(upload_range(&format!("0-{last}")), Some(last));
    }
    if let Some(pause) = retry_after(header) {
        assert_eq!(retry_after(&pause.as_secs().to_string()), Some(pause));
    }
});
