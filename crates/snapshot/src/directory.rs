//! The directory that both drivers keep layers in.
//!
//! ```text
//! lock                   held shared while a working directory is made, alone while something is removed
//! layers/<hex>/fs/       the unpacked layer
//! layers/<hex>/unsynced  the id of the boot that made it, until it was flushed
//! layers/<hex>/implied   `LayerNotes::implied_directories`, each ended by NUL; not there if there are none
//! layers/<hex>/links     `LayerNotes::deferred_links`, name and target, each ended by NUL; likewise
//! links/<short>          a link to `layers/<hex>/fs` with a name short enough for a list of 500 layers; of overlays alone,
//!                        made when a step first needs it, removed with the layer
//! work/<name>/lock       locked while the owner lives
//! work/<name>/uses       hexadecimal digits of the layers in use, one a line
//! work/<name>/layer/     what becomes `layers/<hex>`
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_spec::DiffId;
use ocibuild_sys::{DirHandle, FileLock};

use crate::known::{KnownLayers, LayerFacts, Stamp};
use crate::{Error, ErrorKind, LayerNotes, Usage};

const UNSYNCED: &str = "unsynced";
const IMPLIED: &str = "implied";
const LINKS: &str = "links";
const LOCK: &str = "lock";
/// The directories of all drivers, side by side.
const DRIVERS: [&str; 3] = ["copy", "overlay", "overlay-user"];

/// Clones are the same directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layers: PathBuf,
    links: PathBuf,
    work: PathBuf,
    lock: PathBuf,
    known: KnownLayers,
    /// `None` where the kernel does not tell: everything is flushed at once then.
    boot: Option<String>,
    /// Whether files may be given to others here.
    owners: bool,
}

impl Directory {
    /// Opens or makes it, and sweeps it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(Error::io("open", path))?;
        let (layers, links) = (path.join("layers"), path.join("links"));
        let (work, lock) = (path.join("work"), path.join("lock"));
        for folder in [&path, &layers, &work] {
            make_private(folder)?;
        }
        let boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let boot = boot.filter(|boot| !boot.trim().is_empty());
        let owners = can_give_away(&work)?;
        let directory = Self {
            inner: Arc::new(Inner { layers, links, work, lock, known: KnownLayers::default(), boot, owners }),
        };
        directory.sweep()?;
        if let Some(parent) = path.parent() {
            sweep_siblings(parent, &path)?;
        }
        Ok(directory)
    }

    /// Whether files have the owners they should have. Without privilege, or with a single id, all are ours.
    pub(crate) fn keeps_owners(&self) -> bool {
        self.inner.owners
    }

    /// The directory that the layer's files are in.
    pub(crate) fn fs(&self, layer: &DiffId) -> PathBuf {
        self.layer(layer).join("fs")
    }

    fn layer(&self, layer: &DiffId) -> PathBuf {
        self.inner.layers.join(layer.0.hex())
    }

    pub(crate) fn contains(&self, layer: &DiffId) -> Result<bool, Error> {
        Ok(self.facts(layer)?.is_some())
    }

    /// What is known of a layer; `None` if it is not unpacked, or may have lost something in a crash of the machine.
    pub(crate) fn facts(&self, layer: &DiffId) -> Result<Option<Arc<LayerFacts>>, Error> {
        let (path, known) = (self.layer(layer), &self.inner.known);
        let Some(stamp) = Stamp::of(&path)? else {
            known.forget(layer);
            return Ok(None);
        };
        if let Some(facts) = known.get(layer, stamp) {
            return Ok(Some(facts));
        }
        if !self.is_current(&path)? {
            return Ok(None);
        }
        let facts = Arc::new(LayerFacts::new(self.notes(layer)?));
        // What was read may be of a directory that was replaced meanwhile; then it is not kept.
        if Stamp::of(&path)? == Some(stamp) {
            known.put(layer, stamp, &facts);
        }
        Ok(Some(facts))
    }

    /// The directory of links to layers.
    pub(crate) fn links(&self) -> &Path {
        &self.inner.links
    }

    /// The name of a link to the files of a layer, in [`links`](Self::links); `None` if another layer has that name. The
    /// caller has the layer in use.
    pub(crate) fn link(&self, layer: &DiffId, facts: &LayerFacts) -> Result<Option<String>, Error> {
        if let Some(link) = facts.link.get() {
            return Ok(link.clone());
        }
        let name = short_name(layer);
        let (link, target) = (self.inner.links.join(&name), link_target(layer));
        make_private(&self.inner.links)?;
        match fs_err::os::unix::fs::symlink(&target, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make a link in", &self.inner.links)(error));
            }
            _ => {}
        }
        let is_ours = fs_err::read_link(&link).map_err(Error::io("read", &link))? == target;
        Ok(facts.link.get_or_init(|| is_ours.then_some(name)).clone())
    }

    /// Removes the link to a layer, if there is one.
    fn remove_link(&self, layer: &DiffId) -> Result<(), Error> {
        let link = self.inner.links.join(short_name(layer));
        let removed = match fs_err::read_link(&link) {
            Ok(target) if target == link_target(layer) => fs_err::remove_file(&link),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", link)(error)),
            _ => Ok(()),
        }
    }

    /// Whether a layer's directory is there and cannot have lost anything in a crash of the machine.
    fn is_current(&self, path: &Path) -> Result<bool, Error> {
        let marker = path.join(UNSYNCED);
        match fs_err::read_to_string(&marker) {
            Ok(boot) => Ok(Some(boot) == self.inner.boot),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.join("fs").try_exists().map_err(Error::io("look at", path))
            }
            // Not even text: the blocks of the file never reached the disk.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
            Err(error) => Err(Error::io("read", marker)(error)),
        }
    }

    /// A new working directory, which keeps these layers from being removed.
    pub(crate) fn work(&self, uses: &[DiffId]) -> Result<Work, Error> {
        let inner = &self.inner;
        let _shared = ocibuild_sys::lock_shared(&inner.lock).map_err(Error::system("lock", &inner.lock))?;
        let path = tempfile::Builder::new()
            .prefix("")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&inner.work)
            .map_err(Error::io("make a directory in", &inner.work))?
            .keep();
        let lock = path.join(LOCK);
        let lock = ocibuild_sys::lock_exclusive(&lock).map_err(Error::system("lock", &lock))?;
        let fs = path.join("layer/fs");
        let work = Work { path, fs, _lock: lock };
        let lines: Vec<&str> = uses.iter().map(|layer| layer.0.hex()).collect();
        write(&work.path.join("uses"), lines.join("\n").as_bytes())?;
        for (folder, mode) in [(work.path.join("layer"), 0o700), (work.fs.clone(), 0o755)] {
            fs_err::create_dir(&folder).map_err(Error::io("make", &folder))?;
            let mode = std::fs::Permissions::from_mode(mode);
            fs_err::set_permissions(&folder, mode).map_err(Error::io("make", &folder))?;
        }
        Ok(work)
    }

    /// As [`work`](Self::work), for layers that must be there, with what is known of them.
    pub(crate) fn work_on(&self, stack: &[DiffId]) -> Result<(Work, Vec<Arc<LayerFacts>>), Error> {
        let work = self.work(stack)?;
        let facts = |layer: &DiffId| -> Result<Arc<LayerFacts>, Error> {
            self.facts(layer)?.ok_or_else(|| ErrorKind::MissingLayer { layer: layer.clone() }.into())
        };
        let facts = stack.iter().map(facts).collect::<Result<_, Error>>()?;
        Ok((work, facts))
    }

    /// Makes what is in the working directory the layer, unless there is one by now.
    pub(crate) fn publish(&self, work: &Work, layer: &DiffId, notes: &LayerNotes) -> Result<(), Error> {
        let made = work.path.join("layer");
        write_paths(&made.join(IMPLIED), notes.implied_directories.iter())?;
        let links = notes.deferred_links.iter().flat_map(|(name, target)| [name, target]);
        write_paths(&made.join(LINKS), links)?;
        match &self.inner.boot {
            Some(boot) => write(&made.join(UNSYNCED), boot.as_bytes())?,
            None => self.flush()?,
        }
        let target = self.layer(layer);
        if rename_unless_there(&made, &target)? || self.is_current(&target)? {
            return Ok(());
        }
        // What is there is from another boot.
        let _alone = self.lock_alone()?;
        if target.try_exists().map_err(Error::io("look at", &target))? && !self.is_current(&target)? {
            let stale = work.path.join("stale");
            fs_err::rename(&target, &stale).map_err(Error::io("replace", &target))?;
        }
        rename_unless_there(&made, &target).map(|_| ())
    }

    /// The notes of an unpacked layer.
    fn notes(&self, layer: &DiffId) -> Result<LayerNotes, Error> {
        let path = self.layer(layer);
        let mut links = read_paths(&path.join(LINKS))?.into_iter();
        let mut deferred_links = Vec::new();
        while let (Some(name), Some(target)) = (links.next(), links.next()) {
            deferred_links.push((name, target));
        }
        Ok(LayerNotes { implied_directories: read_paths(&path.join(IMPLIED))?, deferred_links })
    }

    pub(crate) fn remove(&self, layer: &DiffId) -> Result<(), Error> {
        let target = self.layer(layer);
        // Before the lock is taken, which making one needs too. Its end removes what is moved there.
        let work = self.work(&[])?;
        let _alone = self.lock_alone()?;
        if self.is_used(layer)? {
            return Err(ErrorKind::InUse { layer: layer.clone() }.into());
        }
        // Whoever needs the link later makes the layer first, and then the link anew.
        self.remove_link(layer)?;
        match fs_err::rename(&target, work.path.join("removed")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", target)(error)),
            _ => Ok(()),
        }
    }

    fn is_used(&self, layer: &DiffId) -> Result<bool, Error> {
        for path in self.works()? {
            if !matches!(Owner::of(&path)?, Owner::Alive) {
                continue;
            }
            let uses = path.join("uses");
            match fs_err::read_to_string(&uses) {
                Ok(uses) if uses.lines().any(|line| line == layer.0.hex()) => return Ok(true),
                Ok(_) => {}
                // Its owner is removing it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", uses)(error)),
            }
        }
        Ok(false)
    }

    pub(crate) fn list(&self) -> Result<Vec<DiffId>, Error> {
        let mut found = BTreeSet::new();
        for path in entries(&self.inner.layers)? {
            if let Some(layer) = layer_of(&path)
                && self.is_current(&path)?
            {
                found.insert(layer);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What a layer takes up, which the caller holds.
    pub(crate) fn usage(&self, layer: &DiffId) -> Result<Usage, Error> {
        let fs = self.fs(layer);
        if !self.contains(layer)? {
            return Err(ErrorKind::MissingLayer { layer: layer.clone() }.into());
        }
        let mut usage = Usage::default();
        let mut linked = BTreeSet::new();
        crate::walk::walk(&fs, &mut |found| {
            let metadata = found.metadata;
            if metadata.is_dir() || metadata.nlink < 2 || linked.insert(metadata.ino) {
                usage.inodes += 1;
                usage.bytes += if metadata.is_dir() { 0 } else { metadata.size };
            }
            Ok(())
        })?;
        Ok(usage)
    }

    /// Flushes everything, and then says so of every layer that was there before.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        // A layer that is removed and made again in between would be said to be on disk and not be.
        let inner = &self.inner;
        let _shared = ocibuild_sys::lock_shared(&inner.lock).map_err(Error::system("lock", &inner.lock))?;
        let mut markers = Vec::new();
        for path in entries(&inner.layers)? {
            let marker = path.join(UNSYNCED);
            if fs_err::read_to_string(&marker).ok().is_some_and(|boot| Some(boot) == inner.boot) {
                markers.push(marker);
            }
        }
        if markers.is_empty() {
            return Ok(());
        }
        self.flush()?;
        for marker in markers {
            match fs_err::remove_file(&marker) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", marker)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let path = &self.inner.layers;
        let folder = fs_err::File::open(path).map_err(Error::io("open", path))?;
        ocibuild_sys::sync_filesystem(folder.file()).map_err(Error::system("flush", path))
    }

    pub(crate) fn sweep(&self) -> Result<usize, Error> {
        sweep(&self.inner.work, &self.inner.lock)
    }

    fn works(&self) -> Result<Vec<PathBuf>, Error> {
        entries(&self.inner.work)
    }

    fn lock_alone(&self) -> Result<FileLock, Error> {
        lock_alone(&self.inner.lock)
    }
}

fn lock_alone(lock: &Path) -> Result<FileLock, Error> {
    ocibuild_sys::lock_exclusive(lock).map_err(Error::system("lock", lock))
}

/// What a process left in the directory of another driver, which may not be opened here again for long: a fallback that was
/// used once, or one for ordinary users. What belongs to others is theirs to sweep.
fn sweep_siblings(parent: &Path, own: &Path) -> Result<(), Error> {
    for name in DRIVERS {
        let path = parent.join(name);
        let lock = path.join("lock");
        if path == own || !lock.try_exists().map_err(Error::io("look at", &lock))? {
            continue;
        }
        match sweep(&path.join("work"), &lock) {
            Err(error) if is_denied(&error) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

fn is_denied(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::System { source, .. } => source.kind() == ocibuild_sys::ErrorKind::Denied,
        ErrorKind::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

/// Removes working directories whose owners are gone; how many there were.
fn sweep(work: &Path, lock: &Path) -> Result<usize, Error> {
    let mut dead = Vec::new();
    {
        let _alone = lock_alone(lock)?;
        for path in entries(work)? {
            match Owner::of(&path)? {
                Owner::Dead(lock) => {
                    // From here on it is locked by us, but uses nothing.
                    let uses = path.join("uses");
                    match fs_err::remove_file(&uses) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(Error::io("remove", uses)(error));
                        }
                        _ => dead.push((path, Some(lock))),
                    }
                }
                Owner::None => dead.push((path, None)),
                Owner::Alive | Owner::Gone => {}
            }
        }
    }
    let count = dead.len();
    for (path, _lock) in dead {
        remove_work(&path).or_else(|_| remove_tree(&path))?;
    }
    Ok(count)
}

/// Who has a working directory, as far as its lock tells. Looking makes nothing there: its owner may be removing it.
enum Owner {
    Alive,
    /// Nobody, and now whoever asked.
    Dead(FileLock),
    /// It has no lock: its owner was killed before the first or after the last of its files, or is removing it.
    None,
    /// It has been removed.
    Gone,
}

impl Owner {
    /// To be asked while the lock of the directory is held: whoever makes a working directory has it locked before.
    fn of(path: &Path) -> Result<Self, Error> {
        let lock = path.join(LOCK);
        match ocibuild_sys::try_lock_existing_exclusive(&lock) {
            Ok(Some(taken)) => Ok(Self::Dead(taken)),
            Ok(None) => Ok(Self::Alive),
            Err(error) if error.kind() == ocibuild_sys::ErrorKind::NotFound => {
                let is_there = path.try_exists().map_err(Error::io("look at", path))?;
                Ok(if is_there { Self::None } else { Self::Gone })
            }
            Err(error) => Err(Error::system("lock", lock)(error)),
        }
    }
}

/// A directory to work in. Dropping it removes it; if that fails, a later sweep does.
#[derive(Debug)]
pub(crate) struct Work {
    path: PathBuf,
    fs: PathBuf,
    _lock: FileLock,
}

impl Work {
    /// All of it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What becomes the files of the layer.
    pub(crate) fn fs(&self) -> &Path {
        &self.fs
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = remove_work(&self.path);
    }
}

/// Removes a working directory, its lock last, so that until then everybody sees that it has an owner.
fn remove_work(path: &Path) -> Result<(), Error> {
    let directory = DirHandle::open(path).map_err(Error::system("remove", path))?;
    for entry in directory.read_dir().map_err(Error::system("remove", path))? {
        let name = entry.map_err(Error::system("remove", path))?.name;
        if name != LOCK {
            directory.remove_tree(&name).map_err(Error::system("remove", path.join(&name)))?;
        }
    }
    remove_tree(path)
}

/// Makes what is missing of a directory that is for us alone: programs with the set-user-ID bit in there must be out of
/// other users' reach.
pub(crate) fn make_private(path: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::io("make", path))?;
    let private = std::fs::Permissions::from_mode(0o700);
    fs_err::set_permissions(path, private).map_err(Error::io("make", path))
}

/// Found out by trying: capabilities, user namespaces and the file system all have a say.
fn can_give_away(folder: &Path) -> Result<bool, Error> {
    let file = tempfile::tempfile_in(folder).map_err(Error::io("make a file in", folder))?;
    Ok(std::os::unix::fs::fchown(&file, Some(1), Some(1)).is_ok())
}

pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let removed = DirHandle::open(parent).and_then(|parent| parent.remove_tree(name));
    removed.map_err(Error::system("remove", path))
}

/// Whether it was renamed; if not, there is a directory of that name already.
fn rename_unless_there(from: &Path, to: &Path) -> Result<bool, Error> {
    match fs_err::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) =>
        {
            Ok(false)
        }
        Err(error) => Err(Error::io("make", to)(error)),
    }
}

/// A name of five letters and digits, from the first 25 bits of the digest: 500 of them fit into a page of mount options
/// several times over.
fn short_name(layer: &DiffId) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits = layer
        .0
        .hex()
        .bytes()
        .take(7)
        .fold(0, |bits, digit| bits << 4 | char::from(digit).to_digit(16).unwrap_or_default());
    (0..5).map(|place| char::from(DIGITS[(bits >> (23 - 5 * place) & 31) as usize])).collect()
}

/// What such a link says.
fn link_target(layer: &DiffId) -> PathBuf {
    Path::new("../layers").join(layer.0.hex()).join("fs")
}

fn layer_of(path: &Path) -> Option<DiffId> {
    let hex = path.file_name()?.to_str()?;
    let algorithm = if hex.len() == 128 { "sha512" } else { "sha256" };
    format!("{algorithm}:{hex}").parse().ok().map(DiffId)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = fs_err::read_dir(folder).and_then(|entries| {
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry?.path());
        }
        Ok(paths)
    });
    listed.map_err(Error::io("list", folder))
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    fs_err::write(path, content).map_err(Error::io("write", path))
}

fn write_paths<'p>(path: &Path, list: impl Iterator<Item = &'p PathBuf>) -> Result<(), Error> {
    let mut content = Vec::new();
    for item in list {
        content.extend_from_slice(item.as_os_str().as_bytes());
        content.push(0);
    }
    if content.is_empty() { Ok(()) } else { write(path, &content) }
}

fn read_paths(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut content = match fs_err::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    content.pop();
    Ok(content.split(|byte| *byte == 0).map(|path| OsString::from_vec(path.to_vec()).into()).collect())
}
