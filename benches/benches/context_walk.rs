//! How long does it take to list a build context?
//!
//! 10,000 files in 100 directories on disk, all of them, and with a `.dockerignore` of ten patterns that leaves out
//! half. Nothing is read of the files. Throughput counts files on disk.
//!
//! Unfair in our favour: the directories are in the kernel's cache.

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fs_err as fs;
use ocibuild::LocalContext;

const DIRECTORIES: usize = 100;
const FILES: usize = 100;
const IGNORE: &str =
    "**/*.tmp\nnode_modules\n.git\n*.log\n**/cache\ndirectory-?[13579]\nbuild/**\n!build/keep\ndocs/*.md\n";

fn context_walk(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for number in 0..DIRECTORIES {
        let below = directory.path().join(format!("directory-{number:02}"));
        fs::create_dir(&below).expect("a new directory");
        for file in 0..FILES {
            fs::write(below.join(format!("file-{file}.txt")), "x").expect("a new file");
        }
    }
    let mut group = criterion.benchmark_group("context walk");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((DIRECTORIES * FILES) as u64));
    for (name, ignore, kept) in
        [("all", "", DIRECTORIES * FILES), ("half ignored", IGNORE, DIRECTORIES * FILES / 2)]
    {
        fs::write(directory.path().join(".dockerignore"), ignore).expect("an ignore file");
        let count = || {
            let context = LocalContext::open(directory.path()).expect("a context");
            let mut count = 0;
            let mut visit = |entry: ocibuild::ContextEntry| {
                count += usize::from(entry.path.components().count() == 2 && entry.size > 0);
                Ok(())
            };
            context.entries(&mut visit).expect("the context can be read");
            count
        };
        assert_eq!(count(), kept, "{name}");
        group.bench_function(name, |bencher| bencher.iter(count));
    }
    group.finish();
}

criterion_group!(benches, context_walk);
criterion_main!(benches);
