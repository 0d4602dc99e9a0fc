//! What became of limits.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::hierarchy::{Hierarchy, Version, text_of, write};
use crate::Error;

/// Comes when a cgroup of version 1, or one in it, has no memory left, and a process is killed. What the cgroup counts are those
/// that were killed in it, and not those further down.
#[derive(Debug)]
pub(super) struct Notification(OwnedFd);

impl Notification {
    pub(super) fn of(directory: BorrowedFd<'_>, path: &Path) -> Result<Self, Error> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(Error::at("eventfd", Path::new("")))?;
        let about = "memory.oom_control";
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, about, flags, Mode::empty())
            .map_err(Error::at("open", path.join(about)))?;
        let line = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
        write(directory, path, "cgroup.event_control", &line)?;
        Ok(Self(event))
    }

    /// Reading it would make it forget.
    pub(super) fn has_come(&self) -> Result<bool, Error> {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        loop {
            match poll(&mut polled, Some(&Timespec::default())) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::new("poll", Path::new("memory.oom_control"), errno)),
            }
        }
    }
}

/// The number behind a word in a file of the kernel.
pub(super) fn counted(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// How many processes of the cgroup of this process, those below it with memory of their own aside, were killed for memory: for a
/// limit, or because the machine had none left. `None` where nobody counts.
pub fn killed_for_memory() -> Option<u64> {
    // Asked at each step: finding it takes longer than reading it.
    static COUNTER: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let counter = COUNTER.get_or_init(counter_of_killed).as_ref()?;
    let mut text = [0; 1024];
    let length = rustix::io::pread(counter, &mut text[..], 0).ok()?;
    counted(std::str::from_utf8(&text[..length]).ok()?, "oom_kill")
}

fn counter_of_killed() -> Option<OwnedFd> {
    let hierarchies = Hierarchy::all().ok()?;
    let hierarchy = hierarchies.iter().find(|hierarchy| hierarchy.has("memory"))?;
    let file = match hierarchy.version {
        Version::One => "memory.oom_control",
        // Not of those below, which may have limits of their own.
        Version::Two => "memory.events.local",
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(hierarchy.own.join(file), flags, Mode::empty()).ok()
}

/// Bytes of memory that the cgroup of this process, and all that can be seen above it, let it use; `None` without such a limit.
pub fn memory_limit() -> Option<u64> {
    let hierarchies = Hierarchy::all().ok()?;
    let Hierarchy { version, mount, own, .. } = hierarchies.iter().find(|found| found.has("memory"))?;
    let file = match version {
        Version::One => "memory.limit_in_bytes",
        Version::Two => "memory.max",
    };
    let above = own.ancestors().take_while(|above| above.starts_with(mount));
    // That of the root of version 2 does not exist.
    let limits = above.filter_map(|directory| text_of(&directory.join(file)).ok()?.trim().parse().ok());
    // What is no limit is as many pages as there are numbers.
    limits.filter(|limit| *limit < 1 << 62).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_whole_word() {
        let text = "low 0\nhigh 1\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((counted(text, "oom"), counted(text, "oom_kill")), (Some(3), Some(2)));
        assert_eq!((counted(text, "oom_"), counted("", "oom")), (None, None));
    }
}
