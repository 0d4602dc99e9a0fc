use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ocibuild::Event;

use super::Progress;
use super::lines::Lines;
use crate::terminal::{Paint, Screen, size, to_stderr};
use crate::text::{calm, clip, printable};

/// Lines of a running step's output that are on the screen.
const OUTPUT_LINES: usize = 6;

/// How often the clock on the screen moves.
const TICK: Duration = Duration::from_millis(100);

/// A live display: finished steps stay, running ones are redrawn below them with the end of their output.
pub(super) struct Tty {
    state: Arc<Mutex<State>>,
    stop: Option<Sender<()>>,
    ticker: Option<std::thread::JoinHandle<()>>,
}

struct State {
    paint: Paint,
    started: Instant,
    steps: usize,
    finished: usize,
    running: BTreeMap<usize, Running>,
    /// Lines on the screen that the next drawing replaces.
    drawn: usize,
    /// The screen belongs to somebody else, or nothing more will happen: what comes now stays, and nothing is drawn.
    is_over: bool,
    /// When it was drawn; output that comes faster waits for the clock.
    last: Instant,
}

struct Running {
    title: String,
    started: Instant,
    lines: Lines,
    output: VecDeque<String>,
}

/// The place of an output among the steps that run.
const EXPORT: usize = usize::MAX;

impl Tty {
    pub(super) fn new(screen: Screen) -> Self {
        let now = Instant::now();
        let state = State {
            paint: Paint(screen.colors),
            started: now,
            steps: 0,
            finished: 0,
            running: BTreeMap::new(),
            drawn: 0,
            is_over: false,
            last: now,
        };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = channel::<()>();
        let shared = Arc::clone(&state);
        let tick = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                lock(&shared).draw("");
            }
        };
        // Without a clock the display still works: it moves when something happens.
        let ticker = std::thread::Builder::new().name("display".to_owned()).spawn(tick).ok();
        Self { state, stop: Some(stop), ticker }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Takes an event; gives the lines of it that stay, and whether to draw at once.
    fn take(&mut self, event: &Event) -> (String, bool) {
        match event {
            Event::Started { steps } => self.steps = *steps,
            Event::BaseResolved { name, descriptor } => {
                let name = printable(name);
                return (self.kept(&format!("FROM {name}"), &short(&descriptor.digest.to_string())), true);
            }
            Event::Sandbox { sandbox } => {
                return (format!("sandbox: {}\n", printable(&sandbox.to_string())), true);
            }
            Event::StepStarted { step, title } => {
                let running = Running {
                    title: printable(title),
                    started: Instant::now(),
                    lines: Lines::default(),
                    output: VecDeque::new(),
                };
                self.running.insert(*step, running);
            }
            Event::StepCached { step, title, .. } => return (self.ended(*step, title, "CACHED"), true),
            Event::StepDone { step, title, duration, .. } => {
                return (self.ended(*step, title, &format!("{:.1}s", duration.as_secs_f64())), true);
            }
            Event::StepFailed { step, title } => return (self.ended(*step, title, "ERROR"), true),
            Event::Output { step, stderr, bytes } => {
                if let Some(Running { lines, output, .. }) = self.running.get_mut(step) {
                    lines.push(*stderr, bytes, &mut |line| {
                        output.push_back(calm(line));
                        if output.len() > OUTPUT_LINES {
                            output.pop_front();
                        }
                    });
                }
                return (String::new(), self.last.elapsed() > TICK / 2);
            }
            Event::Warning { message } => {
                return (format!("{} {}\n", self.paint.warning("warning:"), printable(message)), true);
            }
            Event::Findings { findings } => return (crate::verbs::summary(findings), true),
            Event::ImageBuilt { descriptor } => {
                return (self.kept("image", &descriptor.digest.to_string()), true);
            }
            Event::Exporting { what } => {
                let running = Running {
                    title: format!("exporting to {}", printable(what)),
                    started: Instant::now(),
                    lines: Lines::default(),
                    output: VecDeque::new(),
                };
                self.running.insert(EXPORT, running);
            }
            Event::BlobPushed { blob, how } => {
                if let Some(Running { output, .. }) = self.running.get_mut(&EXPORT) {
                    output.push_back(calm(&format!("{} {how}", short(&blob.digest.to_string()))));
                    if output.len() > OUTPUT_LINES {
                        output.pop_front();
                    }
                }
            }
            Event::Exported { what } => {
                let started = self.running.remove(&EXPORT).map(|running| running.started.elapsed());
                let how = format!("{:.1}s", started.unwrap_or_default().as_secs_f64());
                return (self.kept(&format!("exporting to {}", printable(what)), &how), true);
            }
            _ => {}
        }
        (String::new(), true)
    }

    fn ended(&mut self, step: usize, title: &str, how: &str) -> String {
        self.running.remove(&step);
        self.finished += 1;
        self.kept(&printable(title), how)
    }

    /// A line that stays; a long title is cut so that the end is seen.
    fn kept(&self, title: &str, end: &str) -> String {
        let columns = usize::from(size().map_or(80, |(columns, _)| columns));
        let room = columns.saturating_sub(end.chars().count() + 6).max(10);
        let end = if end == "ERROR" { self.paint.error(end) } else { self.paint.strong(end) };
        format!("{} {} {end}\n", self.paint.frame("=>"), clip(title, room))
    }

    /// Replaces what is drawn, with `kept` above it.
    fn draw(&mut self, kept: &str) {
        let live = if self.is_over { Vec::new() } else { self.live() };
        let mut text = self.erased();
        text.push_str(kept);
        for line in &live {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = live.len();
        self.last = Instant::now();
        to_stderr(&text);
    }

    fn erased(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}A\r\u{1b}[J"),
        }
    }

    /// What is drawn now: no line longer than the screen is wide, and not more of them than it has.
    fn live(&self) -> Vec<String> {
        let (columns, rows) = size().unwrap_or((80, 24));
        let width = usize::from(columns).saturating_sub(1);
        let seconds = self.started.elapsed().as_secs_f64();
        let head = format!("[+] {seconds:.1}s, {} of {} steps", self.finished, self.steps);
        let mut live = vec![clip(&head, width).to_owned()];
        for running in self.running.values() {
            let time = format!(" {:.1}s", running.started.elapsed().as_secs_f64());
            let room = width.saturating_sub(time.len() + 3);
            live.push(format!("{} {}{time}", self.paint.frame("=>"), clip(&running.title, room)));
            for line in &running.output {
                live.push(self.paint.faint(&format!("   {}", clip(line, width.saturating_sub(3)))));
            }
        }
        live.truncate(usize::from(rows).saturating_sub(1).max(1));
        live
    }
}

/// As much of a digest as people look at.
fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

impl Progress for Tty {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::StepEntered { .. }) {
            self.finish();
            return;
        }
        let mut state = lock(&self.state);
        let (kept, now) = state.take(event);
        if now {
            state.draw(&kept);
        }
    }

    fn finish(&mut self) {
        self.stop = None;
        if let Some(ticker) = self.ticker.take() {
            // A display that panicked has nothing more to say.
            let _ = ticker.join();
        }
        let mut state = lock(&self.state);
        state.is_over = true;
        to_stderr(&state.erased());
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_part_fits_the_screen() {
        let tty = Tty::new(Screen { colors: false, moves: true });
        let mut state = lock(&tty.state);
        state.take(&Event::Started { steps: 3 });
        for step in 0..40 {
            state.take(&Event::StepStarted { step, title: "x".repeat(500) });
            state.take(&Event::Output { step, stderr: false, bytes: b"\x1b[2Jline\n".to_vec() });
        }
        let (columns, rows) = size().unwrap_or((80, 24));
        let live = state.live();
        assert!(live.len() < usize::from(rows));
        assert!(
            live.iter().all(|line| line.chars().count() < usize::from(columns) && !line.contains('\u{1b}'))
        );
    }
}
