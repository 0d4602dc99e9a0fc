use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Far more than anything takes on a busy machine, and less than what a test would hang for.
const LIMIT: Duration = Duration::from_mins(2);

/// Ends the whole test process when a test hangs. Nothing about speed is asserted with it: what a test waits for in vain
/// lasts longer than two minutes, and what it waits for rightly comes within seconds.
#[derive(Debug)]
pub struct HangGuard {
    _disarm: Sender<()>,
}

impl HangGuard {
    /// Guards until it is dropped; `what` is said of a hang.
    #[expect(clippy::print_stderr, reason = "the process ends here, and this is its reason")]
    pub fn new(what: impl Into<String>) -> Self {
        let (sender, receiver) = channel();
        let what = what.into();
        std::thread::spawn(move || {
            if receiver.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("this hangs: {what}");
                std::process::abort();
            }
        });
        Self { _disarm: sender }
    }
}
