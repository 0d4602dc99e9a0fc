//! Collects the pieces of a text into words.

use super::fault::ExpandFault;

/// What has been read so far: the text as one word, and the same split at blanks that are neither quoted nor escaped.
#[derive(Debug)]
pub(super) struct Words {
    max_bytes: usize,
    joined: String,
    done: Vec<String>,
    current: String,
}

impl Words {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, joined: String::new(), done: Vec::new(), current: String::new() }
    }

    /// A character that splits if it is a blank.
    pub(super) fn push(&mut self, c: char) -> Result<(), ExpandFault> {
        self.joined.push(c);
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
        self.check()
    }

    /// A value, whose blanks split.
    pub(super) fn push_value(&mut self, value: &str) -> Result<(), ExpandFault> {
        value.chars().try_for_each(|c| self.push(c))
    }

    /// Text that is part of the current word whatever it holds.
    pub(super) fn push_whole(&mut self, text: &str) -> Result<(), ExpandFault> {
        self.joined.push_str(text);
        self.current.push_str(text);
        self.check()
    }

    /// Drops what there is of the current word, but not from the joined text.
    pub(super) fn forget_current(&mut self) {
        self.current.clear();
    }

    pub(super) fn push_whole_char(&mut self, c: char) -> Result<(), ExpandFault> {
        self.push_whole(c.encode_utf8(&mut [0; 4]))
    }

    pub(super) fn finish(mut self) -> (String, Vec<String>) {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        (self.joined, self.done)
    }

    fn check(&self) -> Result<(), ExpandFault> {
        check_size(self.joined.len(), self.max_bytes)
    }
}

/// Fails if a text of `bytes` is more than an expansion may produce.
pub(super) fn check_size(bytes: usize, max_bytes: usize) -> Result<(), ExpandFault> {
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(ExpandFault::TooLarge { limit: max_bytes })
}
