//! Steps that run at the same time: as many as the plan allows, with one result whatever comes first.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use ocibuild::executor::{Bundle, Error, ErrorKind as ExecutorErrorKind, Executor, ExitStatus, Output};
use ocibuild::{CancelToken, ErrorKind, Event};

use crate::support::World;

/// Carries out commands as the test says, by the text of the command; their files are what the step began with.
pub(crate) struct Scripted<F>(pub(crate) F);

impl<F: Fn(&str, &CancelToken) -> i32 + Send + Sync> Executor for Scripted<F> {
    fn run(&self, bundle: &Bundle, _: &mut Output<'_>, cancel: &CancelToken) -> Result<ExitStatus, Error> {
        let args = bundle.spec.process().as_ref().and_then(|process| process.args().clone());
        let command = args.unwrap_or_default().pop().unwrap_or_default();
        let code = (self.0)(&command, cancel);
        if cancel.is_cancelled() {
            return Err(Error::new(ExecutorErrorKind::Cancelled, "the step was cancelled"));
        }
        Ok(ExitStatus::Code(code))
    }
}

/// Lets nobody through before a number of different ones have come; whoever waits too long for that goes on alone.
struct Gathering {
    wanted: usize,
    come: Mutex<HashSet<String>>,
    changed: Condvar,
}

impl Gathering {
    fn of(wanted: usize) -> Self {
        Self { wanted, come: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether all of them were there.
    fn meet(&self, who: &str) -> bool {
        let mut come = self.come.lock().unwrap();
        come.insert(who.to_owned());
        self.changed.notify_all();
        let patience = Duration::from_mins(2);
        let waiting = |come: &mut HashSet<String>| come.len() < self.wanted;
        !self.changed.wait_timeout_while(come, patience, waiting).unwrap().1.timed_out()
    }
}

fn stages(count: usize) -> String {
    let (mut stages, mut last) = (String::new(), "FROM base\n".to_owned());
    for number in 0..count {
        write!(stages, "FROM base AS s{number}\nRUN step-{number}\n").unwrap();
        writeln!(last, "COPY --from=s{number} /bin/busybox /b{number}").unwrap();
    }
    stages + &last
}

#[test]
fn independent_stages_and_platforms_run_at_the_same_time() {
    let Some(mut world) = World::with_shell() else { return };
    let all = std::sync::Arc::new(Gathering::of(32));
    let meeting = std::sync::Arc::clone(&all);
    world.executor =
        Box::new(Scripted(move |command: &str, _: &CancelToken| i32::from(!meeting.meet(command))));
    world.build(world.prepare(&stages(32)));
    assert_eq!(all.come.lock().unwrap().len(), 32);
}

#[test]
fn no_more_steps_than_allowed_run_at_the_same_time() {
    let Some(mut world) = World::with_shell() else { return };
    let running = std::sync::Arc::new(Mutex::new((0, 0)));
    let counts = std::sync::Arc::clone(&running);
    world.executor = Box::new(Scripted(move |_: &str, _: &CancelToken| {
        let mut now = counts.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        drop(now);
        std::thread::yield_now();
        counts.lock().unwrap().0 -= 1;
        0
    }));
    world.build(world.prepare(&stages(12)).parallelism(1));
    assert_eq!(*running.lock().unwrap(), (0, 1));
}

#[test]
fn what_two_stages_share_is_made_once() {
    let Some(mut world) = World::with_shell() else { return };
    let commands = std::sync::Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let counts = std::sync::Arc::clone(&commands);
    world.executor = Box::new(Scripted(move |command: &str, _: &CancelToken| {
        *counts.lock().unwrap().entry(command.to_owned()).or_default() += 1;
        0
    }));
    let file = "FROM base AS a\nRUN same\nRUN only-a\nFROM base AS b\nRUN same\nRUN only-b\n\
                FROM base\nCOPY --from=a /bin/busybox /a\nCOPY --from=b /bin/busybox /b\n";
    for no_cache in [false, true] {
        world.build(world.prepare(file).no_cache(no_cache));
        let counts = std::mem::take(&mut *commands.lock().unwrap());
        let once = ["only-a", "only-b", "same"].map(|command| (command.to_owned(), 1));
        assert_eq!(counts, BTreeMap::from(once), "{no_cache}");
    }
}

/// The next of a row of numbers that look like chance, and are the same for the same seed.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Twenty stages, each of which takes something of some earlier ones.
fn tangle() -> String {
    let mut seed = 20_251_130;
    let mut file = String::new();
    for number in 0..20_u64 {
        let base = if number < 4 { "base".to_owned() } else { format!("s{}", next(&mut seed) % number) };
        write!(file, "FROM {base} AS s{number}\nRUN step-{number}\n").unwrap();
        for _ in 0..next(&mut seed) % 3 {
            if number > 0 {
                let from = next(&mut seed) % number;
                writeln!(file, "COPY --from=s{from} /bin/busybox /from-{from}").unwrap();
            }
        }
        writeln!(file, "RUN last-{number}").unwrap();
    }
    file
}

#[test]
fn chance_decides_neither_the_image_nor_the_error() {
    let Some(mut world) = World::with_shell() else { return };
    let rounds = std::env::var("OCIBUILD_TEST_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(25_u64);
    let file = tangle();
    // Which steps fail: none, or some of them. What they delay is different each time.
    let failures: [&[u64]; 4] = [&[], &[19], &[3, 7, 12], &[11, 14, 15, 16, 18]];
    let mut results: Vec<Option<Result<String, String>>> = vec![None; failures.len()];
    for round in 0..rounds {
        let which = (round % failures.len() as u64) as usize;
        let fails = failures[which];
        let seed = Mutex::new(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let running = std::sync::Arc::new(Mutex::new(0_usize));
        let inside = std::sync::Arc::clone(&running);
        world.executor = Box::new(Scripted(move |command: &str, cancel: &CancelToken| {
            *inside.lock().unwrap() += 1;
            let delay = Duration::from_micros(next(&mut seed.lock().unwrap()) % 3_000);
            cancel.wait_timeout(delay);
            *inside.lock().unwrap() -= 1;
            let number = command.strip_prefix("step-").and_then(|number| number.parse().ok());
            i32::from(number.is_some_and(|number| fails.contains(&number)))
        }));
        let build = world.prepare(&file).no_cache(true).source_date_epoch(0).rewrite_timestamps(true);
        let plan = build.plan(&world.backends()).unwrap();
        let mut failed = 0;
        let result = plan.run(&world.backends(), &CancelToken::new(), |event| {
            failed += usize::from(matches!(event, Event::StepFailed { .. }));
        });
        assert_eq!(*running.lock().unwrap(), 0, "a step goes on after the build");
        let result = match result {
            Ok(built) => Ok(built.descriptor.digest.to_string()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StepFailed(1), "{error}");
                assert!(failed > 0);
                Err(format!("{error} {:?}", error.reports()[0].location.map(|at| at.start_line)))
            }
        };
        let first = results[which].get_or_insert_with(|| result.clone());
        assert_eq!(*first, result, "round {round}");
        world.check_left_nothing();
    }
}
