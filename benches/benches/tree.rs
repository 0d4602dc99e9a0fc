//! What does the merged view of a stack of layers cost?
//!
//! Ten layers of 5,000 files each, half of which replace those of the layer below: applied to an empty tree, the tree
//! copied as each `COPY` and `RUN` does, and compared with the tree of one layer less. Throughput counts entries of all
//! layers.
//!
//! Unfair: the paths of real images are longer, and few of their layers replace so much.

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ocibuild_snapshot::{Tree, changes};
use ocibuild_spec::{Content, Entry, EntryKind, Metadata};

const LAYERS: u32 = 10;
const FILES: u32 = 5_000;

fn layer(number: u32) -> Vec<Entry> {
    let first = number * FILES / 2;
    let entry = |file: u32| Entry {
        path: format!("srv/{:03}/file-{file:06}.txt", file / 100).into(),
        metadata: Metadata { mode: 0o644, uid: number, ..Metadata::default() },
        kind: EntryKind::File { size: 1024, content: Content(u64::from(file)) },
    };
    (first..first + FILES).map(entry).collect()
}

fn merged(layers: &[Vec<Entry>]) -> Tree {
    let mut tree = Tree::new();
    for (number, entries) in (0..).zip(layers) {
        tree.apply_layer(number, entries);
    }
    tree
}

fn tree(criterion: &mut Criterion) {
    let layers: Vec<Vec<Entry>> = (0..LAYERS).map(layer).collect();
    let (below, above) = (merged(&layers[..layers.len() - 1]), merged(&layers));
    let mut group = criterion.benchmark_group("tree");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(u64::from(LAYERS * FILES)));
    group.bench_function("apply", |bencher| bencher.iter_with_large_drop(|| merged(&layers)));
    group.bench_function("copy", |bencher| bencher.iter_with_large_drop(|| above.clone()));
    group.bench_function("compare", |bencher| {
        bencher.iter_with_large_drop(|| changes(&below, &above, &mut |_, _, _| false));
    });
    // Files and the directories they are in, which the layer implies.
    assert!(changes(&below, &above, &mut |_, _, _| false).entries.len() >= FILES as usize);
    group.finish();
}

criterion_group!(benches, tree);
criterion_main!(benches);
