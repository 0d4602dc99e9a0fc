//! How fast do bytes of a file become a layer?
//!
//! SHA-256 alone is the lower bound of what every layer costs; then the tar with its hash (the plain form of a layer has
//! one digest, so its bytes are hashed once); then what a build does, tar, two hashes and gzip in one pass, on one
//! thread and on two. Throughput counts bytes of the file.
//!
//! Unfair to real builds in their favour: the file is in memory, and what comes out goes nowhere. The text is made up
//! and compresses to about a third; gzip is faster on what compresses better.

use std::io;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ocibuild::CancelToken;
use ocibuild_benches::{files, text};
use ocibuild_layer::{Compression, LayerOptions, write};
use ocibuild_spec::Digest;

const MIB: usize = 1 << 20;
const SIZES: [usize; 3] = [MIB, 16 * MIB, 64 * MIB];

fn sha256(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sha256");
    let bytes = text(16 * MIB, 1);
    group.sample_size(20).throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("16 MiB", |bencher| bencher.iter(|| Digest::of(&bytes)));
    group.finish();
}

fn layers(criterion: &mut Criterion) {
    let forms = [("tar+hash", Compression::None, 1), ("tar+hash+gzip", Compression::GZIP, 1)]
        .into_iter()
        .chain([("tar+hash+gzip on two threads", Compression::GZIP, 2)]);
    for (name, compression, threads) in forms {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        for size in SIZES {
            let changeset = files(1, size);
            let options = LayerOptions { compression, threads, ..LayerOptions::default() };
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("{} MiB", size / MIB)), |bencher| {
                bencher.iter(|| {
                    write(&changeset, &mut io::sink(), &options, &CancelToken::new())
                        .expect("the content is in memory")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, sha256, layers);
criterion_main!(benches);
