//! A state directory, a context and base images of one test, and what its builds said.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fs_err as fs;
use ocibuild::dockerfile::Dockerfile;
use ocibuild::executor::{Executor, NamespaceExecutor};
use ocibuild::snapshot::{Snapshotter, auto};
use ocibuild::spec::{
    Descriptor, Digest, Hasher, ImageSource, MediaType, Platform, Reference, ResolvedImage,
};
use ocibuild::state::State;
use ocibuild::store::{ImageLayout, LayoutSource};
use ocibuild::{
    Backends, Build, Built, BuiltImage, CancelToken, ContextSource, Destination, Error, Event, LocalContext,
    Output, OutputKind, StateDirectory,
};
use ocibuild_testkit::{HostBase, ImageBlobs, TestImage, skip, write_layout};

/// Programs that the steps of tests use.
const APPLETS: [&str; 28] = [
    "awk", "cat", "chmod", "chown", "cp", "date", "dd", "echo", "false", "find", "id", "ln", "ls", "mkdir",
    "mkfifo", "mv", "printf", "pwd", "rm", "rmdir", "sed", "seq", "sh", "sleep", "stat", "touch", "true",
    "wc",
];

const ACCOUNTS: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"),
    ("etc/group", "root:x:0:\nuser:x:1000:\n"),
];

/// What builds work with. The parts are public so that a test can replace one.
pub(crate) struct World {
    directory: PathBuf,
    /// Removes the directory in the end.
    temporary: Option<tempfile::TempDir>,
    pub(crate) state: StateDirectory,
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
    pub(crate) warnings: Vec<String>,
    pub(crate) exported: usize,
}

impl Seen {
    fn take(&mut self, event: &Event) {
        // `[stage 1/2] TEXT`
        let text = |title: &str| title.split_once("] ").map_or(title, |(_, text)| text).to_owned();
        match event {
            Event::StepCached { title, .. } => self.cached.push(text(title)),
            Event::StepDone { title, .. } => self.done.push(text(title)),
            Event::StepFailed { title, .. } => self.failed.push(text(title)),
            Event::Output { bytes, .. } => self.output += &String::from_utf8_lossy(bytes),
            Event::Warning { message } => self.warnings.push(message.clone()),
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
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("context")).unwrap();
        let mut world = Self::at(temporary.path(), open, executor);
        world.temporary = Some(temporary);
        world
    }

    /// The world that another process, or an earlier moment of the test, has at this directory.
    pub(crate) fn again(directory: &Path) -> Self {
        Self::at(directory, |directory| auto(directory).unwrap(), Box::new(NamespaceExecutor::new()))
    }

    fn at(
        directory: &Path,
        open: impl FnOnce(PathBuf) -> Box<dyn Snapshotter>,
        executor: Box<dyn Executor>,
    ) -> Self {
        let state = StateDirectory::with_snapshots(directory.join("state"), |path| Ok(open(path))).unwrap();
        let bases = fs::read_dir(directory.join("bases")).into_iter().flatten();
        let bases = bases.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        Self { directory: directory.to_owned(), temporary: None, state, executor, registry: None, bases }
    }

    /// A world with the image `base` that has a shell, where steps can run.
    pub(crate) fn with_shell() -> Option<Self> {
        let base = shell_image()?;
        let mut world = Self::new();
        world.base("base", base);
        Some(world)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
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

    /// The same for an image of programs of this host.
    pub(crate) fn host_base(&mut self, name: &str, image: &HostBase) {
        image.write_layout(self.path(&format!("bases/{name}"))).unwrap();
        self.bases.retain(|other| other != name);
        self.bases.push(name.to_owned());
    }

    /// A build of this Dockerfile with the context and all bases.
    pub(crate) fn prepare(&self, dockerfile: &str) -> Build {
        let context = LocalContext::open(self.path("context")).unwrap();
        let mut build = Build::new(Dockerfile::parse(dockerfile).unwrap(), context);
        for name in &self.bases {
            let source = Box::new(LayoutSource::open(self.path("bases").join(name), None, None).unwrap());
            // The platform that a context is for is no part of the reference.
            let reference = name.split("::").next().unwrap().parse().unwrap();
            build = build.build_context(name, ContextSource::Image { source, reference });
        }
        build
    }

    pub(crate) fn backends(&self) -> Backends<'_> {
        let images = self.registry.as_deref().unwrap_or(self.store());
        Backends::new(&self.state, images, self.executor.as_ref())
    }

    pub(crate) fn store(&self) -> &ImageLayout {
        self.state.layout()
    }

    pub(crate) fn state(&self) -> State<'_> {
        self.state.state()
    }

    /// Plans and builds, with each event for `watch` too.
    pub(crate) fn try_build_watched(
        &self,
        build: Build,
        cancel: &CancelToken,
        mut watch: impl FnMut(&Event),
    ) -> (Result<BuiltImage, Error>, Seen) {
        let (result, seen) = self.try_build_all(build, cancel, &mut watch);
        (result.map(Built::into_image), seen)
    }

    /// The same for several platforms.
    pub(crate) fn try_build_all(
        &self,
        build: Build,
        cancel: &CancelToken,
        watch: &mut dyn FnMut(&Event),
    ) -> (Result<Built, Error>, Seen) {
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

    pub(crate) fn build_all(&self, build: Build) -> (Built, Seen) {
        let (result, seen) = self.try_build_all(build, &CancelToken::new(), &mut |_| {});
        (result.unwrap_or_else(|error| panic!("{}: {}", chain(&error), seen.output)), seen)
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
            Ok(image) => panic!("{} was built: {seen:?}", image.descriptor.digest),
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

    /// Fails if a build that is over left files, unfinished layers or mounts.
    pub(crate) fn check_left_nothing(&self) {
        let left: Vec<_> = fs::read_dir(self.store().private_dir("tmp"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new());
        assert_eq!(self.state.snapshots().sweep().unwrap(), 0);
        assert_eq!(mounts_below(&self.path("state")), Vec::<String>::new());
    }

    /// The image `name` of the state directory, complete and valid.
    pub(crate) fn check_named(&self, name: &str) -> ResolvedImage {
        let (image, problems) = validate(self.store(), name);
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

/// Mounts below a directory, of this and of every other process that can be looked at.
pub(crate) fn mounts_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        let place = process.unwrap().path().join("mountinfo");
        // Processes end, and those of others may be hidden.
        let Ok(text) = fs::read_to_string(place) else { continue };
        found.extend(
            text.lines().filter(|line| line.contains(directory.to_str().unwrap())).map(str::to_owned),
        );
    }
    found
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
    if let Err(error) = ocibuild_sys::namespaces_work() {
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
        hasher.update(&plain);
    }
    hasher.finish()
}

/// Each entry of a compressed layer with all its metadata.
pub(crate) fn layer_listing(blob: &Path) -> Vec<String> {
    let plain = flate2::read::MultiGzDecoder::new(fs::File::open(blob).unwrap());
    let mut archive = tar::Archive::new(plain);
    let line = |entry: tar::Entry<'_, _>| {
        let (path, header) = (entry.path().unwrap().into_owned(), entry.header());
        let link = entry.link_name().unwrap().unwrap_or_default();
        format!(
            "{} {:?} {:o} {:?}:{:?} {} bytes at {:?} -> {}",
            path.display(),
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.size().unwrap(),
            header.mtime().unwrap(),
            link.display(),
        )
    };
    archive.entries().unwrap().map(|entry| line(entry.unwrap())).collect()
}

/// Paths of the files in a tar, in its order.
pub(crate) fn tar_paths(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    archive
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into()).unwrap())
        .collect()
}

/// The content of one file of a tar.
pub(crate) fn tar_file(bytes: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if *entry.path_bytes() == *path.as_bytes() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            return Some(content);
        }
    }
    None
}
