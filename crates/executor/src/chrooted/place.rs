//! What other executors mount: where nothing can be mounted, it is moved to its place for the time of the step.
//!
//! ```text
//! root/dev, root/proc …   made for the step, and thrown away
//! root/var/cache/apt      the directory of a cache mount, which goes back to where it is kept
//! state/aside/0, 1 …      what the root has at these places, which comes back after the step
//! ```
//!
//! All this is one file system, the one of the state directory. Who is killed in the middle leaves a root that nobody uses again;
//! a cache that is in it then is lost.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use oci_spec::runtime::Mount;
use ocibuild_sys::{DirHandle, ErrorKind as SystemError, FileType, RootDir, device};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use crate::calls::own_link;
use crate::devices::{DEVICE_LINKS, DEVICES};
use crate::error::{Error, Repr};
use crate::mount::{is_bind, kind, options};
use crate::{Bundle, MemoryFile, Outside};

/// A root with everything in its place.
pub(super) struct Placed {
    /// The directory that becomes `/`.
    pub(super) root: PathBuf,
    /// Files that are in memory only, each by the file that stands for it in the root.
    pub(super) secrets: Vec<((u64, u64), File)>,
    pub(super) points: Points,
    state: DirHandle,
    aside: DirHandle,
    things: Vec<Thing>,
    is_back: bool,
}

/// Where something is that others mount, by path in the root, and whether that is read-only.
#[derive(Debug, Default)]
pub(super) struct Points(HashMap<PathBuf, bool>);

impl Points {
    /// Fails for a name that must not be made, removed or renamed: of what others mount, and where they mount something read-only.
    pub(super) fn check_name(&self, path: &Path) -> Result<(), Errno> {
        if self.0.contains_key(path) { Err(Errno::BUSY) } else { self.check_content(path) }
    }

    /// Fails for what must not be changed.
    pub(super) fn check_content(&self, path: &Path) -> Result<(), Errno> {
        // The innermost counts.
        let is_read_only = path.ancestors().find_map(|above| self.0.get(above));
        if is_read_only == Some(&true) { Err(Errno::ROFS) } else { Ok(()) }
    }
}

/// Where in the private directory of the step is what was in the way.
const ASIDE: &str = "aside";

/// Something in its place.
struct Thing {
    parent: DirHandle,
    name: OsString,
    /// Where the root has it.
    path: PathBuf,
    /// What was there before, by its name among what is put aside.
    before: Option<String>,
    origin: Origin,
}

enum Origin {
    /// Made for the step.
    Made,
    /// Moved from this name. Nobody else uses it meanwhile.
    Moved { parent: DirHandle, name: OsString, is_directory: bool },
}

impl Placed {
    /// Puts everything into its place that the bundle mounts.
    pub(super) fn new(bundle: &Bundle) -> Result<Self, Error> {
        let root = root_of(bundle)?;
        let state = DirHandle::open(&bundle.state).map_err(failed("open", &bundle.state))?;
        state.mkdir(ASIDE, 0o700).map_err(failed("make a directory in", &bundle.state))?;
        let aside = state.open_dir(ASIDE).map_err(failed("open", &bundle.state))?;
        let mut placed = Self {
            root,
            state,
            secrets: Vec::new(),
            points: Points::default(),
            aside,
            things: Vec::new(),
            is_back: false,
        };
        match placed.everything(bundle) {
            Ok(()) => Ok(placed),
            // What is wrong is told first; what is left is thrown away with the root.
            Err(error) => Err(placed.take_back().err().unwrap_or(error)),
        }
    }

    fn everything(&mut self, bundle: &Bundle) -> Result<(), Error> {
        for mount in bundle.spec.mounts().as_deref().unwrap_or_default() {
            self.mount(mount, bundle)?;
            let options = mount.options().as_deref().unwrap_or_default();
            let is_read_only = options.iter().any(|option| option == "ro");
            if let Some(thing) = self.things.last() {
                self.points.0.insert(Path::new("/").join(&thing.path), is_read_only);
            }
        }
        Ok(())
    }

    fn mount(&mut self, mount: &Mount, bundle: &Bundle) -> Result<(), Error> {
        let target = mount.destination().as_path();
        let Some(source) = bound(mount)? else {
            self.directory(target, mode_of(mount)?)?;
            return if target == Path::new("/dev") { self.devices() } else { Ok(()) };
        };
        if ["/proc", "/sys"].iter().any(|system| target.starts_with(system)) {
            // What is in there is answered for.
            return self.directory(target, 0o555);
        }
        if let Some(file) = bundle.memory_files.iter().find(|file| file.path == source) {
            return self.secret(target, file);
        }
        for outside in &bundle.outside {
            match outside {
                Outside::Mount(outside) if outside.destination() == &source => {
                    // It would be a file system of its own.
                    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode_of(outside)?);
                    fs::set_permissions(&source, mode).map_err(Repr::State)?;
                }
                Outside::View(view) if view.target == source => {
                    return Err(Error::invalid(target.display().to_string(), "takes a mount"));
                }
                _ => {}
            }
        }
        self.moved(target, &source, bundle)
    }

    /// Makes an empty directory.
    fn directory(&mut self, target: &Path, mode: u32) -> Result<(), Error> {
        let (parent, name, path) = self.clear(target)?;
        let before = self.put_aside(&parent, &name, &path)?;
        keeping_time(&parent, || parent.mkdir(&name, mode)).map_err(failed("make", &path))?;
        self.things.push(Thing { parent, name, path, before, origin: Origin::Made });
        Ok(())
    }

    /// What every step has in `/dev`.
    fn devices(&self) -> Result<(), Error> {
        let path = self.root.join("dev");
        let dev = self.things.last().ok_or_else(|| Error::invalid("the root", "has no /dev"))?;
        let dev = dev.parent.open_dir(&dev.name).map_err(failed("open", &path))?;
        for (name, major, minor) in DEVICES {
            dev.mknod(name, FileType::CharDevice, 0o666, device(major, minor))
                .map_err(failed("make", &path.join(name)))?;
        }
        for (target, link) in DEVICE_LINKS {
            let name = link.trim_start_matches("/dev/");
            dev.symlink(target, name).map_err(failed("make", &path.join(name)))?;
        }
        for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
            dev.mkdir(name, mode).map_err(failed("make", &path.join(name)))?;
        }
        Ok(())
    }

    /// An empty file that stands for one that is never on a disk.
    fn secret(&mut self, target: &Path, file: &MemoryFile) -> Result<(), Error> {
        let (parent, name, path) = self.clear(target)?;
        let before = self.put_aside(&parent, &name, &path)?;
        let made = keeping_time(&parent, || {
            parent.create_file(&name, file.mode)?;
            parent.chown(&name, file.uid, file.gid)?;
            parent.chmod(&name, file.mode)?;
            parent.stat(&name)
        });
        let made = made.map_err(failed("make", &path))?;
        self.things.push(Thing { parent, name, path, before, origin: Origin::Made });
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL;
        let memory = memfd_create("secret", flags)
            // Linux before 6.3 does not know the second.
            .or_else(|_| memfd_create("secret", MemfdFlags::CLOEXEC))
            .map_err(|errno| Repr::State(errno.into()))?;
        let mut memory = File::from(memory);
        memory.write_all(file.content.bytes()).map_err(Repr::State)?;
        self.secrets.push(((made.dev, made.ino), memory));
        Ok(())
    }

    /// Moves what is at `source` to its place.
    fn moved(&mut self, target: &Path, source: &Path, bundle: &Bundle) -> Result<(), Error> {
        let is_ours = bundle.movable.as_ref().is_some_and(|movable| source.starts_with(movable));
        let (Some(parent), Some(name), true) = (source.parent(), source.file_name(), is_ours) else {
            return Err(Repr::Unmovable { path: source.to_owned() }.into());
        };
        let from = DirHandle::open(parent).map_err(failed("open", parent))?;
        let is_directory = from.stat(name).map_err(failed("look at", source))?.is_dir();
        let (parent, new_name, path) = self.clear(target)?;
        let before = self.put_aside(&parent, &new_name, &path)?;
        keeping_time(&parent, || from.rename(name, &parent, &new_name)).map_err(failed("move", source))?;
        let origin = Origin::Moved { parent: from, name: name.to_owned(), is_directory };
        self.things.push(Thing { parent, name: new_name, path, before, origin });
        Ok(())
    }

    /// The place of a mount: links are followed inside the root, and missing directories above it made, in what was made for
    /// the step.
    fn clear(&self, target: &Path) -> Result<(DirHandle, OsString, PathBuf), Error> {
        let root = RootDir::open(&self.root).map_err(failed("open", &self.root))?;
        let inside: PathBuf =
            target.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let host = self.root.join(&inside);
        let resolved = match root.open_path(&inside) {
            Ok(found) => {
                let path = fs::read_link(own_link(&found)).map_err(Repr::State)?;
                let below = path.strip_prefix(&self.root).map(Path::to_owned);
                below.map_err(|_| Error::invalid("a mount point", "is outside of the root"))?
            }
            Err(error) if error.kind() == SystemError::NotFound => {
                let above = inside.parent().unwrap_or(Path::new(""));
                root.mkdir_all(above, 0o755).map_err(failed("make", &self.root.join(above)))?;
                inside
            }
            Err(error) => return Err(failed("open", &host)(error)),
        };
        if resolved.as_os_str().is_empty() {
            return Err(Error::invalid("a mount point", "is the root"));
        }
        let (parent, name) = root.parent(&resolved).map_err(failed("open", &host))?;
        Ok((parent, name, resolved))
    }

    /// Moves away what the root has at a place.
    fn put_aside(&self, parent: &DirHandle, name: &OsStr, path: &Path) -> Result<Option<String>, Error> {
        if parent.try_stat(name).map_err(failed("look at", path))?.is_none() {
            return Ok(None);
        }
        let aside = self.things.len().to_string();
        keeping_time(parent, || parent.rename(name, &self.aside, &aside)).map_err(failed("move", path))?;
        Ok(Some(aside))
    }

    /// Undoes all that, in the reverse order. What the step has made of what surrounds it stays as it is.
    pub(super) fn take_back(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while let Some(thing) = self.things.pop() {
            let undone = thing.take_back(&self.aside);
            result = result.and(undone);
        }
        if result.is_ok() && !std::mem::replace(&mut self.is_back, true) {
            result = self.state.rmdir(ASIDE).map_err(failed("remove", Path::new(ASIDE)));
        }
        result
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // After a panic: whoever returned has taken everything back, and heard of it.
        let _ = self.take_back();
    }
}

impl Thing {
    fn take_back(self, aside: &DirHandle) -> Result<(), Error> {
        let Self { parent, name, path, before, origin } = self;
        keeping_time(&parent, || {
            match &origin {
                Origin::Made => parent.remove_tree(&name)?,
                Origin::Moved { parent: home, name: own, is_directory, .. } => {
                    let found = parent.try_stat(&name)?;
                    match found.filter(|found| found.is_dir() == *is_directory) {
                        Some(_) => match parent.rename(&name, home, own) {
                            // It was emptied by somebody, and has begun anew.
                            Err(error)
                                if matches!(error.kind(), SystemError::NotEmpty | SystemError::Exists) => {}
                            moved => moved?,
                        },
                        // The step has removed what on other hosts it only could have emptied.
                        None if *is_directory => home.mkdir(own, 0o755)?,
                        None => {}
                    }
                    parent.remove_tree(&name)?;
                }
            }
            match before.map(|before| aside.rename(before, &parent, &name)) {
                // The directory that it was in is gone, and so what was in it is.
                Some(Err(error)) if error.kind() == SystemError::NotFound => Ok(()),
                Some(result) => result,
                None => Ok(()),
            }
        })
        .map_err(failed("take back", &path))
    }
}

/// The directory that is the root, wherever it would be bound.
fn root_of(bundle: &Bundle) -> Result<PathBuf, Error> {
    let dir = &bundle.rootfs.dir;
    let Some(mount) = bundle.rootfs.mounts.iter().find(|mount| mount.destination() == dir) else {
        return fs::canonicalize(dir).map_err(|error| Repr::State(error).into());
    };
    match bound(mount)? {
        Some(source) => fs::canonicalize(source).map_err(|error| Repr::State(error).into()),
        None => Err(Error::invalid("the root", "takes a mount")),
    }
}

/// The source of a mount that binds.
fn bound(mount: &Mount) -> Result<Option<PathBuf>, Error> {
    let options = options(mount)?;
    Ok(is_bind(mount, &options).then(|| mount.source().clone().unwrap_or_default()))
}

/// The mode that the root of a file system in memory gets.
fn mode_of(mount: &Mount) -> Result<u32, Error> {
    let options = mount.options().as_deref().unwrap_or_default();
    let mode = options.iter().find_map(|option| option.strip_prefix("mode="));
    match mode {
        None if kind(mount) == "tmpfs" => Ok(0o1777),
        None => Ok(0o755),
        Some(mode) => u32::from_str_radix(mode, 8).map_err(|_| Error::invalid("a mount", "has no mode")),
    }
}

/// Does something to what is in a directory, and leaves it the time that it had.
fn keeping_time<T>(
    directory: &DirHandle,
    change: impl FnOnce() -> Result<T, ocibuild_sys::Error>,
) -> Result<T, ocibuild_sys::Error> {
    let before = directory.metadata()?;
    let result = change()?;
    match directory.set_own_times(None, Some(before.mtime)) {
        // It is gone.
        Err(error) if error.kind() == SystemError::NotFound => {}
        done => done?,
    }
    Ok(result)
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(ocibuild_sys::Error) -> Error {
    let path = path.to_owned();
    move |source| Repr::Place { verb, path: path.clone(), source }.into()
}
