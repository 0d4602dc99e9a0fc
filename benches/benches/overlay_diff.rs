//! How long does it take to find what a step changed?
//!
//! 1,000 files of 4 KiB above a base of 50,000 files: nothing in it, and a thousandth of it replaced. The files are
//! written into the upper directory of the overlay, as the kernel would do for a step, and [`ActiveSnapshot::diff`] is
//! measured: the walk of the upper directory, the new merged view, and the comparison. Throughput counts changed files.
//!
//! Unfair in our favour: the base is one layer, and what changed is in the kernel's cache. Only with overlayfs.
//!
//! [`ActiveSnapshot::diff`]: ocibuild_snapshot::ActiveSnapshot::diff

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fs_err as fs;
use ocibuild::CancelToken;
use ocibuild_benches::files;
use ocibuild_snapshot::{ActiveSnapshot, LayerNotes, Overlay, Snapshotter as _, Tree};
use ocibuild_spec::{DiffId, Digest};
use ocibuild_testkit::skip;

const BASE: usize = 50_000;
const CHANGED: usize = 1_000;

fn upper(snapshot: &dyn ActiveSnapshot) -> PathBuf {
    let mounts = snapshot.rootfs_mounts();
    let options = mounts[0].options().as_ref().expect("an overlay has options");
    options.iter().find_map(|option| option.strip_prefix("upperdir=")).expect("an upper directory").into()
}

fn overlay_diff(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let snapshots = match Overlay::open(directory.path()) {
        Ok(snapshots) => snapshots,
        Err(error) => return skip(&format!("no overlay here: {error}")),
    };
    let layer = DiffId(Digest::of("the base"));
    snapshots
        .prepare_layer(&layer)
        .and_then(|target| target.commit(&LayerNotes::default()))
        .expect("an empty layer");
    let mut base = Tree::new();
    base.apply_layer(0, &files(BASE, 1).entries);
    let base = Arc::new(base);
    let mut group = criterion.benchmark_group("overlay diff");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(CHANGED as u64));
    for (name, folder) in [("new files", "new"), ("replaced files", "srv")] {
        let cancel = CancelToken::new();
        let snapshot =
            snapshots.prepare(std::slice::from_ref(&layer), Arc::clone(&base), &cancel).expect("a snapshot");
        let upper = upper(&*snapshot);
        for number in 0..CHANGED {
            let path = upper.join(format!("{folder}/{:03}/file-{number:06}.txt", number / 100));
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            fs::write(path, [b'x'; 4096]).expect("a new file");
        }
        let diff = || snapshot.diff(None, &cancel).expect("the upper directory can be read");
        assert!(diff().1.entries.len() >= CHANGED, "{name}");
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(diff));
    }
    group.finish();
}

criterion_group!(benches, overlay_diff);
criterion_main!(benches);
