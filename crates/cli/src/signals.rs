//! ^C and its relatives. In general the first one cancels, and the second one ends the program at once; those that come
//! while `run` runs a command are the command's.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocibuild::executor::Control;
use ocibuild::{CancelToken, Error};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGXFSZ};

use crate::failure::host;
use crate::terminal::window;

/// Three signals in this time are meant.
const IN_A_ROW: Duration = Duration::from_secs(2);

/// Signals that are about this program itself, before anything else happens. To be called at the start, once.
///
/// A limit on the size of files (`ulimit -f`) ends a program without a word unless it handles the signal; then writing
/// fails, which can be told. And where whoever started this program ignores SIGCHLD, the kernel keeps no status of the
/// programs that it starts. Both are handled rather than ignored, so that other programs get the defaults.
pub(crate) fn settle() -> Result<(), Error> {
    let cannot = |error| host("cannot handle signals", error);
    let nobody_looks = || Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGXFSZ, nobody_looks()).map_err(cannot)?;
    if heeded([SIGCHLD]).map_or(true, |heeded| heeded.is_empty()) {
        signal_hook::flag::register(SIGCHLD, nobody_looks()).map_err(cannot)?;
    }
    Ok(())
}

/// Whether a signal asks to end.
fn is_end(signal: i32) -> bool {
    matches!(signal, SIGINT | SIGTERM | SIGHUP | SIGQUIT)
}

/// Those that whoever started this program has not told it to ignore, as `nohup` and `&` in a script do.
fn heeded(signals: impl IntoIterator<Item = i32>) -> Result<Vec<i32>, Error> {
    let status = fs_err::read_to_string("/proc/self/status")
        .map_err(|error| host("cannot see which signals are ignored", error))?;
    let ignored = ignored(&status);
    Ok(signals.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect())
}

/// The set of ignored signals, bit 0 for the first.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default()
}

/// The signals of this process, turned into a cancelled token.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    pub(crate) cancel: CancelToken,
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Takes over the signals. Starts a thread, so namespaces have to be entered before.
    pub(crate) fn install() -> Result<Self, Error> {
        let cannot = |error| host("cannot handle signals", error);
        let signals = Self { cancel: CancelToken::new(), received: Arc::default() };
        let (mut woken, waker) = UnixStream::pair().map_err(cannot)?;
        for signal in heeded([SIGINT, SIGTERM, SIGHUP])? {
            let again = Arc::new(AtomicBool::new(false));
            // In this order: what ends the program looks before the first signal has armed it.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))
                .map_err(cannot)?;
            signal_hook::flag::register(signal, again).map_err(cannot)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&signals.received), signal as usize)
                .map_err(cannot)?;
            signal_hook::low_level::pipe::register(signal, waker.try_clone().map_err(cannot)?)
                .map_err(cannot)?;
        }
        let cancel = signals.cancel.clone();
        let wait = move || {
            // It ends without a byte where all of the signals are ignored: then nothing wakes it.
            if woken.read_exact(&mut [0]).is_ok() {
                cancel.cancel();
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(Error::no_thread)?;
        Ok(signals)
    }

    /// Takes over the signals for a command: it gets them, and learns of the size of the terminal. While none runs they
    /// cancel, and so does the third within two seconds.
    pub(crate) fn forward(control: &Control) -> Result<Self, Error> {
        const SIGNALS: [i32; 7] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];
        let cannot = |error| host("cannot handle signals", error);
        let signals = Self { cancel: CancelToken::new(), received: Arc::default() };
        let (mut woken, waker) = UnixStream::pair().map_err(cannot)?;
        let mut flags = Vec::new();
        for signal in heeded(SIGNALS)? {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(cannot)?;
            if is_end(signal) {
                let received = Arc::clone(&signals.received);
                signal_hook::flag::register_usize(signal, received, signal as usize).map_err(cannot)?;
            }
            // In this order: whoever is woken finds the flag.
            let waker = waker.try_clone().map_err(cannot)?;
            signal_hook::low_level::pipe::register(signal, waker).map_err(cannot)?;
            flags.push((signal, flag));
        }
        let (cancel, control) = (signals.cancel.clone(), control.clone());
        let work = move || {
            let mut ends: Vec<Instant> = Vec::new();
            while woken.read_exact(&mut [0]).is_ok() {
                for (signal, _) in flags.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst)) {
                    if *signal == SIGWINCH {
                        control.resize(window());
                        continue;
                    }
                    ends.retain(|end| end.elapsed() < IN_A_ROW);
                    if is_end(*signal) {
                        ends.push(Instant::now());
                    }
                    let is_taken = control.signal(*signal);
                    if is_end(*signal) && (!is_taken || ends.len() > 2) {
                        cancel.cancel();
                    }
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(work).map_err(Error::no_thread)?;
        Ok(signals)
    }

    /// The last signal, if there was one.
    pub(crate) fn received(&self) -> Option<u8> {
        u8::try_from(self.received.load(Ordering::SeqCst)).ok().filter(|signal| *signal != 0)
    }
}

/// While it lives, a command learns of the size of the terminal.
#[derive(Debug)]
pub(crate) struct Resizing {
    id: signal_hook::SigId,
}

impl Resizing {
    pub(crate) fn start(control: &Control) -> Result<Self, Error> {
        let cannot = |error| host("cannot handle signals", error);
        let (mut woken, waker) = UnixStream::pair().map_err(cannot)?;
        let id = signal_hook::low_level::pipe::register(SIGWINCH, waker).map_err(cannot)?;
        let resizing = Self { id };
        let control = control.clone();
        let wait = move || {
            while woken.read_exact(&mut [0]).is_ok() {
                control.resize(window());
            }
        };
        std::thread::Builder::new().name("resizing".to_owned()).spawn(wait).map_err(Error::no_thread)?;
        Ok(resizing)
    }
}

impl Drop for Resizing {
    fn drop(&mut self) {
        // With it goes the side of the pipe that wakes the thread, which ends.
        signal_hook::low_level::unregister(self.id);
    }
}
