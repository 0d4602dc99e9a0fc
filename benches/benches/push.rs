//! How fast do blobs go to a registry?
//!
//! One blob of 64 MiB, and a hundred of 4 KiB, where questions and answers are what costs. Each is sent although the
//! registry may have it, so that every round sends the same. Throughput counts bytes of blobs.
//!
//! Unfair in our favour: the registry is in this process, without TLS and without a disk. Unfair to us: it uses the same
//! processors, and hashes what it gets.

use std::io::Cursor;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ocibuild::CancelToken;
use ocibuild_benches::text;
use ocibuild_registry::{BlobUpload, Registry};
use ocibuild_spec::{Descriptor, MediaType, Reference};
use ocibuild_testkit::TestRegistry;

fn push(criterion: &mut Criterion) {
    let server = TestRegistry::start();
    let repository: Reference = server.reference("bench/app", "1").parse().expect("a name");
    let registry = Registry::builder().build().expect("a client");
    let mut group = criterion.benchmark_group("push");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (name, count, size) in [("one blob of 64 MiB", 1, 64 << 20), ("100 blobs of 4 KiB", 100, 4 << 10)] {
        let blobs: Vec<(Descriptor, Vec<u8>)> = (0..count)
            .map(|number| {
                let bytes = text(size, number);
                (Descriptor::of(MediaType::ImageLayer, &bytes), bytes)
            })
            .collect();
        group.throughput(Throughput::Bytes(count * size as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for (descriptor, bytes) in &blobs {
                    let upload = BlobUpload {
                        descriptor,
                        open: &|| Ok(Box::new(Cursor::new(bytes.clone()))),
                        mount_from: &[],
                        progress: &|_| (),
                    };
                    registry
                        .send_blob(&repository, &upload, &CancelToken::new())
                        .expect("the registry takes it");
                }
            });
        });
        let (descriptor, bytes) = &blobs[0];
        assert_eq!(server.blob("bench/app", &descriptor.digest).as_ref(), Some(bytes));
    }
    group.finish();
}

criterion_group!(benches, push);
criterion_main!(benches);
