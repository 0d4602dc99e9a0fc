//! How long does a Dockerfile take to be understood?
//!
//! Parsing with all its checks: the app of the fixtures, which is what people have, and a file of 2,000 instructions,
//! which only generators write. Throughput counts bytes of the Dockerfile.
//!
//! Unfair: the large file repeats the same dozen instructions.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ocibuild::dockerfile::Dockerfile;

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
    let large = format!("FROM alpine AS build\n{}", BLOCK.repeat(200));
    let mut group = criterion.benchmark_group("parse");
    for (name, text) in [("simpleapp", SMALL), ("2,000 instructions", &large)] {
        Dockerfile::parse(text).expect("the file is well-formed");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| Dockerfile::parse(text)));
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
