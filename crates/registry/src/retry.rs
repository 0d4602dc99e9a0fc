use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use ocibuild_spec::{CancelToken, Reference, SourceError, SourceErrorKind};

/// When to ask again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// Tries altogether.
    pub(crate) attempts: u32,
    /// Wait before the second try; it doubles each time.
    pub(crate) pause: Duration,
    /// Longest wait, also when a server asks for more.
    pub(crate) longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_secs(1), longest: Duration::from_mins(1) }
    }
}

impl Retry {
    /// Whether an answer with this status may be another one later.
    pub(crate) fn helps(status: u16) -> bool {
        matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
    }

    /// Waits before try number `attempt` (the first is 0): as long as the server asked for, or twice as long as the
    /// time before, with some chance in it, so that many builds do not come back at once.
    pub(crate) fn wait(
        &self,
        attempt: u32,
        retry_after: Option<&str>,
        reference: &Reference,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        self.pause(attempt, retry_after, &reference.familiar(), cancel)
    }

    /// The same for anything that has a name.
    pub(crate) fn pause(
        &self,
        attempt: u32,
        retry_after: Option<&str>,
        subject: &str,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        // Dates would need a clock, and servers' clocks differ; they get the usual wait.
        let asked = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let pause =
            asked.unwrap_or_else(|| jittered(self.pause * 2_u32.saturating_pow(attempt.saturating_sub(1))));
        if cancel.wait_timeout(pause.min(self.longest)) {
            let text = format!("{subject}: cancelled");
            return Err(SourceError::new(SourceErrorKind::Cancelled, text));
        }
        Ok(())
    }
}

/// Between three quarters and five quarters of `pause`.
fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % 512;
    pause * (768 + chance as u32) / 1024
}
