//! What is shown while a build runs, on standard error.

mod ci;
mod json;
mod lines;
mod plain;
mod tty;

use ocibuild::Event;

use crate::args::ProgressArg;
use crate::terminal::Screen;

/// Something that is told what happens.
pub(crate) trait Progress {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Nothing more will; whatever is on the screen for a while only goes.
    fn finish(&mut self) {}

    /// What steps print is on the screen in full, so that an error need not repeat it.
    fn shows_output(&self) -> bool {
        false
    }

    /// What is said besides has to be objects, too.
    fn is_json(&self) -> bool {
        false
    }
}

/// Shows nothing.
struct Quiet;

impl Progress for Quiet {
    fn event(&mut self, _event: &Event) {}
}

/// The display that was asked for; `auto` is live where the screen can do that.
pub(crate) fn progress(kind: ProgressArg, screen: Screen) -> Box<dyn Progress> {
    match kind {
        ProgressArg::Quiet => Box::new(Quiet),
        ProgressArg::Json => Box::new(json::Json::new()),
        ProgressArg::Ci => Box::new(ci::Ci::new()),
        ProgressArg::Auto | ProgressArg::Tty if screen.moves => Box::new(tty::Tty::new(screen)),
        ProgressArg::Auto | ProgressArg::Tty | ProgressArg::Plain => Box::new(plain::Plain::new()),
    }
}

/// A warning that the program itself has.
pub(crate) fn warn(message: &str, json: bool, screen: Screen) {
    use crate::terminal::{Paint, to_stderr};

    if json {
        json::Json::new().event(&Event::Warning { message: message.to_owned() });
    } else {
        let label = Paint(screen.colors).warning("warning:");
        to_stderr(&format!("{label} {}\n", crate::text::printable(message)));
    }
}

pub(crate) use json::error_object;
