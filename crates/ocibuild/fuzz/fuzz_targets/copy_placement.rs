//! `COPY` carried out on trees of any shape: no panic, nothing changed away from the destination, and a layer that gives
//! the tree that was made.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild::fuzzing::check_placement;

fuzz_target!(|text: &[u8]| {
    if let Ok(text) = std::str::from_utf8(text) {
        check_placement(text);
    }
});
