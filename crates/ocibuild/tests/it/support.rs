//! A state directory, a context and base images of one test, and what its builds said.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fs_err as fs;
use ocibuild::dockerfile::Dockerfile;
use ocibuild::executor::{Executor, NamespaceExecutor};
use ocibuild::snapshot::{Snapshotter, auto};
use ocibuild::spec::{
    Descriptor, Digest, Hasher, ImageSource, MediaType, Platform, Reference, ResolvedImage,
};
use ocibuild::store::{ImageLayout, LayoutSource};
use ocibuild::{
    Backends, Build, BuiltImage, Cache, CancelToken, ContextSource, Destination, Error, Event, LocalContext,
    Output, OutputKind,
};
use ocibuild_testkit::{HostBase, ImageBlobs, TestImage, skip, write_layout};

/// Programs that the steps of tests use.
const APPLETS: [&str; 27] = [
    "awk", "cat", "chmod", "chown", "cp", "date", "dd", "echo", "false", "find", "id", "ln", "ls", "mkdir",
    "mkfifo", "mv", "printf", "rm", "rmdir", "sed", "seq", "sh", "sleep", "stat", "touch", "true", "wc",
];

const ACCOUNTS: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"),
    ("etc/group", "root:x:0:\nuser:x:1000:\n"),
];

/// What builds work with. The parts are public so that a test can replace one.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: ImageLayout,
    pub(crate) cache: Cache,
    pub(crate) snapshots: Box<dyn Snapshotter>,
    pub(crate) executor: Box<dyn Executor>,
    /// Where images that are no base of the test come from; the state directory when there is none.
    pub(crate) registry: Option<Box<dyn ImageSource>>,
    bases: Vec<String>,
}

/// What the events of a build were; steps by the text of their instruction.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) cached: Vec<String>,
    pub(crate) done: Vec<String>,
    pub(crate) failed: Vec<String>,
    pub(crate) output: String,
    pub(crate) exported: usize,
}

impl Seen {
    fn take(&mut self, event: &Event<'_>) {
        // `[stage 1/2] TEXT`
        let text = |title: &str| title.split_once("] ").map_or(title, |(_, text)| text).to_owned();
        match event {
            Event::StepCached { title, .. } => self.cached.push(text(title)),
            Event::StepDone { title, .. } => self.done.push(text(title)),
            Event::StepFailed { title, .. } => self.failed.push(text(title)),
            Event::Output { bytes, .. } => self.output += &String::from_utf8_lossy(bytes),
            Event::Exported { .. } => self.exported += 1,
            _ => {}
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|directory| auto(directory).unwrap(), Box::new(NamespaceExecutor::new()))
    }

    pub(crate) fn with(
        open: impl FnOnce(PathBuf) -> Box<dyn Snapshotter>,
        executor: Box<dyn Executor>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageLayout::open_or_create(directory.path().join("state")).unwrap();
        let cache = Cache::open(store.private_dir("cache")).unwrap();
        let snapshots = open(store.private_dir("snapshots"));
        fs::create_dir(directory.path().join("context")).unwrap();
        Self { directory, store, cache, snapshots, executor, registry: None, bases: Vec::new() }
    }

    /// A world with the image `base` that has a shell, where steps can run.
    pub(crate) fn with_shell() -> Option<Self> {
        let base = shell_image()?;
        let mut world = Self::new();
        world.base("base", base);
        Some(world)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The folder of all blobs.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.path("state/blobs/sha256")
    }

    /// Writes files of the context; a path that ends in a slash is a directory.
    pub(crate) fn files(&self, files: &[(&str, &str)]) {
        write_files(&self.path("context"), files);
    }

    /// Makes `image` what the builds call `name`.
    pub(crate) fn base(&mut self, name: &str, image: &ImageBlobs) {
        let layout = self.path(&format!("bases/{name}"));
        if layout.exists() {
            fs::remove_dir_all(&layout).unwrap();
        }
        fs::create_dir_all(&layout).unwrap();
        write_layout(&layout, &[("latest", image)]);
        self.bases.retain(|other| other != name);
        self.bases.push(name.to_owned());
    }

    /// A build of this Dockerfile with the context and all bases.
    pub(crate) fn prepare(&self, dockerfile: &str) -> Build {
        let context = LocalContext::open(self.path("context")).unwrap();
        let mut build = Build::new(Dockerfile::parse(dockerfile).unwrap(), context);
        for name in &self.bases {
            let source = Box::new(LayoutSource::open(self.path("bases").join(name), None, None).unwrap());
            let reference = name.parse().unwrap();
            build = build.build_context(name, ContextSource::Image { source, reference });
        }
        build
    }

    pub(crate) fn backends(&self) -> Backends<'_> {
        Backends {
            store: &self.store,
            base_images: self.registry.as_deref().unwrap_or(&self.store),
            snapshots: self.snapshots.as_ref(),
            executor: self.executor.as_ref(),
            cache: &self.cache,
        }
    }

    /// Plans and builds, with each event for `watch` too.
    pub(crate) fn try_build_watched(
        &self,
        build: Build,
        cancel: &CancelToken,
        mut watch: impl FnMut(&Event<'_>),
    ) -> (Result<BuiltImage, Error>, Seen) {
        let backends = self.backends();
        let mut seen = Seen::default();
        let result = build.plan_cancellable(&backends, cancel).and_then(|plan| {
            plan.run(&backends, cancel, |event| {
                seen.take(&event);
                watch(&event);
            })
        });
        (result, seen)
    }

    pub(crate) fn try_build(&self, build: Build) -> (Result<BuiltImage, Error>, Seen) {
        self.try_build_watched(build, &CancelToken::new(), |_| {})
    }

    pub(crate) fn build(&self, build: Build) -> (BuiltImage, Seen) {
        let (result, seen) = self.try_build(build);
        (result.unwrap_or_else(|error| panic!("{}: {}", chain(&error), seen.output)), seen)
    }

    /// The error of a build that must not succeed.
    pub(crate) fn fail(&self, build: Build) -> (Error, Seen) {
        let (result, seen) = self.try_build(build);
        match result {
            Ok(image) => panic!("{} was built", image.descriptor.digest),
            Err(error) => (error, seen),
        }
    }

    pub(crate) fn output(&self, kind: OutputKind, name: &str) -> Output {
        Output::new(kind, Destination::Path(self.path(name)))
    }

    /// Fails unless every blob in the state directory has the digest that is its name.
    pub(crate) fn check_blobs(&self) {
        for entry in fs::read_dir(self.blobs()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(
                Digest::of(fs::read(&path).unwrap()).hex(),
                path.file_name().unwrap().to_str().unwrap()
            );
        }
    }

    /// The image `name` of the state directory, complete and valid.
    pub(crate) fn check_named(&self, name: &str) -> ResolvedImage {
        let (image, problems) = validate(&self.store, name);
        assert_eq!(problems, Vec::<String>::new(), "{name}");
        image
    }
}

pub(crate) fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

pub(crate) fn write_files(directory: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let place = directory.join(path);
        if path.ends_with('/') {
            fs::create_dir_all(&place).unwrap();
            continue;
        }
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, text).unwrap();
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// An image with a shell, or nothing and the reason printed where its steps could not run.
pub(crate) fn shell_image() -> Option<&'static ImageBlobs> {
    static IMAGE: OnceLock<Option<ImageBlobs>> = OnceLock::new();
    if let Err(error) = ocibuild::sys::namespaces_work() {
        skip(&format!("no namespaces here: {error}"));
        return None;
    }
    let image =
        IMAGE.get_or_init(|| Some(TestImage::new(&platform()).layer_tar(shell_layer()?).gzip().build()));
    if image.is_none() {
        skip("this host has no static busybox");
    }
    image.as_ref()
}

/// The layer of a busybox, its links and two users.
pub(crate) fn shell_layer() -> Option<Vec<u8>> {
    HostBase::busybox()?;
    let program = ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"]
        .iter()
        .find_map(|path| fs::read(path).ok())?;
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode) in [("bin/", 0o755), ("etc/", 0o755), ("root/", 0o700), ("tmp/", 0o1777)] {
        tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), path, std::io::empty()).unwrap();
    }
    let size = program.len() as u64;
    let mut file = header(tar::EntryType::Regular, 0o755, size);
    tar.append_data(&mut file, "bin/busybox", program.as_slice()).unwrap();
    for applet in APPLETS {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox").unwrap();
    }
    for (path, text) in ACCOUNTS {
        let mut file = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        tar.append_data(&mut file, path, text.as_bytes()).unwrap();
    }
    Some(tar.into_inner().unwrap())
}

/// A header of something that root made in 2001.
pub(crate) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header
}

pub(crate) fn platform() -> String {
    Platform::host().to_string()
}

/// The image that a source has under a name, and all that is wrong with it: digests, sizes, diff ids.
pub(crate) fn validate(source: &dyn ImageSource, text: &str) -> (ResolvedImage, Vec<String>) {
    let cancel = CancelToken::new();
    let reference = name(text);
    let image = source.resolve(&reference, &Platform::host(), &cancel).unwrap();
    let mut problems = Vec::new();
    let mut check = |descriptor: &Descriptor, bytes: &[u8]| {
        if Digest::of(bytes) != descriptor.digest || bytes.len() as u64 != descriptor.size {
            problems.push(format!("{} has other bytes", descriptor.digest));
        }
    };
    check(&image.descriptor, &image.manifest_bytes);
    check(&image.manifest.config, &image.config_bytes);
    let (layers, diff_ids) = (image.manifest.layers(), image.config.rootfs.layers());
    let mut plain = Vec::new();
    for layer in layers {
        let mut bytes = Vec::new();
        source.open(&reference, layer, &cancel).unwrap().read_to_end(&mut bytes).unwrap();
        check(layer, &bytes);
        plain.push(plain_digest(layer, &bytes));
    }
    let told: Vec<_> = diff_ids.iter().map(|id| id.0.clone()).collect();
    if plain != told {
        problems.push(format!("the layers unpack to {plain:?}, the config says {told:?}"));
    }
    let told = image.config.history.iter().filter(|entry| !entry.empty_layer).count();
    if !image.config.history.is_empty() && told != layers.len() {
        problems.push(format!("{} layers, and {told} in the history", layers.len()));
    }
    (image, problems)
}

fn plain_digest(layer: &Descriptor, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    if layer.media_type == MediaType::ImageLayer {
        hasher.update(bytes);
    } else {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        hasher.write_all(&plain).unwrap();
    }
    hasher.finish()
}
