//! ^C and its relatives: the first one cancels, the second one ends the program at once.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ocibuild::{CancelToken, Error};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::host;

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
        for signal in [SIGINT, SIGTERM, SIGHUP] {
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
            let _ = woken.read_exact(&mut [0]);
            cancel.cancel();
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(cannot)?;
        Ok(signals)
    }

    /// The last signal, if there was one.
    pub(crate) fn received(&self) -> Option<u8> {
        u8::try_from(self.received.load(Ordering::SeqCst)).ok().filter(|signal| *signal != 0)
    }
}
