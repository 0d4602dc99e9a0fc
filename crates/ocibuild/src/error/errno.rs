//! What the kernel's error number says: whether this host is to blame, and what can be done.

use std::io;

use rustix::io::Errno;

/// Whether the host is to blame, and not what was read or is to be made.
pub(super) fn is_of_the_host(number: i32) -> bool {
    let errno = Errno::from_raw_os_error(number);
    is_failure(number)
        || matches!(
            errno,
            Errno::ROFS
                | Errno::PERM
                | Errno::ACCESS
                | Errno::NODEV
                | Errno::NXIO
                | Errno::NOSYS
                | Errno::OPNOTSUPP
        )
}

/// Whether the host failed at something that it usually can.
pub(super) fn is_failure(number: i32) -> bool {
    let errno = Errno::from_raw_os_error(number);
    is_used_up(errno) || matches!(errno, Errno::IO | Errno::STALE)
}

/// Whether there is no more of something.
fn is_used_up(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
}

/// What to do about an error number that leaves no doubt about its reason.
pub(super) fn advice(number: i32) -> Option<&'static str> {
    Some(match Errno::from_raw_os_error(number) {
        Errno::MFILE => "this process may not have more files open: raise its limit (`ulimit -n`)",
        Errno::NFILE => "this host cannot have more files open: close some, or raise the sysctl fs.file-max",
        Errno::NOMEM => "this host, or the cgroup of this process, has no more memory",
        Errno::NOSPC => "free some space or inodes on that file system, or use another one",
        Errno::DQUOT => "the quota of this user is used up: free some space, or use another file system",
        Errno::FBIG => {
            "raise the limit on the size of files (`ulimit -f`), or use a file system that takes larger ones"
        }
        Errno::IO => "the disk or the file system below it fails: the kernel's log (`dmesg`) says more",
        Errno::ROFS => "that file system is read-only: use another one",
        _ => return None,
    })
}

/// The same about the kernel's error below another one.
pub(super) fn advice_below(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    ocibuild_sys::raw_os_error_of(error).and_then(advice).or_else(|| advice_of_kind(error))
}

/// The same for an error that hides its number, as those that name a path do.
fn advice_of_kind(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let errno = |error: &io::Error| match error.kind() {
        io::ErrorKind::OutOfMemory => Some(Errno::NOMEM),
        io::ErrorKind::StorageFull => Some(Errno::NOSPC),
        io::ErrorKind::QuotaExceeded => Some(Errno::DQUOT),
        io::ErrorKind::FileTooLarge => Some(Errno::FBIG),
        io::ErrorKind::ReadOnlyFilesystem => Some(Errno::ROFS),
        _ => None,
    };
    let known = find_io(error, &|error| errno(error).is_some()).and_then(errno);
    known.and_then(|errno| advice(errno.raw_os_error()))
}

/// Whether an error hides its number, and is of no kind that the standard library has a name for: too many open files, a
/// disk that fails. What input can bring about has names.
pub(super) fn is_nameless(error: &(dyn std::error::Error + 'static)) -> bool {
    let nameless = io::Error::from(Errno::IO).kind();
    find_io(error, &|error| error.kind() == nameless).is_some()
}

/// The first fitting error of input or output among the causes of an error.
fn find_io<'e>(
    error: &'e (dyn std::error::Error + 'static),
    fits: &dyn Fn(&io::Error) -> bool,
) -> Option<&'e io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if let Some(found) = io.filter(|error| fits(error)) {
            return Some(found);
        }
        // What an error of input or output is made of is not among its causes.
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// What to do when no process or thread can be started.
pub(super) const PROCESSES: &str = "this user, or the cgroup of this process, may not have more processes and threads: raise the limit (`ulimit -u`, pids.max)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_input_can_bring_about_is_not_of_the_host() {
        for errno in
            [Errno::NAMETOOLONG, Errno::LOOP, Errno::NOTDIR, Errno::EXIST, Errno::INVAL, Errno::ISDIR]
        {
            assert!(!is_of_the_host(errno.raw_os_error()), "{errno:?}");
            assert_eq!(advice(errno.raw_os_error()), None, "{errno:?}");
        }
        for errno in [Errno::IO, Errno::MFILE, Errno::NOSPC, Errno::FBIG, Errno::NOMEM, Errno::ROFS] {
            assert!(
                is_of_the_host(errno.raw_os_error()) && advice(errno.raw_os_error()).is_some(),
                "{errno:?}"
            );
        }
    }
}
