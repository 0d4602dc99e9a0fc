//! Lines of text out of pieces of bytes.

/// Longest line; a longer one is shown in parts.
const MAX_LINE: usize = 16 << 10;

/// The output of one step, line by line, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    /// Takes bytes, gives whole lines.
    pub(super) fn push(&mut self, is_stderr: bool, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let pending = if is_stderr { &mut self.stderr } else { &mut self.stdout };
            for part in piece.chunks(MAX_LINE) {
                pending.extend_from_slice(part);
                let is_complete = pending.ends_with(b"\n");
                if is_complete || pending.len() >= MAX_LINE {
                    line(&shown(pending));
                    pending.clear();
                }
            }
        }
    }

    /// The last lines, which had no end.
    pub(super) fn finish(&mut self, line: &mut dyn FnMut(&str)) {
        for pending in [&mut self.stdout, &mut self.stderr] {
            if !pending.is_empty() {
                line(&shown(pending));
            }
            pending.clear();
        }
    }
}

/// A line as it would look in the end: what was written over by a carriage return is gone.
fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let end = bytes.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    let begin = bytes.iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
    String::from_utf8_lossy(&bytes[begin..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(false, piece, &mut |line| out.push(line.to_owned()));
        }
        lines.finish(&mut |line| out.push(line.to_owned()));
        out
    }

    #[test]
    fn pieces_become_lines() {
        assert_eq!(lines(&[b"a", b"b\nc\n", b"", b"d"]), ["ab", "c", "d"]);
        assert_eq!(lines(&[b"10%\r20%\r\n", b"\n", b"x\r\n"]), ["20%", "", "x"]);
        assert_eq!(
            lines(&["é".as_bytes().split_at(1).0, "é".as_bytes().split_at(1).1, b"\xff"]),
            ["é\u{fffd}"]
        );
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let (mut lines, mut bytes) = (Lines::default(), 0);
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            lines.push(true, &piece, &mut |line| bytes += line.len());
            assert!(lines.stderr.capacity() <= 4 * MAX_LINE);
        }
        lines.finish(&mut |line| bytes += line.len());
        assert_eq!(bytes, 64 << 20);
    }
}
