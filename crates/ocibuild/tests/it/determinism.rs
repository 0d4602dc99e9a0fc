//! One Dockerfile gives one image, whoever keeps the snapshots and whoever carries out the steps.

use std::path::PathBuf;

use fs_err as fs;
use ocibuild::executor::{Executor, NamespaceExecutor, RuntimeExecutor};
use ocibuild::snapshot::{CopySnapshots, ErrorKind, Overlay, Snapshotter};
use ocibuild_testkit::{ImageBlobs, skip};

use super::support::{World, header, layer_listing, name, shell_image};

const DOCKERFILE: &str = "FROM base AS tools
WORKDIR /opt/tool
RUN echo tool > run && chmod 755 run && ln -s run link
COPY <<TEXT /opt/tool/notes
written in the Dockerfile
TEXT

FROM base
ENV NAME=value
WORKDIR /srv/app
COPY --chown=1000:1000 --chmod=640 src/ ./src/
COPY src/one.txt src/sub /srv/flat/
ADD data.tar.gz /data/
COPY --from=tools /opt /opt
RUN chown 1000:1000 /data/a && chmod 4711 /data/b && mkdir -m 1777 /scratch && mkfifo -m 600 /scratch/pipe
RUN rm -r /etc/group /data/old /tmp && mkdir -m 1777 /tmp && mkdir /data/old && echo new > /data/old/new
RUN ln src/one.txt hard && ln src/one.txt src/harder && ln -s /etc/passwd soft && ln -s nowhere src/dangling
RUN mv /data/dir/c /moved && rm hard && touch /etc/passwd && mkdir -p deep/er/est && chown -R user:1000 deep
RUN cat /opt/tool/notes /data/b > all && rm -r /srv/flat && echo file > /srv/flat
USER user
WORKDIR /home/user
RUN id > /tmp/who; echo \"$NAME $HOME $PWD\" >> /tmp/who; umask >> /tmp/who
USER root
RUN touch -d '2001-02-03 04:05:06' old
LABEL last=one
";

/// Steps of [`DOCKERFILE`].
const STEPS: usize = 16;

const FILES: [(&str, &str); 4] =
    [("src/one.txt", "one\n"), ("src/two.sh", "#!/bin/sh\n"), ("src/sub/three", "3"), ("src/empty/", "")];

fn archive() -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for path in ["dir/", "old/", "old/deep/"] {
        tar.append_data(&mut header(tar::EntryType::Directory, 0o750, 0), path, std::io::empty()).unwrap();
    }
    for path in ["a", "b", "dir/c", "old/gone", "old/deep/gone"] {
        let mut file = header(tar::EntryType::Regular, 0o640, path.len() as u64);
        file.set_uid(7);
        tar.append_data(&mut file, path, path.as_bytes()).unwrap();
    }
    tar.append_link(&mut header(tar::EntryType::Link, 0o640, 0), "dir/hard", "dir/c").unwrap();
    tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), "dir/link", "../a").unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

type Open = fn(PathBuf) -> Box<dyn Snapshotter>;

fn overlay(directory: PathBuf) -> Box<dyn Snapshotter> {
    Box::new(Overlay::open(directory).unwrap())
}

fn copies(directory: PathBuf) -> Box<dyn Snapshotter> {
    Box::new(CopySnapshots::open(directory).unwrap())
}

fn has_overlay() -> bool {
    let probe = tempfile::tempdir().unwrap();
    match Overlay::open(probe.path()) {
        Err(error) if matches!(error.kind(), ErrorKind::NoOverlay { .. }) => {
            skip(&error.to_string());
            false
        }
        opened => opened.is_ok(),
    }
}

fn namespaces() -> Box<dyn Executor> {
    Box::new(NamespaceExecutor::new())
}

fn runtime(program: &str) -> Option<Box<dyn Executor>> {
    match RuntimeExecutor::new(program) {
        Ok(executor) => Some(Box::new(executor)),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

/// The digest of the manifest, and each layer with what is in it.
type Built = (String, Vec<(String, Vec<String>)>);

/// Builds on an empty state directory.
fn build(base: &ImageBlobs, open: Open, executor: Box<dyn Executor>, threads: usize) -> Built {
    let mut world = World::with(open, executor);
    world.base("base", base);
    world.files(&FILES);
    fs::write(world.path("context/data.tar.gz"), archive()).unwrap();
    std::os::unix::fs::symlink("../one.txt", world.path("context/src/sub/link")).unwrap();
    let build = world.prepare(DOCKERFILE).parallelism(threads).tag(name("app"));
    let build = build.source_date_epoch(1_700_000_000).rewrite_timestamps(true);
    let (image, seen) = world.build(build.now(std::time::SystemTime::now()));
    assert_eq!((seen.done.len(), seen.cached.len()), (STEPS, 0), "{seen:?}");
    world.check_named("app");
    let layer = |digest: &ocibuild::spec::Digest| {
        (digest.to_string(), layer_listing(&world.blobs().join(digest.hex())))
    };
    let layers = image.layers().skip(1).map(|(_, descriptor)| layer(&descriptor.digest)).collect();
    (image.descriptor.digest.to_string(), layers)
}

/// Compares with what the copy driver and our own executor give.
fn compare(open: Open, executor: Box<dyn Executor>, threads: usize) {
    let Some(base) = shell_image() else { return };
    let (found, expected) = (build(base, open, executor, threads), build(base, copies, namespaces(), 1));
    for (found, expected) in found.1.iter().zip(&expected.1) {
        assert_eq!(found.1, expected.1);
        assert_eq!(found.0, expected.0);
    }
    assert_eq!(found.0, expected.0);
}

#[test]
fn privileged_overlays_and_copies_give_one_image() {
    if has_overlay() {
        compare(overlay, namespaces(), 1);
    }
}

#[test]
fn privileged_the_number_of_threads_does_not_matter() {
    compare(copies, namespaces(), 4);
}

#[test]
fn privileged_every_runtime_gives_the_same_image() {
    for program in ["runc", "crun"] {
        let Some(executor) = runtime(program) else { continue };
        if has_overlay() {
            compare(overlay, executor, 2);
        }
    }
}

#[test]
fn privileged_a_runtime_works_on_copies() {
    if let Some(executor) = runtime("runc") {
        compare(copies, executor, 2);
    }
}
