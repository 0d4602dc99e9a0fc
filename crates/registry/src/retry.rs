use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};

use crate::http::{HttpError, HttpResponse};

/// When to ask again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// Tries altogether.
    pub(crate) attempts: u32,
    /// Wait before the second try; it doubles each time.
    pub(crate) pause: Duration,
    /// Longest wait, unless a server asks for more.
    pub(crate) longest: Duration,
}

/// A request that failed, and that is made again after a while.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Retrying<'a> {
    /// What it was about and how it failed.
    pub why: &'a str,
    /// The wait before the next try.
    pub pause: Duration,
}

/// Who is told about requests that are made again.
#[derive(Clone, Default)]
pub(crate) struct RetryWatcher(pub(crate) Option<Arc<OnRetry>>);

type OnRetry = dyn Fn(Retrying<'_>) + Send + Sync;

impl fmt::Debug for RetryWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryWatcher").field(&self.0.is_some()).finish()
    }
}

impl RetryWatcher {
    /// Tells that the next try is after this wait, and waits, unless it is cancelled.
    pub(crate) fn wait(
        &self,
        pause: Duration,
        why: &str,
        subject: &str,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        if let Some(told) = &self.0 {
            told(Retrying { why, pause });
        }
        wait(pause, subject, cancel)
    }
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

    /// Sends something until no further try would help; what came of the last one. The error is that it was cancelled
    /// while it waited.
    pub(crate) fn send(
        self,
        subject: &str,
        watcher: &RetryWatcher,
        cancel: &CancelToken,
        send: impl Fn() -> Result<HttpResponse, HttpError>,
    ) -> Result<Result<HttpResponse, HttpError>, SourceError> {
        let mut tries = self.tries();
        loop {
            let answer = send();
            let pause = match &answer {
                Ok(response) if Self::helps(response.status) => {
                    tries.next_pause(response.header("retry-after"))
                }
                Err(error) if error.is_transient() => tries.next_pause(None),
                _ => None,
            };
            let Some(pause) = pause else { return Ok(answer) };
            let why = match &answer {
                Ok(response) => format!("{} answered {}", response.url, response.status),
                Err(error) => error.to_string(),
            };
            // No connection is kept for so long.
            drop(answer);
            watcher.wait(pause, &format!("{subject}: {why}"), subject, cancel)?;
        }
    }

    /// The tries of one piece of work.
    pub(crate) fn tries(self) -> Tries {
        self.tries_of(self.attempts)
    }

    /// The same with so many of them.
    pub(crate) fn tries_of(self, attempts: u32) -> Tries {
        let left = self.longest * attempts.saturating_sub(1);
        Tries { retry: Self { attempts, ..self }, failures: 0, left }
    }
}

/// How often something was tried, and for how long it may still be waited. Both end: no registry keeps this program for
/// longer, whatever it asks for.
#[derive(Debug, Clone)]
pub(crate) struct Tries {
    retry: Retry,
    failures: u32,
    /// What all waits together may still take.
    left: Duration,
}

impl Tries {
    /// Tries that failed so far.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next try, after one that failed: as long as the server asked for, or twice as long as the
    /// time before, with some chance in it, so that many builds do not come back at once. `None` when there were tries
    /// enough, or when it asks for more than is left: to come back earlier would be another failure.
    pub(crate) fn next_pause(&mut self, retry_after: Option<&str>) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= self.retry.attempts {
            return None;
        }
        let own = || {
            let doubled = self.retry.pause.saturating_mul(2_u32.saturating_pow(self.failures - 1));
            jittered(doubled.min(self.retry.longest)).min(self.retry.longest)
        };
        let pause = retry_after.and_then(seconds).unwrap_or_else(own);
        self.left = self.left.checked_sub(pause)?;
        Some(pause)
    }
}

/// Waits, unless it is cancelled.
pub(crate) fn wait(pause: Duration, subject: &str, cancel: &CancelToken) -> Result<(), SourceError> {
    if cancel.wait_timeout(pause) {
        return Err(SourceError::new(SourceErrorKind::Cancelled, format!("{subject}: cancelled")));
    }
    Ok(())
}

/// What `Retry-After` asks for. Dates would need a clock, and servers' clocks differ: they get the usual wait.
pub(crate) fn seconds(retry_after: &str) -> Option<Duration> {
    retry_after.trim().parse().ok().map(Duration::from_secs)
}

/// Between three quarters and five quarters of `pause`.
fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % 512;
    pause * (768 + chance as u32) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Tries {
        Retry { attempts: 4, pause: Duration::from_secs(1), longest: Duration::from_mins(1) }.tries()
    }

    #[test]
    fn waits_double_and_end() {
        let mut tries = four();
        for usual in [1, 2, 4] {
            let pause = tries.next_pause(None).unwrap().as_secs_f64() / f64::from(usual);
            assert!((0.7..1.3).contains(&pause), "{pause}");
        }
        assert_eq!(tries.next_pause(None), None);
    }

    #[test]
    fn what_a_server_asks_for_is_kept_or_not_tried() {
        let mut tries = four();
        assert_eq!(tries.next_pause(Some("100")), Some(Duration::from_secs(100)));
        assert_eq!(tries.next_pause(Some("81")), None, "of three minutes eighty seconds are left");
        for odd in ["soon", "-1", "", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert!(four().next_pause(Some(odd)).unwrap() < Duration::from_secs(2), "{odd}");
        }
    }
}
