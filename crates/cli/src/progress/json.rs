//! One object for each event and line; `docs/formats/events.md` is the contract.

use std::collections::BTreeMap;

use ocibuild::failure::LeftOut;
use ocibuild::registry::BlobPush;
use ocibuild::{ErrorKind, Event};
use serde_json::{Value, json};

use super::Progress;
use crate::diagnostics::{causes, reports_json};
use crate::failure::Failure;
use crate::terminal::to_stderr;

#[derive(Default)]
pub(super) struct Json {
    /// The beginning of a character whose other bytes have not come yet, by step and stream.
    partial: BTreeMap<(usize, bool), Vec<u8>>,
}

impl Json {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn object(&mut self, event: &Event) -> Option<Value> {
        Some(match event {
            Event::Started { steps } => json!({ "v": 1, "event": "started", "steps": steps }),
            Event::BaseResolved { name, descriptor } => {
                json!({ "v": 1, "event": "base-resolved", "name": name, "digest": descriptor.digest.to_string() })
            }
            Event::Sandbox { sandbox } => json!({
                "v": 1, "event": "sandbox", "kind": sandbox.rung.name(),
                "users": sandbox.users.iter().map(|range| [range.start(), range.end()]).collect::<Vec<_>>(),
                "runtime": sandbox.runtime.as_ref().map(|path| path.to_string_lossy()),
                "snapshots": if sandbox.overlay { "overlay" } else { "copy" },
                "text": sandbox.to_string(),
            }),
            Event::StepStarted { step, title } => {
                json!({ "v": 1, "event": "step-started", "step": step, "title": title })
            }
            Event::StepCached { step, title, diff_id } => json!({
                "v": 1, "event": "step-cached", "step": step, "title": title, "diff_id": diff_id.0.to_string(),
            }),
            Event::Output { step, stderr, bytes } => {
                let text = self.decode((*step, *stderr), bytes);
                if text.is_empty() {
                    return None;
                }
                let stream = if *stderr { "stderr" } else { "stdout" };
                json!({ "v": 1, "event": "output", "step": step, "stream": stream, "text": text })
            }
            Event::StepDone { step, title, diff_id, size, duration } => json!({
                "v": 1, "event": "step-done", "step": step, "title": title, "diff_id": diff_id.0.to_string(),
                "size": size, "seconds": duration.as_secs_f64(),
            }),
            Event::StepFailed { step, title } => {
                json!({ "v": 1, "event": "step-failed", "step": step, "title": title })
            }
            Event::StepKept { step, title, kept } => json!({
                "v": 1, "event": "step-kept", "step": step, "title": title,
                "bundle": kept.bundle.to_string_lossy(), "shell": kept.shell,
                "left_out": kept.left_out.iter().map(left_out).collect::<Vec<_>>(),
            }),
            Event::Findings { findings } => {
                let list: Vec<Value> = findings.iter().map(crate::verbs::finding_object).collect();
                json!({ "v": 1, "event": "findings", "findings": list })
            }
            Event::Warning { message } => json!({ "v": 1, "event": "warning", "message": message }),
            Event::ImageBuilt { descriptor } => json!({
                "v": 1, "event": "image-built", "digest": descriptor.digest.to_string(),
                "media_type": descriptor.media_type.to_string(), "size": descriptor.size,
            }),
            Event::Exporting { what } => json!({ "v": 1, "event": "exporting", "what": what }),
            Event::BlobPushed { blob, how } => {
                let (how, from) = match how {
                    BlobPush::Exists => ("exists", None),
                    BlobPush::Mounted(from) => ("mounted", Some(from)),
                    _ => ("sent", None),
                };
                let digest = blob.digest.to_string();
                json!({ "v": 1, "event": "blob-pushed", "digest": digest, "size": blob.size, "how": how, "from": from })
            }
            Event::Exported { what } => json!({ "v": 1, "event": "exported", "what": what }),
            _ => return None,
        })
    }

    /// Text of bytes that may be cut within a character.
    fn decode(&mut self, key: (usize, bool), bytes: &[u8]) -> String {
        let mut all = self.partial.remove(&key).unwrap_or_default();
        all.extend_from_slice(bytes);
        let unfinished = match std::str::from_utf8(&all) {
            Ok(_) => 0,
            // `error_len` is `None` for an end that more bytes may complete.
            Err(error) if error.error_len().is_none() => all.len() - error.valid_up_to(),
            Err(_) => all.utf8_chunks().last().map_or(0, |last| may_continue(last.invalid())),
        };
        let rest = all.split_off(all.len() - unfinished);
        if !rest.is_empty() {
            self.partial.insert(key, rest);
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// Something that is not kept with a step.
fn left_out(left: &LeftOut) -> Value {
    match left {
        LeftOut::Secret { target } => json!({ "kind": "secret", "target": target.to_string_lossy() }),
        LeftOut::SecretVariable { name } => json!({ "kind": "secret-variable", "name": name }),
        LeftOut::Agent { target } => json!({ "kind": "agent", "target": target.to_string_lossy() }),
        LeftOut::Proxy { name } => json!({ "kind": "proxy", "name": name }),
        other => json!({ "kind": "other", "text": other.to_string() }),
    }
}

/// Bytes at the end of a piece that begin a character.
fn may_continue(invalid: &[u8]) -> usize {
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => invalid.len() - error.valid_up_to(),
        _ => 0,
    }
}

impl Progress for Json {
    fn event(&mut self, event: &Event) {
        if let Some(object) = self.object(event) {
            to_stderr(&line(&object));
        }
    }

    fn is_json(&self) -> bool {
        true
    }
}

/// The line that a build without success ends with.
pub(crate) fn error_object(failure: &Failure, exit_code: u8) -> String {
    let error = &failure.error;
    let kind = error.kind().name();
    let step_exit_code = match error.kind() {
        ErrorKind::StepFailed(code) => Some(code),
        _ => None,
    };
    let reports = reports_json(failure);
    let object = json!({
        "v": 1, "event": "error", "kind": kind, "exit_code": exit_code, "step_exit_code": step_exit_code,
        "reports": reports, "causes": causes(failure), "notes": failure.notes,
    });
    line(&object)
}

/// An object in a line of its own. Its control characters are escapes, also those that JSON leaves as they are and that a
/// terminal obeys.
fn line(object: &Value) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    for c in object.to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        let mut json = Json::new();
        let mut decode = |bytes: &[u8]| json.decode((0, false), bytes);
        assert_eq!(decode(b"a\xe2\x82"), "a");
        assert_eq!(decode(b"\xac\n"), "\u{20ac}\n");
        assert_eq!(decode(b"\xff\xe2"), "\u{fffd}");
        assert_eq!(decode(b"x"), "\u{fffd}x");
    }

    #[test]
    fn objects_are_one_line() {
        let object = Json::new().object(&Event::StepStarted { step: 1, title: "a\nb".into() }).unwrap();
        assert_eq!(line(&object), "{\"event\":\"step-started\",\"step\":1,\"title\":\"a\\nb\",\"v\":1}\n");
    }

    #[test]
    fn control_characters_are_escapes() {
        let text = "a\u{1b}[0m\u{9b}2J\u{7f}\u{e9}";
        let object = Json::new().object(&Event::Warning { message: text.to_owned() }).unwrap();
        let line = line(&object);
        assert!(line.contains(r#""a\u001b[0m\u009b2J\u007fé""#), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), object);
    }
}
