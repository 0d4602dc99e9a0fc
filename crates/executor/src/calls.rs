//! Calls of a step that are answered: the replies, and who made a call, with its memory, its descriptors and its place in the file
//! system.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use ocibuild_sys::{Answer, Call, FileStatus, Listener, read_memory};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// The longest path that the kernel takes, with its NUL.
const PATH_MAX: usize = 4096;
const PAGE: usize = 4096;

/// `AT_FDCWD`, as an argument.
pub(crate) const WORKING_DIRECTORY: u64 = -100_i64 as u64;

/// Paths that are longer are read in pieces.
const USUAL_PATH: usize = 512;

/// The path at an address, unless it is long or the memory of the caller is closed to this process, as that of somebody with
/// another identity is. Who made the call may be gone, and its number another's.
pub(crate) fn usual_path(call: &Call, address: u64) -> Option<CString> {
    let mut buffer = [0; USUAL_PATH];
    let length = read_memory(call.thread, address, &mut buffer).ok()?;
    CStr::from_bytes_until_nul(&buffer[..length]).ok().map(CStr::to_owned)
}

/// What leads to the directory that a path of a call starts at, in the caller's directory of `/proc`.
pub(crate) fn directory_link(directory: u64) -> String {
    match directory as i32 {
        number if number == WORKING_DIRECTORY as i32 => "cwd".to_owned(),
        number => format!("fd/{number}"),
    }
}

/// An answer, or a descriptor for who called.
pub(crate) enum Reply {
    Answer(Answer),
    Descriptor { descriptor: OwnedFd, close_on_exec: bool },
}

pub(crate) const CONTINUE: Result<Reply, Errno> = Ok(Reply::Answer(Answer::Continue));

/// The path by which this process names something that it has open.
pub(crate) fn own_link(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Answers calls until nobody is left to make any, or the command has ended.
pub(crate) fn answer_all(
    listener: &Listener,
    mut reply: impl FnMut(&Call) -> Result<Reply, Errno>,
) -> io::Result<()> {
    while let Some(call) = listener.next()? {
        match reply(&call).unwrap_or_else(|errno| Reply::Answer(Answer::Fail(errno))) {
            Reply::Answer(answer) => listener.answer(&call, answer)?,
            Reply::Descriptor { descriptor, close_on_exec } => {
                listener.answer_with(&call, descriptor.as_fd(), close_on_exec)?;
            }
        }
    }
    Ok(())
}

/// The thread that made a call, which waits for its answer. What it has is reached through its directory in `/proc`, which stays
/// its own even if its number becomes another's; that is opened when it is needed.
pub(crate) struct Caller<'p> {
    call: &'p Call,
    listener: &'p Listener,
    /// The processes of this host.
    proc: &'p OwnedFd,
    directory: OnceCell<OwnedFd>,
    /// Its root, where that is known without looking.
    known_root: Option<&'p OwnedFd>,
    root: OnceCell<OwnedFd>,
}

/// Where a path of a call starts, and the path.
pub(crate) struct Place<'c> {
    caller: &'c Caller<'c>,
    /// `None` for an absolute path.
    directory: Option<OwnedFd>,
    path: CString,
}

impl Place<'_> {
    /// Opens what is there, only to name it.
    pub(crate) fn open(&self, follow: bool) -> Result<OwnedFd, Errno> {
        let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.resolve(self.path.as_bytes(), follow)
    }

    pub(crate) fn status(&self, follow: bool) -> Result<FileStatus, Errno> {
        FileStatus::of(self.open(follow)?.as_fd(), c"", AtFlags::EMPTY_PATH)
    }

    /// The directory that the last name is in, and that name: what is to be made, removed or renamed.
    pub(crate) fn parent(&self) -> Result<Named, Errno> {
        let bytes = self.path.as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &bytes[start..end];
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::INVAL);
        }
        let above = if start == 0 { b".".as_slice() } else { &bytes[..start] };
        let directory = self.resolve(above, OFlags::DIRECTORY)?;
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        Ok(Named { directory, name, as_directory: end < bytes.len() })
    }

    /// As the caller would, but for the links of `/proc` that lead wherever a process is: what is denied to the caller there is
    /// ours.
    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let open = |directory: &OwnedFd, path: &[u8], how| {
            let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
            openat2(directory, path, flags, Mode::empty(), how | ResolveFlags::NO_MAGICLINKS)
        };
        let Some(directory) = self.directory.as_ref().filter(|_| !path.starts_with(b"/")) else {
            return open(self.caller.root()?, path, ResolveFlags::IN_ROOT);
        };
        match open(directory, path, ResolveFlags::BENEATH) {
            // It leads up, or along an absolute link.
            Err(Errno::XDEV) => {
                let root = self.caller.root()?;
                let mut whole = self.caller.path_below(directory, root)?;
                whole.push(b'/');
                whole.extend_from_slice(path);
                open(root, &whole, ResolveFlags::IN_ROOT)
            }
            result => result,
        }
    }
}

/// A name in a directory.
pub(crate) struct Named {
    pub(crate) directory: OwnedFd,
    pub(crate) name: CString,
    /// Whether a slash follows, which only directories may have.
    pub(crate) as_directory: bool,
}

impl Named {
    /// What has the name.
    pub(crate) fn status(&self) -> Result<FileStatus, Errno> {
        FileStatus::of(self.directory.as_fd(), &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

impl<'p> Caller<'p> {
    pub(crate) fn of(
        call: &'p Call,
        listener: &'p Listener,
        proc: &'p OwnedFd,
        known_root: Option<&'p OwnedFd>,
    ) -> Self {
        Self { call, listener, proc, directory: OnceCell::new(), known_root, root: OnceCell::new() }
    }

    /// Its directory; fails with ESRCH if it does not wait any more.
    fn directory(&self) -> Result<&OwnedFd, Errno> {
        if let Some(directory) = self.directory.get() {
            return Ok(directory);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(self.proc, self.call.thread.to_string(), flags, Mode::empty()) {
            Ok(directory) if self.listener.waits(self.call) => Ok(self.directory.get_or_init(|| directory)),
            Ok(_) | Err(Errno::NOENT) => Err(Errno::SRCH),
            Err(errno) => Err(errno),
        }
    }

    /// Opens something of its own. The kernel denies that before it has executed something, if this process has changed its
    /// identity.
    pub(crate) fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(self.directory()?, name, flags | OFlags::CLOEXEC, Mode::empty())
    }

    pub(crate) fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        self.memory()?.read_exact_at(buffer, address).map_err(|_| Errno::FAULT)
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.memory()?.write_all_at(bytes, address).map_err(|_| Errno::FAULT)
    }

    pub(crate) fn write_ids<const N: usize>(&self, places: [(u64, u32); N]) -> Result<(), Errno> {
        places.iter().try_for_each(|(address, id)| self.write(*address, &id.to_ne_bytes()))
    }

    fn memory(&self) -> Result<File, Errno> {
        self.open("mem", OFlags::RDWR).map(File::from)
    }

    /// A path, as the kernel reads it.
    pub(crate) fn path(&self, address: u64) -> Result<CString, Errno> {
        if let Some(path) = usual_path(self.call, address)
            && self.listener.waits(self.call)
        {
            return Ok(path);
        }
        let memory = self.memory()?;
        let mut path = Vec::new();
        while path.len() < PATH_MAX {
            let at = address + path.len() as u64;
            // No further than the page, since the next one may not be there.
            let mut buffer = [0; 512];
            let room = (PAGE - at as usize % PAGE).min(buffer.len()).min(PATH_MAX - path.len());
            let length = match memory.read_at(&mut buffer[..room], at) {
                Ok(0) => return Err(Errno::FAULT),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Errno::FAULT),
            };
            if let Ok(end) = CStr::from_bytes_until_nul(&buffer[..length]) {
                path.extend_from_slice(end.to_bytes());
                return CString::new(path).map_err(|_| Errno::INVAL);
            }
            path.extend_from_slice(&buffer[..length]);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Where a path of a call starts: at a descriptor of the caller, its working directory, or its root.
    pub(crate) fn place(&self, directory: u64, path: CString) -> Result<Place<'_>, Errno> {
        if path.to_bytes().starts_with(b"/") {
            return Ok(Place { caller: self, directory: None, path });
        }
        let directory = self.descriptor(directory as i32)?;
        Ok(Place { caller: self, directory: Some(directory), path })
    }

    /// The directory that it has as its root.
    pub(crate) fn root(&self) -> Result<&OwnedFd, Errno> {
        if let Some(root) = self.known_root.or(self.root.get()) {
            return Ok(root);
        }
        let root = self.open_root()?;
        Ok(self.root.get_or_init(|| root))
    }

    pub(crate) fn open_root(&self) -> Result<OwnedFd, Errno> {
        self.open("root", OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The path of a directory in the root of the caller, which is usually that of its mounts.
    fn path_below(&self, directory: &OwnedFd, root: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let path_of = |descriptor: &OwnedFd| {
            let link = format!("self/fd/{}", descriptor.as_raw_fd());
            rustix::fs::readlinkat(self.proc, link, Vec::new()).map(CString::into_bytes)
        };
        let (path, root) = (path_of(directory)?, path_of(root)?);
        let root = root.strip_suffix(b"/").unwrap_or(&root);
        path.strip_prefix(root).map(<[u8]>::to_vec).ok_or(Errno::NOENT)
    }

    /// What a link of its own says.
    pub(crate) fn read_link(&self, name: &str) -> Result<CString, Errno> {
        rustix::fs::readlinkat(self.directory()?, name, Vec::new())
    }

    /// What is in a file of its own.
    pub(crate) fn text(&self, name: &str) -> Result<String, Errno> {
        let mut text = String::new();
        File::from(self.open(name, OFlags::RDONLY)?).read_to_string(&mut text).map_err(|_| Errno::SRCH)?;
        Ok(text)
    }

    /// What a descriptor of the caller is of.
    pub(crate) fn descriptor(&self, number: i32) -> Result<OwnedFd, Errno> {
        self.open(&directory_link(number as u64), OFlags::PATH).map_err(|errno| match errno {
            Errno::NOENT => Errno::BADF,
            errno => errno,
        })
    }

    /// What `openat2` has behind a pointer: flags, mode, and how paths are resolved. `None` where the kernel takes less.
    pub(crate) fn open_how(&self, address: u64, size: u64) -> Result<Option<[u64; 3]>, Errno> {
        let mut bytes = [0; 24];
        if size < bytes.len() as u64 {
            return Ok(None);
        }
        self.read(address, &mut bytes)?;
        let word = |index: usize| {
            <[u8; 8]>::try_from(&bytes[8 * index..8 * index + 8]).map_or(0, u64::from_ne_bytes)
        };
        Ok(Some([0, 1, 2].map(word)))
    }

    /// The mask of permission bits of what it makes.
    pub(crate) fn umask(&self) -> Result<Mode, Errno> {
        let text = self.text("status")?;
        let mask = text.lines().find_map(|line| line.strip_prefix("Umask:"));
        let mask = mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).ok_or(Errno::SRCH)?;
        Ok(Mode::from_raw_mode(mask))
    }
}
