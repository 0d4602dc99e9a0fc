//! What does a file cost, when there are many and little in each?
//!
//! 10,000 files of 1 KiB as one layer: headers, the index of the layer and opening each file weigh as much as the bytes
//! here. Throughput counts bytes of files, so it is far below that of one large file.
//!
//! Unfair to real builds in their favour: opening a file is a look into memory.

use std::io;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ocibuild::CancelToken;
use ocibuild_benches::files;
use ocibuild_layer::{Compression, LayerOptions, write};

const COUNT: usize = 10_000;
const SIZE: usize = 1024;

fn small_files(criterion: &mut Criterion) {
    let changeset = files(COUNT, SIZE);
    let mut group = criterion.benchmark_group("10,000 files of 1 KiB");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Bytes((COUNT * SIZE) as u64));
    for (name, compression, threads) in [
        ("tar+hash", Compression::None, 1),
        ("gzip", Compression::GZIP, 1),
        ("gzip on two threads", Compression::GZIP, 2),
    ] {
        let options = LayerOptions { compression, threads, ..LayerOptions::default() };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                write(&changeset, &mut io::sink(), &options, &CancelToken::new())
                    .expect("all content is in memory")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, small_files);
criterion_main!(benches);
