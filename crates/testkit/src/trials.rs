//! Tests that are listed at run time, one for each file of a folder, behind the command line of Rust's own test harness:
//! `cargo test` and `cargo nextest` list, filter and run them by name. For targets with `harness = false`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One test: its name, and what it does. A panic fails it.
pub struct Trial<'a> {
    name: String,
    run: Box<dyn Fn() + Send + Sync + 'a>,
}

impl<'a> Trial<'a> {
    /// A test of this name.
    pub fn new(name: impl Into<String>, run: impl Fn() + Send + Sync + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trial").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the command line asks for, of the options that Rust's test harness has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TrialOptions {
    filters: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
    only_ignored: bool,
    threads: Option<usize>,
}

/// Options that change nothing here: output is never captured and never coloured, and nothing is marked as ignored.
const WITHOUT_EFFECT: [&str; 7] =
    ["--nocapture", "--no-capture", "--show-output", "--include-ignored", "--quiet", "-q", "--test"];
const WITHOUT_EFFECT_WITH_VALUE: [&str; 3] = ["--format", "--color", "-Z"];

impl TrialOptions {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    ///
    /// An option that Rust's test harness does not have, or one without its value.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, mut given) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value =
                || given.take().or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value"));
            match name {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--ignored" => options.only_ignored = true,
                "--skip" => options.skipped.push(value()?),
                "--test-threads" => {
                    let text = value()?;
                    let threads = text.parse().ok().filter(|threads| *threads > 0);
                    options.threads =
                        Some(threads.ok_or_else(|| format!("{text:?} is not a number of threads"))?);
                }
                _ if WITHOUT_EFFECT.contains(&name) => {}
                _ if WITHOUT_EFFECT_WITH_VALUE.contains(&name) => _ = value()?,
                _ if name.starts_with('-') => return Err(format!("unknown option {argument}")),
                _ => options.filters.push(argument),
            }
        }
        Ok(options)
    }

    /// Whether a test of this name is asked for.
    pub fn select(&self, name: &str) -> bool {
        let is_hit =
            |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        let is_wanted = self.filters.is_empty() || self.filters.iter().any(is_hit);
        is_wanted && !self.skipped.iter().any(is_hit) && !self.only_ignored
    }
}

/// Lists or runs the tests that the arguments of this process ask for; what `main` of the target returns.
pub fn run_trials(trials: &[Trial<'_>]) -> ExitCode {
    match TrialOptions::parse(std::env::args().skip(1)) {
        Ok(options) if options.list => list(trials, &options),
        Ok(options) => run(trials, &options),
        Err(message) => {
            say(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what a test harness answers is read from its standard output")]
fn say(line: &str) {
    println!("{line}");
}

fn list(trials: &[Trial<'_>], options: &TrialOptions) -> ExitCode {
    for trial in trials.iter().filter(|trial| options.select(&trial.name)) {
        say(&format!("{}: test", trial.name));
    }
    ExitCode::SUCCESS
}

fn run(trials: &[Trial<'_>], options: &TrialOptions) -> ExitCode {
    let selected: Vec<&Trial<'_>> = trials.iter().filter(|trial| options.select(&trial.name)).collect();
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(trial) = selected.get(next.fetch_add(1, Ordering::Relaxed)) {
            // What panics is a test's own; nothing of it is looked at again. The panic hook has printed the message.
            let is_good = catch_unwind(AssertUnwindSafe(|| (trial.run)())).is_ok();
            say(&format!("test {} ... {}", trial.name, if is_good { "ok" } else { "FAILED" }));
            if !is_good {
                failed.lock().expect("no test panics under this lock").push(trial.name.as_str());
            }
        }
    };
    say(&format!("\nrunning {} tests", selected.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(selected.len()) {
            scope.spawn(work);
        }
    });
    let mut failed = failed.into_inner().expect("no test panics under this lock");
    failed.sort_unstable();
    for name in &failed {
        say(&format!("    {name}"));
    }
    let (passed, left) = (selected.len() - failed.len(), trials.len() - selected.len());
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    let count = failed.len();
    say(&format!(
        "\ntest result: {result}. {passed} passed; {count} failed; 0 ignored; {left} filtered out\n"
    ));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<TrialOptions, String> {
        TrialOptions::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn options_select_by_name() {
        let cases: [(&[&str], &[&str]); 8] = [
            (&[], &["copy::links", "copy::links-two", "run::user"]),
            (&["links"], &["copy::links", "copy::links-two"]),
            (&["copy::links", "--exact", "--nocapture"], &["copy::links"]),
            (&["--skip", "links", "--format", "terse"], &["run::user"]),
            (&["--skip=two", "copy", "run"], &["copy::links", "run::user"]),
            (&["--ignored", "--list"], &[]),
            (&["nothing"], &[]),
            (&["--test-threads", "3", "user"], &["run::user"]),
        ];
        for (arguments, expected) in cases {
            let options = options(arguments).unwrap();
            let names = ["copy::links", "copy::links-two", "run::user"].into_iter();
            let selected: Vec<&str> = names.filter(|name| options.select(name)).collect();
            assert_eq!(selected, expected, "{arguments:?}");
        }
    }

    #[test]
    fn options_that_no_harness_has_are_refused() {
        for arguments in
            [&["--fitler", "x"][..], &["--skip"], &["--test-threads", "0"], &["--test-threads=many"]]
        {
            assert!(options(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn one_that_panics_fails_the_run_and_the_others_are_still_run() {
        let ran = AtomicUsize::new(0);
        let good = || _ = ran.fetch_add(1, Ordering::Relaxed);
        let trials = [
            Trial::new("a", good),
            Trial::new("b", || panic!("this test is meant to fail")),
            Trial::new("c", good),
        ];
        let all = TrialOptions { threads: Some(1), ..TrialOptions::default() };
        assert_eq!(format!("{:?}", run(&trials, &all)), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(ran.load(Ordering::Relaxed), 2);
        let without = TrialOptions { skipped: vec!["b".to_owned()], ..all };
        assert_eq!(format!("{:?}", run(&trials, &without)), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(ran.load(Ordering::Relaxed), 4);
    }
}
