//! What is between the version and the checksum of an index's record: no panic, and what is read can be written and
//! read again, as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocibuild_layer::LayerListing;
use ocibuild_spec::Digest;

fuzz_target!(|body: &[u8]| {
    let _ = LayerListing::decode(body);
    let mut record = b"ocibuild layer index\0\x02".to_vec();
    record.extend_from_slice(body);
    let digest = Digest::of(&record);
    let digits = digest.hex().as_bytes().chunks(2);
    record.extend(digits.map(|pair| {
        let pair = std::str::from_utf8(pair).expect("digits are text");
        u8::from_str_radix(pair, 16).expect("a digest is hexadecimal")
    }));
    let Ok(index) = LayerListing::decode(&record) else { return };
    assert_eq!(LayerListing::decode(&index.encode()).expect("a record is one"), index);
});
