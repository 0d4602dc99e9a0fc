use std::collections::VecDeque;

use ocibuild::Event;

use super::Progress;
use super::plain::Script;
use crate::terminal::to_stderr;

/// As `plain`, but each step in one piece: the oldest step is shown as it goes, and what happens beside it waits until
/// it is done.
pub(super) struct Ci {
    script: Script,
    current: Option<usize>,
    waiting: VecDeque<Block>,
}

/// What a waiting step has printed.
struct Block {
    step: usize,
    text: String,
    is_done: bool,
}

/// A waiting step keeps this much; the end of a flood says nothing that its beginning does not.
const MAX_BLOCK: usize = 4 << 20;

impl Ci {
    pub(super) fn new() -> Self {
        Self { script: Script::new(), current: None, waiting: VecDeque::new() }
    }

    /// What can be shown now.
    fn text(&mut self, event: &Event) -> String {
        let text = self.script.text(event);
        let Some((step, is_done)) = step_of(event) else { return text };
        let current = *self.current.get_or_insert(step);
        if step == current {
            return if is_done { text + &self.next_steps() } else { text };
        }
        if !self.waiting.iter().any(|block| block.step == step) {
            self.waiting.push_back(Block { step, text: String::new(), is_done: false });
        }
        let Some(block) = self.waiting.iter_mut().find(|block| block.step == step) else { return text };
        if block.text.len() < MAX_BLOCK || is_done {
            block.text.push_str(&text);
        }
        block.is_done |= is_done;
        String::new()
    }

    /// After the current step: all that have ended meanwhile, and the first that has not.
    fn next_steps(&mut self) -> String {
        self.current = None;
        let mut out = String::new();
        while let Some(block) = self.waiting.pop_front() {
            out.push_str(&block.text);
            if !block.is_done {
                self.current = Some(block.step);
                break;
            }
        }
        out
    }
}

/// The step an event belongs to, and whether it is the step's last.
fn step_of(event: &Event) -> Option<(usize, bool)> {
    match event {
        Event::StepStarted { step, .. } | Event::Output { step, .. } => Some((*step, false)),
        Event::StepCached { step, .. } | Event::StepDone { step, .. } | Event::StepFailed { step, .. } => {
            Some((*step, true))
        }
        _ => None,
    }
}

impl Progress for Ci {
    fn event(&mut self, event: &Event) {
        to_stderr(&self.text(event));
    }

    fn finish(&mut self) {
        while self.current.is_some() || !self.waiting.is_empty() {
            to_stderr(&self.next_steps());
        }
    }

    fn shows_output(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_do_not_mix() {
        let mut ci = Ci::new();
        let events = [
            Event::StepStarted { step: 0, title: "a".into() },
            Event::StepStarted { step: 1, title: "b".into() },
            Event::Output { step: 1, stderr: false, bytes: b"from b\n".to_vec() },
            Event::Output { step: 0, stderr: false, bytes: b"from a\n".to_vec() },
            Event::StepFailed { step: 0, title: "a".into() },
            Event::StepFailed { step: 1, title: "b".into() },
        ];
        let text: String = events.iter().map(|event| ci.text(event)).collect();
        let order: Vec<usize> = ["#1 a", "from a", "#1 ERROR", "#2 b", "from b", "#2 ERROR"]
            .iter()
            .map(|needle| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}")))
            .collect();
        assert!(order.is_sorted(), "{text}");
    }
}
