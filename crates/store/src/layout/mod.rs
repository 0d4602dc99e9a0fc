mod blobs;
mod collect;
mod lock;
mod place;
mod scratch;
mod source;
mod tags;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_sys::DirHandle;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use blobs::{BlobWriter, HashedBlobWriter};
pub(crate) use blobs::{blob_path, open_blob, open_expecting, rename_blob, sync_directory};
pub use collect::{Collection, Freed, Usage};
pub use lock::{ExclusiveLock, Lease};
pub use place::check_way;
pub use scratch::ScratchDir;
use scratch::Session;
use tags::is_unnamed;
pub(crate) use tags::{CONTAINERD_NAME, CREATED, MAX_INDEX, REF_NAME, parse_index, read_index, replace};

use crate::{Error, ErrorKind, Fault};

/// The state directory: an OCI image layout that other tools can read in place, with private folders beside it.
///
/// ```text
/// root/                 mode 0700
///   oci-layout          {"imageLayoutVersion":"1.0.0"}
///   index.json          one entry per tag, replaced whole
///   blobs/sha256/<hex>
///   state.json          version of everything private
///   cache/ mounts/ snapshots/
///   locks/              files that only carry locks of the kernel
///   tmp/<random>/       what running processes write; swept once its owner is dead
/// ```
///
/// Clones are the same layout, and any number of processes may have it open. `index.json` never names an image of
/// which a blob is missing. A process killed at any moment leaves at most a directory in `tmp/` and blobs that
/// nothing refers to.
#[derive(Debug, Clone)]
pub struct ImageLayout {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    session: Session,
}

/// Changing what stands in a private folder in a way that older versions misread raises this number.
const FORMAT_VERSION: u32 = 1;
const FORMAT_NAME: &str = "ocibuild-state";
const PRIVATE_DIRECTORIES: [&str; 6] = ["cache", "kept", "locks", "mounts", "snapshots", "tmp"];
pub(crate) const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
pub(crate) const EMPTY_INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

#[derive(Serialize, Deserialize)]
struct Format {
    format: String,
    version: u32,
}

impl ImageLayout {
    /// Opens the state directory `root`, and makes it first when it is missing or empty. It has to belong to the
    /// effective user; its mode becomes 0700. Any other directory with something in it is refused.
    ///
    /// So is one that others could exchange for another: nobody but root and the effective user may own a directory on
    /// the way to it, or be able to write to one that is not sticky.
    pub fn open_or_create(root: impl AsRef<Path>) -> Result<Self, Error> {
        // Links are followed once, here; nobody else can change what the path without them leads to.
        let (root, place) = place::open(root.as_ref())?;
        check_owner(&root, &place)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&place, ".", flags, Mode::empty())
            .map_err(|error| Error::io(format!("open {}", root.display()), error.into()))?;
        // Several processes may start on an empty directory at once.
        rustix::fs::flock(&directory, FlockOperation::LockExclusive).map_err(|error| {
            Error::io(format!("lock {}", root.display()), error.into())
                .with_hint("the file system does not support `flock`; choose a directory on a local one")
        })?;
        if !check_format(&root)? {
            check_empty(&root)?;
            write_format(&root)?;
        }
        complete(&root)?;
        Ok(Self { inner: Arc::new(Inner { session: Session::new(&root), root }) })
    }

    /// The directory, with all links resolved.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The same directory without the leases that this layout has. Whoever collects garbage reads through it, for what is
    /// read under a lease waits for the end of a collection: a build of the same process may be running.
    #[must_use]
    pub fn apart(&self) -> Self {
        let root = self.root().to_owned();
        Self { inner: Arc::new(Inner { session: Session::new(&root), root }) }
    }

    /// A private folder, which is there: `cache`, `kept`, `mounts`, `snapshots` or `tmp`.
    pub fn private_dir(&self, name: &str) -> PathBuf {
        debug_assert!(PRIVATE_DIRECTORIES.contains(&name), "{name} is not a private folder");
        self.inner.root.join(name)
    }

    fn lock_file(&self, name: &str) -> PathBuf {
        self.inner.root.join("locks").join(name)
    }
}

fn check_owner(root: &Path, place: &DirHandle) -> Result<(), Error> {
    let owner = place.metadata()?.uid;
    let own = rustix::process::geteuid().as_raw();
    if owner != own {
        return Err(Fault::OtherOwner { path: root.to_owned(), owner, own }.into());
    }
    Ok(())
}

/// Refuses what somebody else put into the directory before its mode kept them out.
fn check_ours(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;

    let (owner, own) =
        (fs_err::symlink_metadata(path).map_err(Error::fs)?.uid(), rustix::process::geteuid().as_raw());
    if owner == own {
        return Ok(());
    }
    Err(Fault::OtherOwner { path: path.to_owned(), owner, own }.into())
}

/// Whether `root` is a state directory that this version understands.
fn check_format(root: &Path) -> Result<bool, Error> {
    let path = root.join("state.json");
    let bytes = match read_capped(&path, 4096) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let format: Format = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(format!("{} is malformed", path.display())).caused_by(error))?;
    if format.format != FORMAT_NAME {
        return Err(foreign(root));
    }
    if format.version > FORMAT_VERSION {
        let text = format!(
            "{} has format {}, and this version understands formats up to {FORMAT_VERSION}",
            root.display(),
            format.version
        );
        return Err(Error::new(ErrorKind::NewerFormat, text)
            .with_hint("use the newer version of ocibuild, or another directory"));
    }
    Ok(true)
}

fn foreign(root: &Path) -> Error {
    Fault::NotAStateDirectory { path: root.to_owned() }.into()
}

fn check_empty(root: &Path) -> Result<(), Error> {
    for entry in fs_err::read_dir(root).map_err(Error::fs)? {
        let name = entry.map_err(Error::fs)?.file_name();
        // `lost+found` is what a fresh ext4 volume has; the other is ours, from a process killed while it began.
        if name != "lost+found" && name != "state.json.new" {
            return Err(foreign(root));
        }
    }
    Ok(())
}

fn write_format(root: &Path) -> Result<(), Error> {
    let format = Format { format: FORMAT_NAME.to_owned(), version: FORMAT_VERSION };
    let bytes = ocibuild_spec::json::to_vec(&format).expect("two plain members are JSON");
    replace(root, "state.json", &root.join("state.json.new"), &bytes)
}

/// Makes whatever a state directory has and this one lacks.
fn complete(root: &Path) -> Result<(), Error> {
    let mode = fs_err::metadata(root).map_err(Error::fs)?.permissions().mode();
    if mode & 0o7777 != 0o700 {
        fs_err::set_permissions(root, PermissionsExt::from_mode(0o700)).map_err(Error::fs)?;
    }
    for name in PRIVATE_DIRECTORIES.into_iter().chain(["blobs", "blobs/sha256"]) {
        let path = root.join(name);
        make_directory(&path)?;
        check_ours(&path)?;
    }
    if is_missing(&root.join("index.json")) {
        if fs_err::read_dir(root.join("blobs/sha256")).map_err(Error::fs)?.next().is_some() {
            let text = format!("{} is missing though there are blobs", root.join("index.json").display());
            return Err(Error::corrupt(text).with_hint(
                "restore the file, or write `{\"schemaVersion\":2,\"manifests\":[]}` into it to begin without tags",
            ));
        }
        replace(root, "index.json", &root.join("tmp/index.json.new"), EMPTY_INDEX.as_bytes())?;
    }
    if is_missing(&root.join("oci-layout")) {
        replace(root, "oci-layout", &root.join("tmp/oci-layout.new"), OCI_LAYOUT.as_bytes())?;
    }
    Ok(())
}

fn is_missing(path: &Path) -> bool {
    fs_err::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    match fs_err::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::fs(error)),
        _ => Ok(()),
    }
}

/// A small regular file, not followed when it is a link.
pub(crate) fn read_capped(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;

    let file = open_regular(path)?;
    let size = file.metadata().map_err(|error| Error::io(format!("stat {}", path.display()), error))?.len();
    let mut bytes = Vec::new();
    (&file)
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
    if size > most || bytes.len() as u64 > most {
        return Err(Error::corrupt(format!("{} is larger than {most} bytes", path.display())));
    }
    Ok(bytes)
}

/// Opens a regular file for reading; links, pipes and devices are refused without waiting for them.
pub(crate) fn open_regular(path: &Path) -> Result<std::fs::File, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let refuse = || Error::corrupt(format!("{} is not a regular file", path.display()));
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(refuse()),
        Err(error) => return Err(Error::io(format!("open {}", path.display()), error.into())),
        Ok(descriptor) => std::fs::File::from(descriptor),
    };
    let metadata = file.metadata().map_err(|error| Error::io(format!("stat {}", path.display()), error))?;
    if metadata.is_file() { Ok(file) } else { Err(refuse()) }
}
