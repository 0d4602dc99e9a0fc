//! How fast is a layer unpacked?
//!
//! A plain tar to a directory: 10,000 files of 1 KiB, where making files is what costs, and one file of 64 MiB, where
//! bytes are. Throughput counts bytes of files. Removing what was unpacked is outside of the measurement.
//!
//! Unfair in our favour: nothing waits for the disk, and nothing is decompressed, which for gzip costs as much again.
//! Everything belongs to whoever runs the benchmark, since an ordinary user can give nothing away.

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ocibuild::CancelToken;
use ocibuild_benches::files;
use ocibuild_layer::{ApplyOptions, Compression, LayerOptions, Owners, WhiteoutFormat, apply, write};
use ocibuild_sys::RootDir;

fn unpack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unpack");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (name, count, size) in
        [("10,000 files of 1 KiB", 10_000, 1 << 10), ("one file of 64 MiB", 1, 64 << 20)]
    {
        let mut tar = Vec::new();
        let options = LayerOptions { compression: Compression::None, ..LayerOptions::default() };
        write(&files(count, size), &mut tar, &options, &CancelToken::new())
            .expect("all content is in memory");
        let options = ApplyOptions { owners: Owners::Ignore, ..ApplyOptions::new(WhiteoutFormat::Files) };
        group.throughput(Throughput::Bytes((count * size) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir().expect("a temporary directory"),
                |directory| {
                    let root = RootDir::open(directory.path()).expect("it was just made");
                    let applied = apply(&mut &tar[..], &root, &options).expect("the layer is well-formed");
                    (directory, applied)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, unpack);
criterion_main!(benches);
