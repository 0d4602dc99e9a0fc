//! Documents of the cache that somebody else wrote: no panic, nothing that was written for another key or in another
//! version is taken, and what is taken is written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild::fuzzing::check_cache_document;

fuzz_target!(|text: &[u8]| check_cache_document(text));
