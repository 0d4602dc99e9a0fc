//! The `HEALTHCHECK` of an image, as what a kubelet probes.

use ocibuild::spec::{ContainerConfig, HealthConfig};

const NANOSECONDS: u64 = 1_000_000_000;
/// What an engine takes where the image says nothing, in seconds.
const INTERVAL: u64 = 30;
const TIMEOUT: u64 = 30;
const START_INTERVAL: u64 = 5;
const RETRIES: u64 = 3;

/// What an image says about its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing.
    Unknown,
    /// `NONE`: it is not to be checked.
    Unchecked,
    /// A kind of check that is not known.
    Other(String),
    /// A command, and when it is run.
    Checked(Check),
}

/// A command that ends with 0 in a healthy container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) command: Vec<String>,
    pub(super) running: Rhythm,
    /// Until it first succeeds.
    pub(super) starting: Rhythm,
}

/// How often something is tried, in seconds and counts that fit 31 bits and are never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rhythm {
    pub(super) period: u32,
    pub(super) timeout: u32,
    pub(super) failures: u32,
}

impl Health {
    pub(super) fn of(config: &ContainerConfig) -> Self {
        let Some(health) = &config.healthcheck else { return Self::Unknown };
        let command = match health.test.split_first() {
            None => return Self::Unknown,
            Some((kind, _)) if kind == "NONE" => return Self::Unchecked,
            Some((kind, command)) if kind == "CMD" => command.to_vec(),
            Some((kind, command)) if kind == "CMD-SHELL" => in_shell(command, &config.shell),
            Some((kind, _)) => return Self::Other(kind.clone()),
        };
        if command.is_empty() {
            return Self::Other(health.test[0].clone());
        }
        Self::Checked(Check { command, running: running(health), starting: starting(health) })
    }
}

/// As an engine does it: with the shell of the image, or `/bin/sh`.
fn in_shell(command: &[String], shell: &[String]) -> Vec<String> {
    if command.is_empty() {
        return Vec::new();
    }
    let usual = || ["/bin/sh", "-c"].map(str::to_owned).to_vec();
    let mut words = if shell.is_empty() { usual() } else { shell.to_vec() };
    words.extend_from_slice(command);
    words
}

fn running(health: &HealthConfig) -> Rhythm {
    Rhythm {
        period: whole(seconds(health.interval).unwrap_or(INTERVAL)),
        timeout: whole(seconds(health.timeout).unwrap_or(TIMEOUT)),
        failures: whole(retries(health)),
    }
}

/// While a startup probe is not over, there are no others: it is made as often as the image wants it at the start, and
/// gives up when an engine would have called the container unhealthy, that is all of the start period and then so many
/// failures.
fn starting(health: &HealthConfig) -> Rhythm {
    let running = running(health);
    let often = seconds(health.start_interval).unwrap_or(START_INTERVAL);
    let period = whole(often).min(running.period);
    let patience = seconds(health.start_period)
        .unwrap_or(0)
        .saturating_add(retries(health).saturating_mul(u64::from(running.period)));
    Rhythm { period, timeout: running.timeout, failures: whole(patience.div_ceil(u64::from(period))) }
}

fn retries(health: &HealthConfig) -> u64 {
    u64::try_from(health.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES)
}

/// Whole seconds, rounded up; `None` where the image says nothing.
fn seconds(nanoseconds: i64) -> Option<u64> {
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|time| *time > 0)?;
    Some(nanoseconds.div_ceil(NANOSECONDS))
}

fn whole(number: u64) -> u32 {
    const MAX: u32 = i32::MAX as u32;
    u32::try_from(number).unwrap_or(MAX).min(MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn health(test: &[&str], change: impl FnOnce(&mut HealthConfig), shell: &[&str]) -> Health {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut health = HealthConfig { test: words(test), ..HealthConfig::default() };
        change(&mut health);
        let shell = words(shell);
        Health::of(&ContainerConfig { healthcheck: Some(health), shell, ..ContainerConfig::default() })
    }

    fn rhythms(change: impl FnOnce(&mut HealthConfig)) -> [(u32, u32, u32); 2] {
        let Health::Checked(check) = health(&["CMD", "x"], change, &[]) else { panic!("it has a command") };
        [check.running, check.starting].map(|rhythm| (rhythm.period, rhythm.timeout, rhythm.failures))
    }

    #[test]
    fn commands() {
        let command = |test: &[&str], shell: &[&str]| match health(test, |_| {}, shell) {
            Health::Checked(check) => check.command.join("|"),
            other => format!("{other:?}"),
        };
        assert_eq!(command(&["CMD", "a", "b c"], &["/bin/bash"]), "a|b c");
        assert_eq!(command(&["CMD-SHELL", "a || b"], &[]), "/bin/sh|-c|a || b");
        assert_eq!(command(&["CMD-SHELL", "a"], &["/bin/bash", "-ec"]), "/bin/bash|-ec|a");
        assert_eq!(command(&["NONE"], &[]), "Unchecked");
        assert_eq!(command(&[], &[]), "Unknown");
        assert_eq!(command(&["CMD"], &[]), "Other(\"CMD\")");
        assert_eq!(command(&["HTTP", "x"], &[]), "Other(\"HTTP\")");
        assert_eq!(Health::of(&ContainerConfig::default()), Health::Unknown);
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(rhythms(|_| {}), [(30, 30, 3), (5, 30, 18)]);
        let start = |health: &mut HealthConfig| {
            health.start_period = 61 * SECOND;
            health.start_interval = 2 * SECOND;
            health.interval = 10 * SECOND;
            health.timeout = SECOND / 2;
            health.retries = 2;
        };
        // 61 seconds and twice 10, every 2.
        assert_eq!(rhythms(start), [(10, 1, 2), (2, 1, 41)]);
        assert_eq!(rhythms(|health| health.interval = SECOND), [(1, 30, 3), (1, 30, 3)]);
        let most = |health: &mut HealthConfig| {
            *health = HealthConfig { test: health.test.clone(), ..EXTREME };
        };
        let max = i32::MAX as u32;
        assert_eq!(rhythms(most), [(max, max, max), (max, max, max)]);
        let negative = |health: &mut HealthConfig| (health.interval, health.retries) = (-1, -1);
        assert_eq!(rhythms(negative), rhythms(|_| {}));
    }

    const EXTREME: HealthConfig = HealthConfig {
        test: Vec::new(),
        interval: i64::MAX,
        timeout: i64::MAX,
        start_period: i64::MAX,
        start_interval: i64::MAX,
        retries: i64::MAX,
    };
}
