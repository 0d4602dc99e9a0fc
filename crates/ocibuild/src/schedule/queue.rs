//! Tasks that need each other, carried out by as many threads as there is work for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

use ocibuild_spec::CancelToken;

use crate::error::Error;

/// What became of a task that was taken up.
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// It goes on once this other one, which comes before it, is done.
    Needs(usize),
}

/// The failure that is reported.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) task: usize,
    pub(super) error: Error,
}

/// Carries out tasks, of which each needs none but earlier ones, with at most `limit` threads; of those that can go on, the
/// first goes on first.
///
/// When one fails, those after it are cancelled, each by its token, and those before it go on: of several failures the
/// first in this order is the one that is reported, whichever happened first.
pub(super) fn carry_out(
    tasks: impl IntoIterator<Item = usize>,
    tokens: &[CancelToken],
    limit: usize,
    work: &(dyn Fn(usize) -> Result<Outcome, Error> + Sync),
) -> Result<(), Failed> {
    let state = State { ready: tasks.into_iter().collect(), ..State::default() };
    let queue = Queue { state: Mutex::new(state), changed: Condvar::new(), tokens, limit, work };
    std::thread::scope(|scope| {
        let mut state = queue.state();
        (state.threads, state.idle) = (1, 1);
        queue.start_threads(scope, &mut state);
        drop(state);
        queue.work_off(scope);
    });
    let state = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failure.map_or(Ok(()), |(task, error)| Err(Failed { task, error }))
}

struct Queue<'q> {
    state: Mutex<State>,
    changed: Condvar,
    tokens: &'q [CancelToken],
    limit: usize,
    work: &'q (dyn Fn(usize) -> Result<Outcome, Error> + Sync),
}

#[derive(Default)]
struct State {
    ready: BTreeSet<usize>,
    /// By the task that they wait for.
    waiting: HashMap<usize, Vec<usize>>,
    done: HashSet<usize>,
    running: usize,
    /// Threads, and those of them that have nothing to do.
    threads: usize,
    idle: usize,
    failure: Option<(usize, Error)>,
}

impl Queue<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts threads for what can go on. If none can be started, those that run do the work.
    fn start_threads<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, state: &mut State) {
        while state.ready.len() > state.idle && state.threads < self.limit {
            let started = Builder::new().name("step".to_owned()).spawn_scoped(scope, || self.work_off(scope));
            if started.is_err() {
                break;
            }
            state.threads += 1;
            // It takes one of them.
            state.idle += 1;
        }
    }

    fn work_off<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        while let Some(task) = self.take() {
            let panicking = EndOnPanic { queue: self };
            let outcome = (self.work)(task);
            drop(panicking);
            let mut state = self.state();
            state.running -= 1;
            state.idle += 1;
            match outcome {
                Ok(Outcome::Done) => {
                    state.done.insert(task);
                    let next = state.waiting.remove(&task).unwrap_or_default();
                    state.ready.extend(next);
                }
                Ok(Outcome::Needs(other)) if state.done.contains(&other) => {
                    state.ready.insert(task);
                }
                Ok(Outcome::Needs(other)) => state.waiting.entry(other).or_default().push(task),
                Err(error) => self.fail(&mut state, task, error),
            }
            if let Some((first, _)) = state.failure {
                state.ready.retain(|task| *task < first);
            }
            self.start_threads(scope, &mut state);
            self.changed.notify_all();
        }
    }

    /// The first task that can go on, once there is one; `None` when there will be none any more.
    fn take(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if let Some(task) = state.ready.pop_first() {
                state.idle -= 1;
                state.running += 1;
                return Some(task);
            }
            if state.running == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn fail(&self, state: &mut State, task: usize, error: Error) {
        if state.failure.as_ref().is_none_or(|(first, _)| task < *first) {
            state.failure = Some((task, error));
            self.tokens.iter().skip(task + 1).for_each(CancelToken::cancel);
        }
    }
}

/// What a panic of a task leaves to do: it goes to whoever called, and the other tasks need not finish for that.
struct EndOnPanic<'r, 'q> {
    queue: &'r Queue<'q>,
}

impl Drop for EndOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.queue.state();
            state.running -= 1;
            state.ready.clear();
            self.queue.tokens.iter().for_each(CancelToken::cancel);
            self.queue.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::ErrorKind;

    fn tokens(count: usize) -> Vec<CancelToken> {
        vec![(); count].into_iter().map(|()| CancelToken::new()).collect()
    }

    #[test]
    fn what_can_go_on_goes_on_at_once() {
        // None of the four ends before all have begun.
        let together = Barrier::new(4);
        let work = |_| {
            together.wait();
            Ok(Outcome::Done)
        };
        carry_out(0..4, &tokens(4), 64, &work).unwrap();
    }

    #[test]
    fn no_more_threads_than_allowed() {
        for limit in [1, 3] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let work = |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(Outcome::Done)
            };
            carry_out(0..200, &tokens(200), limit, &work).unwrap();
            assert!(most.load(Ordering::SeqCst) <= limit);
        }
    }

    #[test]
    fn each_task_is_done_after_those_it_needs() {
        const COUNT: usize = 2_000;
        for needs in [
            |task: usize| task.checked_sub(1),
            |task: usize| task.checked_sub(7),
            |task| (task > 0).then_some(task / 2),
        ] {
            let order = Mutex::new(Vec::new());
            let work = |task| {
                let mut order = order.lock().unwrap();
                if let Some(other) = needs(task)
                    && !order.contains(&other)
                {
                    return Ok(Outcome::Needs(other));
                }
                order.push(task);
                Ok(Outcome::Done)
            };
            carry_out(0..COUNT, &tokens(COUNT), 8, &work).unwrap();
            assert_eq!(order.into_inner().unwrap().len(), COUNT);
        }
    }

    #[test]
    fn the_first_failure_in_order_is_reported_and_later_tasks_are_cancelled() {
        let tokens = tokens(6);
        let (failed, begun, cancelled) = (Barrier::new(2), Barrier::new(2), AtomicUsize::new(0));
        let fail = |task: usize| Err(Error::new(ErrorKind::StepFailed(1), task.to_string()));
        let work = |task: usize| match task {
            0 => Ok(Outcome::Done),
            // Fails, but only when 3 has.
            1 => {
                failed.wait();
                fail(task)
            }
            3 => {
                begun.wait();
                fail(task)
            }
            // Does not go on after 3, on which it depends.
            5 => Ok(Outcome::Needs(3)),
            // Before the failure: goes on, and lets 1 fail only after it.
            2 => {
                while !tokens[4].is_cancelled() {
                    std::thread::yield_now();
                }
                failed.wait();
                Ok(Outcome::Done)
            }
            _ => {
                begun.wait();
                while !tokens[4].is_cancelled() {
                    std::thread::yield_now();
                }
                cancelled.fetch_add(1, Ordering::SeqCst);
                Err(Error::cancelled())
            }
        };
        let Failed { task, error } = carry_out(0..6, &tokens, 64, &work).unwrap_err();
        assert_eq!((task, error.to_string().as_str(), cancelled.load(Ordering::SeqCst)), (1, "1", 1));
        assert!(!tokens[0].is_cancelled() && !tokens[1].is_cancelled() && tokens[2].is_cancelled());
    }

    #[test]
    fn a_panic_ends_everything() {
        let tokens = tokens(3);
        let work = |task: usize| {
            assert_ne!(task, 2, "a bug");
            while !tokens[task].is_cancelled() {
                std::thread::yield_now();
            }
            Err(Error::cancelled())
        };
        let run = std::panic::AssertUnwindSafe(|| carry_out(0..3, &tokens, 3, &work));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
