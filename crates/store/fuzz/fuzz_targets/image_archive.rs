//! An archive of images, as `load` and base images read it: an error, or images of which every byte has its digest.
#![no_main]

#[path = "../tar_text.rs"]
mod tar_text;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use ocibuild_spec::{CancelToken, Descriptor, Digest, ImageSource as _, Platform};
use ocibuild_store::{ArchiveSource, BlobSink, Error, StoredImages};

/// The file lives as long as the process, and its directory is in that of temporary files.
static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

fuzz_target!(|bytes: &[u8]| {
    let path = DIRECTORY.path().join("archive.tar");
    std::fs::write(&path, tar_text::tar_of(bytes)).expect("a file");
    load(&path);
    resolve(&path);
});

/// Takes over all images, as `load` does.
fn load(path: &PathBuf) {
    let cancel = CancelToken::new();
    let Ok(images) = StoredImages::open(path) else { return };
    for image in images.list(&cancel).into_iter().flatten() {
        let Ok(parts) = images.parts(&image.descriptor) else { continue };
        for whole in &parts.whole {
            let sink = Sink::default();
            if images.copy(whole, &sink).is_ok() {
                assert!(sink.has(whole).expect("it is a map"));
            }
        }
    }
}

/// Reads the image that is meant, as a build does whose base it is.
fn resolve(path: &PathBuf) {
    let cancel = CancelToken::new();
    let Ok(archive) = ArchiveSource::open(path) else { return };
    let mut names = archive.names();
    names.truncate(3);
    names.push("other".parse().expect("a name"));
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    for name in names {
        let Ok(image) = archive.resolve(&name, &platform, &cancel) else { continue };
        assert_eq!(Digest::of(&image.manifest_bytes), image.descriptor.digest);
        assert_eq!(image.manifest.layers().len(), image.config.rootfs.layers().len());
        for layer in image.manifest.layers() {
            let Ok(mut reader) = archive.open(&name, layer, &cancel) else { continue };
            if let Ok(count) = io::copy(&mut reader, &mut io::sink()) {
                assert_eq!(count, layer.size);
            }
        }
    }
}

/// Keeps nothing but what there was.
#[derive(Debug, Default)]
struct Sink(Mutex<BTreeMap<Digest, u64>>);

impl BlobSink for Sink {
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(self.0.lock().expect("one thread").get(digest).copied())
    }

    fn put_from(&self, descriptor: &Descriptor, reader: &mut dyn io::Read) -> Result<(), Error> {
        let mut bytes = Vec::new();
        let read = reader.take(1 << 20).read_to_end(&mut bytes);
        if read.is_ok() {
            assert_eq!(Digest::of(&bytes), descriptor.digest);
            self.0.lock().expect("one thread").insert(descriptor.digest.clone(), bytes.len() as u64);
        }
        Ok(())
    }
}
