//! Bodies: what a token service, a credential helper or a registry that refuses may say. A token fits into a header
//! and does not live for ever, and what is shown is one short line without control characters.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ocibuild_registry::fuzzing::{helper_answer, token, words};

fuzz_target!(|body: &[u8]| {
    if let Some((text, life)) = token(body) {
        assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
        assert!(!life.is_zero() && life <= Duration::from_hours(24), "{life:?}");
    }
    let _ = helper_answer(body);
    let words = words(body);
    assert!(words.chars().count() <= 301 && !words.contains(char::is_control), "{words:?}");
});
