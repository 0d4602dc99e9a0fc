use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use ocibuild::Event;

use super::Progress;
use super::lines::Lines;
use crate::terminal::to_stderr;
use crate::text::{calm, printable};
use crate::verbs::summary;

/// Lines that stay, as BuildKit writes them (12.05).
pub(super) struct Plain {
    script: Script,
}

impl Plain {
    pub(super) fn new() -> Self {
        Self { script: Script::new() }
    }
}

impl Progress for Plain {
    fn event(&mut self, event: &Event) {
        to_stderr(&self.script.text(event));
    }

    fn shows_output(&self) -> bool {
        true
    }
}

/// Events as text.
pub(super) struct Script {
    next: usize,
    steps: BTreeMap<usize, Step>,
    /// The output that is written, and since when.
    export: Option<(usize, Instant)>,
}

struct Step {
    number: usize,
    started: Instant,
    lines: Lines,
}

impl Script {
    pub(super) fn new() -> Self {
        Self { next: 0, steps: BTreeMap::new(), export: None }
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// The lines of an event; nothing while a line of output is not complete.
    pub(super) fn text(&mut self, event: &Event) -> String {
        let mut out = String::new();
        match event {
            Event::BaseResolved { name, descriptor } => {
                let (number, name) = (self.number(), printable(name));
                out = format!("#{number} FROM {name}\n#{number} {}\n#{number} DONE\n\n", descriptor.digest);
            }
            Event::StepStarted { step, title } => {
                self.begin(*step, title, &mut out);
            }
            Event::StepCached { step, title, .. } => {
                let number = self.begin(*step, title, &mut out);
                self.steps.remove(step);
                let _ = writeln!(out, "#{number} CACHED\n");
            }
            Event::Output { step, stderr, bytes } => self.output(*step, *stderr, bytes, &mut out),
            Event::StepDone { step, title, duration, .. } => {
                let number = self.end(*step, title, &mut out);
                let _ = writeln!(out, "#{number} DONE {:.1}s\n", duration.as_secs_f64());
            }
            Event::StepFailed { step, title } => {
                let number = self.end(*step, title, &mut out);
                let _ = writeln!(out, "#{number} ERROR: the step failed\n");
            }
            Event::Findings { findings } => out = summary(findings),
            Event::Sandbox { sandbox } => out = format!("sandbox: {}\n", printable(&sandbox.to_string())),
            Event::Warning { message } => out = format!("warning: {}\n", printable(message)),
            Event::ImageBuilt { descriptor } => {
                let number = self.number();
                out = format!("#{number} image\n#{number} {}\n#{number} DONE\n\n", descriptor.digest);
            }
            Event::Exporting { what } => {
                let number = self.number();
                self.export = Some((number, Instant::now()));
                out = format!("#{number} exporting to {}\n", printable(what));
            }
            Event::BlobPushed { blob, how } => {
                if let Some((number, _)) = self.export {
                    out = format!("#{number} {} {}\n", blob.digest, printable(&how.to_string()));
                }
            }
            Event::Exported { .. } => {
                if let Some((number, started)) = self.export.take() {
                    out = format!("#{number} DONE {:.1}s\n\n", started.elapsed().as_secs_f64());
                }
            }
            _ => {}
        }
        out
    }

    /// Opens a step, unless it is open, with its title.
    fn begin(&mut self, step: usize, title: &str, out: &mut String) -> usize {
        if let Some(known) = self.steps.get(&step) {
            return known.number;
        }
        let number = self.number();
        self.steps.insert(step, Step { number, started: Instant::now(), lines: Lines::default() });
        let _ = writeln!(out, "#{number} {}", printable(title));
        number
    }

    fn end(&mut self, step: usize, title: &str, out: &mut String) -> usize {
        let number = self.begin(step, title, out);
        if let Some(mut known) = self.steps.remove(&step) {
            known.lines.finish(&mut |line| output_line(out, number, known.started, line));
        }
        number
    }

    fn output(&mut self, step: usize, stderr: bool, bytes: &[u8], out: &mut String) {
        let Some(Step { number, started, lines }) = self.steps.get_mut(&step) else { return };
        lines.push(stderr, bytes, &mut |line| output_line(out, *number, *started, line));
    }
}

/// Without control sequences, wherever it goes: behind a pipe there is often a terminal after all, and a file is looked at
/// on one. The bytes as they were are in the events of `--progress json`.
fn output_line(out: &mut String, number: usize, started: Instant, line: &str) {
    let time = started.elapsed().as_secs_f64();
    let _ = writeln!(out, "#{number} {time:.3} {}", calm(line));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ocibuild::spec::{DiffId, Digest};

    use super::*;

    #[test]
    fn steps_are_numbered_as_they_come() {
        let mut script = Script::new();
        let diff_id = DiffId(Digest::of(b""));
        let mut text = script.text(&Event::StepStarted { step: 4, title: "[1/2] RUN a\nb".into() });
        text += &script.text(&Event::StepCached {
            step: 4,
            title: "[1/2] RUN a\nb".into(),
            diff_id: diff_id.clone(),
        });
        text += &script.text(&Event::StepStarted { step: 5, title: "[2/2] RUN b".into() });
        text += &script.text(&Event::Output { step: 5, stderr: true, bytes: b"out\npart".to_vec() });
        let duration = Duration::from_millis(1250);
        text += &script.text(&Event::StepDone {
            step: 5,
            title: String::new(),
            diff_id: diff_id.clone(),
            size: 0,
            duration,
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..4], ["#1 [1/2] RUN a\\nb", "#1 CACHED", "", "#2 [2/2] RUN b"]);
        assert!(lines[4].starts_with("#2 0.0") && lines[4].ends_with(" out"), "{text}");
        assert!(lines[5].ends_with(" part"), "{text}");
        assert_eq!(lines[6], "#2 DONE 1.2s");
    }

    #[test]
    fn control_sequences_of_steps_go_nowhere() {
        let mut script = Script::new();
        script.text(&Event::StepStarted { step: 0, title: "RUN x".into() });
        let bytes = b"\x1b]0;owned\x07\x1b[31mred\x1b[0m\x1b[2J\x08\x9b31m \xc2\x9b\tend\r\n\x1b[1mlast";
        let mut text = script.text(&Event::Output { step: 0, stderr: true, bytes: bytes.to_vec() });
        text += &script.text(&Event::StepFailed { step: 0, title: "RUN x".into() });
        assert!(text.lines().all(|line| !line.chars().any(|c| c.is_control() && c != '\t')), "{text:?}");
        assert!(text.contains(" red\\x08\u{fffd}31m \\u{9b}\tend\n"), "{text:?}");
        assert!(text.contains(" last\n"), "{text:?}");
    }
}
