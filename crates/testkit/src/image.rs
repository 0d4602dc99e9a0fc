use std::io::Write as _;
use std::path::Path;

use ocibuild_spec::{
    ContainerConfig, Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, MediaType, Platform, RootFs,
    json,
};

/// A small image made of texts: layers of files, and a config.
///
/// ```
/// use ocibuild_testkit::TestImage;
///
/// let directory = tempfile::tempdir().unwrap();
/// let image = TestImage::new("linux/amd64").layer(&[("etc/motd", "hello\n")]).build();
/// ocibuild_testkit::write_layout(directory.path(), &[("latest", &image)]);
/// assert!(directory.path().join("index.json").exists());
/// ```
#[derive(Debug, Clone)]
pub struct TestImage {
    platform: Platform,
    layers: Vec<Vec<u8>>,
    config: ContainerConfig,
    gzip: bool,
}

/// Every blob of a [`TestImage`].
#[derive(Debug, Clone)]
pub struct ImageBlobs {
    /// The manifest, with the platform as an index names it.
    pub descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The config's descriptor and bytes.
    pub config: (Descriptor, Vec<u8>),
    /// The layers' descriptors and bytes, the lowest first.
    pub layers: Vec<(Descriptor, Vec<u8>)>,
}

impl TestImage {
    /// An image without layers.
    pub fn new(platform: &str) -> Self {
        let platform = platform.parse().expect("tests name platforms well");
        Self { platform, layers: Vec::new(), config: ContainerConfig::default(), gzip: false }
    }

    /// One more layer with these files, mode 0644; a path that ends in a slash is a directory, mode 0755.
    #[must_use]
    pub fn layer(mut self, files: &[(&str, &str)]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            let is_directory = path.ends_with('/');
            header.set_entry_type(if is_directory {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Regular
            });
            header.set_mode(if is_directory { 0o755 } else { 0o644 });
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).expect("memory takes every tar");
        }
        self.layers.push(tar.into_inner().expect("memory takes every tar"));
        self
    }

    /// One more layer that is this tar.
    #[must_use]
    pub fn layer_tar(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// Changes what a container starts with.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut ContainerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Compresses the layers.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// The blobs.
    pub fn build(&self) -> ImageBlobs {
        let layers: Vec<_> = self.layers.iter().map(|tar| self.stored(tar)).collect();
        let config = ImageConfig {
            architecture: self.platform.architecture.clone(),
            os: self.platform.os.clone(),
            variant: self.platform.variant.clone(),
            config: self.config.clone(),
            rootfs: RootFs {
                diff_ids: Some(self.layers.iter().map(|tar| DiffId(Digest::of(tar))).collect()),
                ..RootFs::default()
            },
            ..ImageConfig::default()
        };
        let config = json::to_vec(&config).expect("a config is JSON");
        let config = (Descriptor::of(MediaType::ImageConfig, &config), config);
        let layer_descriptors = layers.iter().map(|(descriptor, _)| descriptor.clone()).collect();
        let manifest = Manifest::new(config.0.clone(), layer_descriptors);
        let manifest = json::to_vec_pretty(&manifest).expect("a manifest is JSON");
        let mut descriptor = Descriptor::of(MediaType::ImageManifest, &manifest);
        descriptor.platform = Some(self.platform.clone());
        ImageBlobs { descriptor, manifest, config, layers }
    }

    fn stored(&self, tar: &[u8]) -> (Descriptor, Vec<u8>) {
        if !self.gzip {
            return (Descriptor::of(MediaType::ImageLayer, tar), tar.to_vec());
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(tar).expect("memory takes every byte");
        let bytes = encoder.finish().expect("memory takes every byte");
        (Descriptor::of(MediaType::ImageLayerGzip, &bytes), bytes)
    }
}

impl ImageBlobs {
    /// Every blob with its descriptor, the manifest last.
    pub fn all(&self) -> Vec<(Descriptor, Vec<u8>)> {
        let mut all = self.layers.clone();
        all.push(self.config.clone());
        all.push((self.descriptor.clone(), self.manifest.clone()));
        all
    }
}

/// An index of these images, as bytes and with its descriptor.
pub fn index_of(images: &[&ImageBlobs]) -> (Descriptor, Vec<u8>) {
    let index = Index::new(images.iter().map(|image| image.descriptor.clone()).collect());
    let bytes = json::to_vec_pretty(&index).expect("an index is JSON");
    (Descriptor::of(MediaType::ImageIndex, &bytes), bytes)
}

/// Writes an OCI layout with these images under these tags into a directory that exists.
pub fn write_layout(directory: &Path, images: &[(&str, &ImageBlobs)]) {
    let blobs = images.iter().flat_map(|(_, image)| image.all()).collect::<Vec<_>>();
    let entry = |(tag, image): &(&str, &ImageBlobs)| {
        let mut descriptor = image.descriptor.clone();
        descriptor.annotations.insert("org.opencontainers.image.ref.name".to_owned(), (*tag).to_owned());
        descriptor
    };
    write_layout_of(directory, &blobs, images.iter().map(entry).collect());
}

/// Writes an OCI layout with these blobs and this `index.json` into a directory that exists.
pub fn write_layout_of(directory: &Path, blobs: &[(Descriptor, Vec<u8>)], manifests: Vec<Descriptor>) {
    let folder = directory.join("blobs/sha256");
    fs_err::create_dir_all(&folder).expect("the test's directory can be written");
    for (descriptor, bytes) in blobs {
        fs_err::write(folder.join(descriptor.digest.hex()), bytes)
            .expect("the test's directory can be written");
    }
    let mut index = Index::new(manifests);
    index.media_type = None;
    let index = json::to_vec(&index).expect("an index is JSON");
    fs_err::write(directory.join("index.json"), index).expect("the test's directory can be written");
    fs_err::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("the test's directory can be written");
}
