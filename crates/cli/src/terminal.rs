//! The two streams this program writes to.

use std::io::{self, IsTerminal, Write};

use ocibuild::Error;
use ocibuild::executor::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::host;

/// Writes to standard error. Nobody is left to hear of an error here.
pub(crate) fn to_stderr(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Writes to standard output. A reader that has gone away has what it wanted.
pub(crate) fn to_stdout(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(host("cannot write standard output", error))
        }
        _ => Ok(()),
    }
}

/// Writes what others wrote to standard output: a program gets it as it is, a terminal without what moves its cursor.
pub(crate) fn to_reader(text: &str) -> Result<(), Error> {
    if !io::stdout().is_terminal() {
        return to_stdout(text.as_bytes());
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c => crate::text::push_printable(&mut shown, c),
        }
    }
    to_stdout(shown.as_bytes())
}

/// What is known of standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// It takes colours.
    pub(crate) colors: bool,
    /// It takes cursor movements, and has room.
    pub(crate) moves: bool,
}

/// Below this a live display is of no use.
const MIN_COLUMNS: u16 = 20;

impl Screen {
    pub(crate) fn of_stderr() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal = io::stderr().is_terminal();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let room = size().is_some_and(|(columns, rows)| columns >= MIN_COLUMNS && rows >= 3);
        Self { colors: is_terminal && !dumb && !set("NO_COLOR"), moves: is_terminal && !dumb && room }
    }
}

/// Columns and rows of the terminal on standard error.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Size of the terminal that a command's output is shown on, or its input comes from; zeros without one.
pub(crate) fn window() -> WindowSize {
    let size =
        rustix::termios::tcgetwinsize(io::stdout()).or_else(|_| rustix::termios::tcgetwinsize(io::stdin()));
    size.map(|size| WindowSize { rows: size.ws_row, columns: size.ws_col }).unwrap_or_default()
}

/// The terminal on standard input passes every key on, until this is dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    pub(crate) fn enter() -> Result<Self, Error> {
        let cannot = |error: rustix::io::Errno| host("cannot set up the terminal", error.into());
        let before = tcgetattr(io::stdin()).map_err(cannot)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(cannot)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Puts colours around words, if the screen has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.wrap("1;33", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn frame(self, text: &str) -> String {
        self.wrap("34", text)
    }
}

/// While it lives, the terminal on standard input does not show what is typed.
pub(crate) struct HiddenInput {
    before: rustix::termios::Termios,
}

impl HiddenInput {
    pub(crate) fn start() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing any more.
        let _ =
            rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &self.before);
    }
}
