//! A cgroup that says which devices its processes may open: by a program that the kernel asks (cgroup v2), or by the
//! lists of the `devices` controller (v1).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::dir::last_errno;
use crate::probe::run;
use crate::sandbox::Operation;
use crate::{DirHandle, Error};

/// Character devices that may be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedDevice {
    /// Major number.
    pub major: u32,
    /// Minor number; all of them where there is none.
    pub minor: Option<u32>,
}

/// A cgroup below that of this process. What joins it may make nodes of any number, as what packs files does, and open
/// only the devices that were named. Dropping it removes it; where the process was killed before, the next one does.
#[derive(Debug)]
#[must_use = "the cgroup is removed when this is dropped"]
pub struct DeviceCgroup {
    parent: OwnedFd,
    path: PathBuf,
    /// Held, so that nobody takes it for one that was left behind.
    _lock: OwnedFd,
}

const PREFIX: &str = "ocibuild-";

/// More cgroups than this beside each other are somebody else's.
const MAX_BESIDE: usize = 4096;

impl DeviceCgroup {
    /// Makes one, and tries whether it can be joined. Takes root with a cgroup tree that it may write to.
    pub fn new(allowed: &[AllowedDevice]) -> Result<Self, Error> {
        let (directory, version) = own_directory()?;
        let parent = open_directory(CWD, &directory)?;
        sweep(&directory);
        let pid = rustix::process::getpid().as_raw_pid();
        for number in 0..MAX_BESIDE {
            let name = format!("{PREFIX}{pid}-{number}");
            let path = directory.join(&name);
            match rustix::fs::mkdirat(&parent, name.as_str(), Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => continue,
                result => result.map_err(Error::at("mkdir", &path))?,
            }
            let lock = match lock(&parent, Path::new(&name)) {
                // Somebody took it for one that was left behind, and removes or has removed it.
                Err(Errno::NOENT | Errno::WOULDBLOCK) => continue,
                result => result.map_err(Error::at("lock", &path))?,
            };
            let cgroup = Self { parent, path, _lock: lock };
            match version {
                Version::Two => ask_program(&cgroup, allowed)?,
                Version::One => write_lists(&cgroup.path, allowed)?,
            }
            cgroup.try_to_join()?;
            return Ok(cgroup);
        }
        Err(Error::new("mkdir", directory, Errno::EXIST))
    }

    /// The file that a process writes itself to, to join.
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Joins it with a process that ends at once: some rules of the tree show only then.
    fn try_to_join(&self) -> Result<(), Error> {
        let processes = self.processes();
        let path = CString::new(processes.as_os_str().as_bytes())
            .map_err(|_| Error::new("join", &processes, Errno::INVAL))?;
        run(vec![Operation::JoinCgroup(path)])
            .map_err(|error| Error::new("join", &processes, Errno::from_raw_os_error(error.raw_os_error())))
    }
}

impl Drop for DeviceCgroup {
    fn drop(&mut self) {
        // Where a process of it is not quite gone, the next one to be made removes it.
        if let Some(name) = self.path.file_name() {
            let _ = rustix::fs::unlinkat(&self.parent, name, AtFlags::REMOVEDIR);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The directory of this process' own cgroup in a hierarchy that can tell devices apart.
fn own_directory() -> Result<(PathBuf, Version), Error> {
    let cgroups = read("/proc/self/cgroup")?;
    let mounts = read("/proc/self/mountinfo")?;
    let versions = [Version::Two, Version::One].into_iter();
    let mut found = versions.filter_map(|version| Some((directory_of(&cgroups, &mounts, version)?, version)));
    found.next().ok_or_else(|| Error::new("find a cgroup", "/proc/self/mountinfo", Errno::NOENT))
}

fn read(path: &str) -> Result<String, Error> {
    let directory = DirHandle::open(Path::new(path).parent().unwrap_or(Path::new("/")))?;
    let mut file = directory.open_read(Path::new(path).file_name().unwrap_or_default())?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut text)
        .map_err(|error| Error::new("read", path, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn directory_of(cgroups: &str, mounts: &str, version: Version) -> Option<PathBuf> {
    let own = cgroups.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_right = match version {
            Version::Two => number == "0" && controllers.is_empty(),
            Version::One => controllers.split(',').any(|controller| controller == "devices"),
        };
        is_right.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut filesystem = filesystem.split(' ');
        let is_right = match version {
            Version::Two => filesystem.next() == Some("cgroup2"),
            Version::One => {
                filesystem.next() == Some("cgroup")
                    && filesystem.nth(1)?.split(',').any(|option| option == "devices")
            }
        };
        // A backslash stands for a character that is rare in such a path.
        if !is_right || line.contains('\\') {
            return None;
        }
        // What is outside of the namespace of cgroups begins with `/..`, and has no directory here.
        let below = Path::new(own).strip_prefix(root).ok()?;
        let inside = !below.components().any(|part| part == std::path::Component::ParentDir);
        inside.then(|| Path::new(point).join(below))
    })
}

fn open_directory(parent: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path, flags, Mode::empty()).map_err(Error::at("open", path))
}

/// The lock of what has this name now. Between opening and locking it may have been removed, and another may have the name:
/// whoever held that lock would keep, or remove, what is not its own. While it is held, nobody else removes what it is of.
fn lock(parent: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    let locked = rustix::fs::fstat(&directory)?;
    let named = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_same = (locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino);
    if is_same { Ok(directory) } else { Err(Errno::NOENT) }
}

/// Removes what killed processes left. Nothing depends on it.
fn sweep(directory: &Path) {
    let Ok(parent) = open_directory(CWD, directory) else { return };
    let Ok(names) = DirHandle::open(directory).and_then(|opened| opened.read_dir()) else { return };
    for entry in names.take(MAX_BESIDE).flatten() {
        if entry.name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && let Ok(_lock) = lock(&parent, Path::new(&entry.name))
        {
            let _ = rustix::fs::unlinkat(&parent, &entry.name, AtFlags::REMOVEDIR);
        }
    }
}

fn write_lists(directory: &Path, allowed: &[AllowedDevice]) -> Result<(), Error> {
    let handle = DirHandle::open(directory)?;
    let write = |name: &str, line: &str| {
        let path = directory.join(name);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&handle, name, flags, Mode::empty()).map_err(Error::at("open", &path))?;
        rustix::io::write(&file, line.as_bytes()).map(drop).map_err(Error::at("write", &path))
    };
    write("devices.deny", "a")?;
    write("devices.allow", "b *:* m")?;
    write("devices.allow", "c *:* m")?;
    for device in allowed {
        let minor = device.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
        write("devices.allow", &format!("c {}:{minor} rwm", device.major))?;
    }
    Ok(())
}

/// One instruction of the kernel's machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// `BPF_LDX | BPF_MEM | BPF_W`, and so on: classes and operations of `linux/bpf_common.h`.
const LOAD: u8 = 0x61;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SET: u8 = 0xb7;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Allows to make nodes, and to read and write the devices named. What is asked about is a `struct bpf_cgroup_dev_ctx`: the
/// type in the low half of the first word and the access in the high one, then major and minor number.
fn program(allowed: &[AllowedDevice]) -> Vec<Instruction> {
    const CHARACTER: i32 = 2;
    const MAKE_NODE: i32 = 1;
    let mut program = vec![
        instruction(LOAD, 0x12, 0, 0),
        instruction(COPY, 0x23, 0, 0),
        instruction(AND, 0x02, 0, 0xffff),
        instruction(SHIFT_RIGHT, 0x03, 0, 16),
        instruction(LOAD, 0x14, 4, 0),
        instruction(LOAD, 0x15, 8, 0),
        instruction(JUMP_IF_NOT_EQUAL, 0x03, 2, MAKE_NODE),
        instruction(SET, 0x00, 0, 1),
        instruction(EXIT, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0x02, 2, CHARACTER),
        instruction(SET, 0x00, 0, 0),
        instruction(EXIT, 0, 0, 0),
    ];
    for device in allowed {
        let after = if device.minor.is_some() { 3 } else { 2 };
        program.push(instruction(JUMP_IF_NOT_EQUAL, 0x04, after, device.major as i32));
        if let Some(minor) = device.minor {
            program.push(instruction(JUMP_IF_NOT_EQUAL, 0x05, 2, minor as i32));
        }
        program.extend([instruction(SET, 0x00, 0, 1), instruction(EXIT, 0, 0, 0)]);
    }
    program.extend([instruction(SET, 0x00, 0, 0), instruction(EXIT, 0, 0, 0)]);
    program
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps bpf")]
fn ask_program(cgroup: &DeviceCgroup, allowed: &[AllowedDevice]) -> Result<(), Error> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE_PROGRAM: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTIPLE: u32 = 2;
    let program = program(allowed);
    let load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: what the struct points to outlives the call, and its size is given.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    if loaded < 0 {
        return Err(Error::new("load a program about devices for", &cgroup.path, last_errno()));
    }
    // SAFETY: a new descriptor that nobody else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    let directory =
        open_directory(cgroup.parent.as_fd(), Path::new(cgroup.path.file_name().unwrap_or_default()))?;
    let attach = Attach {
        target: directory.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTIPLE,
    };
    // SAFETY: the struct outlives the call, and its size is given.
    let attached =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    if attached < 0 {
        return Err(Error::new("attach a program about devices to", &cgroup.path, last_errno()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program answers, carried out as the kernel would.
    fn answer(program: &[Instruction], kind: u32, access: u32, numbers: (u32, u32)) -> u64 {
        let context = [access << 16 | kind, numbers.0, numbers.1];
        let mut registers = [0_u64; 16];
        let mut at = 0_usize;
        loop {
            let Instruction { code, registers: both, offset, immediate } = program[at];
            let (to, from) = (usize::from(both & 0xf), usize::from(both >> 4));
            at += 1;
            match code {
                LOAD => {
                    assert_eq!(from, 1, "the context is in the first register");
                    registers[to] = u64::from(context[offset as usize / 4]);
                }
                COPY => registers[to] = registers[from],
                AND => registers[to] &= immediate as u64,
                SHIFT_RIGHT => registers[to] >>= immediate,
                SET => registers[to] = immediate as u64,
                JUMP_IF_EQUAL if registers[to] == immediate as u64 => at += offset as usize,
                JUMP_IF_NOT_EQUAL if registers[to] != immediate as u64 => at += offset as usize,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn programs_allow_what_is_named_and_no_more() {
        const NODE: u32 = 1;
        const READ: u32 = 2;
        const WRITE: u32 = 4;
        const BLOCK: u32 = 1;
        const CHARACTER: u32 = 2;
        let allowed = [AllowedDevice { major: 1, minor: Some(3) }, AllowedDevice { major: 136, minor: None }];
        let program = program(&allowed);
        for (kind, access, numbers, expected) in [
            (CHARACTER, READ | WRITE, (1, 3), 1),
            (CHARACTER, READ, (1, 3), 1),
            (CHARACTER, READ, (1, 1), 0),
            (CHARACTER, WRITE, (10, 3), 0),
            (CHARACTER, READ, (136, 9), 1),
            (BLOCK, READ, (1, 3), 0),
            (BLOCK, READ, (136, 0), 0),
            (BLOCK, NODE, (8, 0), 1),
            (CHARACTER, NODE, (10, 237), 1),
            (BLOCK, NODE | READ, (8, 0), 0),
        ] {
            assert_eq!(answer(&program, kind, access, numbers), expected, "{kind} {access} {numbers:?}");
        }
        assert_eq!(answer(&super::program(&[]), CHARACTER, READ, (1, 3)), 0);
    }

    #[test]
    fn the_own_directory_is_found_below_what_is_mounted() {
        let cgroups = "12:cpu,devices:/a/b\n1:name=systemd:/x\n0::/user.slice/s.scope\n";
        let mounts = "25 1 0:22 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
            26 1 0:23 /a /sys/fs/cgroup/devices rw - cgroup cgroup rw,cpu,devices\n\
            27 1 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = |cgroups: &str, version| directory_of(cgroups, mounts, version);
        assert_eq!(found(cgroups, Version::Two), Some("/sys/fs/cgroup/unified/user.slice/s.scope".into()));
        assert_eq!(found(cgroups, Version::One), Some("/sys/fs/cgroup/devices/b".into()));
        assert_eq!(found("0::/../other\n", Version::Two), None);
        assert_eq!(found("3:devices:/elsewhere\n", Version::One), None);
        assert_eq!(directory_of(cgroups, "", Version::Two), None);
    }
}
