//! How long does a Dockerfile take to be understood?
//!
//! Parsing with all its checks, and the syntax tree alone: the app of the fixtures, which is what people have, and files of
//! 2,000 and 20,000 instructions, which only generators write. Throughput counts bytes of the Dockerfile; it should not
//! depend on their number. What was read is dropped outside of the measurement.
//!
//! Unfair: the large files repeat the same dozen instructions.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ocibuild_dockerfile::{Dockerfile, SyntaxTree};

const SMALL: &str = include_str!("../../fixtures/simpleapp/Dockerfile");

/// Some of everything: flags, exec and shell form, continuation lines, heredocs, words with variables.
const BLOCK: &str = r#"# a comment
ARG VERSION=1.0
ENV NAME="value with blanks" PATH=/opt/app/${VERSION:-none}/bin:$PATH
WORKDIR /srv/app
COPY --chown=1000:1000 --chmod=0755 src/*.rs Cargo.toml ./
RUN --mount=type=cache,target=/root/.cargo \
    cargo build --release \
    # in between
    && strip target/release/app
RUN <<EOT
set -e
echo "$VERSION" > version
EOT
LABEL org.example.version=$VERSION org.example.name="app"
EXPOSE 8080/tcp 9090
HEALTHCHECK --interval=30s CMD ["curl", "-f", "http://localhost:8080"]
CMD ["/srv/app/run", "--verbose"]
"#;

fn parse(criterion: &mut Criterion) {
    let repeated = |times| format!("FROM alpine AS build\n{}", BLOCK.repeat(times));
    let (large, huge) = (repeated(200), repeated(2000));
    let files =
        [("simpleapp", SMALL), ("2,000 instructions", &large[..]), ("20,000 instructions", &huge[..])];
    let mut group = criterion.benchmark_group("parse");
    for (name, text) in files {
        Dockerfile::parse(text).expect("the file is well-formed");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| Dockerfile::parse(text)));
    }
    group.finish();
    let mut group = criterion.benchmark_group("syntax");
    for (name, text) in files {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| SyntaxTree::parse(text)));
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
