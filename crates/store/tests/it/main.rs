//! The state directory, outputs and sources, with damage, death and other tools.
#![expect(clippy::unwrap_used, reason = "tests end by panicking")]

mod archive;
mod blobs;
mod collect;
mod hostile;
mod space;
mod state;
mod tags;
mod way;

use std::path::Path;

use ocibuild_spec::{CancelToken, Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError};
use ocibuild_store::{BlobSink, ImageLayout};
use ocibuild_testkit::ImageBlobs;

fn open(root: &Path) -> ImageLayout {
    ImageLayout::open_or_create(root).unwrap()
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// Puts every blob of the image.
fn put(sink: &dyn BlobSink, image: &ImageBlobs) -> Descriptor {
    for (descriptor, bytes) in image.all() {
        sink.put_from(&descriptor, &mut bytes.as_slice()).unwrap();
    }
    image.descriptor.clone()
}

fn resolve(source: &dyn ImageSource) -> Result<ResolvedImage, SourceError> {
    source.resolve(&name("unused"), &amd64(), &CancelToken::new())
}

fn read(source: &dyn ImageSource, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
    let reader = source.open(&name("unused"), descriptor, &CancelToken::new());
    let mut bytes = Vec::new();
    let mut reader = reader.map_err(|error| error.to_string())?;
    std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[test]
fn no_file_is_forgotten() {
    let main = include_str!("main.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for entry in fs_err::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name}");
    }
}
