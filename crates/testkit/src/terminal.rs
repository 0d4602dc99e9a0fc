//! A terminal with a test in front of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both sides of a pseudo terminal.
#[derive(Debug)]
pub struct TestTerminal {
    screen: File,
    programs: OwnedFd,
    seen: String,
}

impl TestTerminal {
    /// A terminal of this size.
    pub fn new(rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let screen = openpt(flags).expect("a terminal can be made");
        grantpt(&screen).expect("it is ours");
        unlockpt(&screen).expect("it is ours");
        let programs = ioctl_tiocgptpeer(&screen, flags).expect("it has two sides");
        let terminal = Self { screen: File::from(screen), programs, seen: String::new() };
        terminal.resize(rows, columns);
        terminal
    }

    /// The side for a program.
    pub fn stream(&self) -> Stdio {
        Stdio::from(self.programs.try_clone().expect("descriptors are left"))
    }

    /// Changes the size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.programs, size).expect("a terminal has a size");
    }

    /// Whether keys go to the program one by one and as they are.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.programs).expect("a terminal has modes").local_modes;
        !modes.contains(rustix::termios::LocalModes::ICANON)
    }

    /// Types.
    pub fn type_text(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).expect("a terminal takes keys");
    }

    /// Waits until this text appeared; what was on the screen up to then, which then is forgotten.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(start.elapsed() < PATIENCE, "no {text:?} in {:?}", self.seen);
            self.read();
        }
    }

    fn read(&mut self) {
        let mut watched = [PollFd::new(&self.screen, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        if poll(&mut watched, Some(&wait)).expect("a terminal can be watched") == 0 {
            return;
        }
        let mut buffer = [0; 4096];
        let count = self.screen.read(&mut buffer).expect("the test holds the other side too");
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}
