//! Configs: what is read can be written and read again, as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild_spec::{json, parse_config};

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = parse_config(bytes) else { return };
    let written = json::to_vec(&config).expect("a config is JSON");
    assert_eq!(parse_config(&written).expect("a written config is a config"), config);
});
