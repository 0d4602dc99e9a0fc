use std::time::Duration;

use super::Answer;

/// What a [`TestRegistry`](crate::TestRegistry) does wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with this status, headers and body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Sends this many bytes of the body and closes the connection.
    Truncate(usize),
    /// Sends this many bytes of the body and then nothing, with the connection open.
    Stall(usize),
    /// Changes the first byte of the body.
    WrongBytes,
    /// Answers 200 with everything to a request for a range.
    IgnoreRange,
    /// Answers 206 to a request for a range, with other bytes than those asked for.
    WrongRange,
    /// Redirects there.
    Redirect(String),
    /// Gives the body this `Content-Type`.
    ContentType(String),
    /// Announces one byte more, in the headers and in truth.
    OneMore,
    /// Closes the connection without an answer.
    Hangup,
    /// Sends a body that does not end.
    Endless,
    /// Sends the body a byte at a time, with this pause in milliseconds.
    Trickle(u64),
    /// Sends so many bytes of the body at a time, with this pause in milliseconds.
    Drip(usize, u64),
    /// Answers with this status and `no`, which many spaces follow slowly, with this pause in milliseconds.
    DripRefusal(u16, u64),
    /// Takes this many bytes of what is sent and resets the connection.
    Reset(usize),
    /// Answers so without reading what is sent, and closes the connection.
    Early(u16, Vec<(String, String)>, Vec<u8>),
    /// Does what it is asked, and answers so all the same.
    DoneButAnswers(u16, Vec<(String, String)>, Vec<u8>),
    /// Gives the answer this header instead of its own; an empty value takes it away.
    Header(String, String),
    /// Forgets all uploads that have begun, then does what it is asked.
    LoseUploads,
    /// Wants another token from now on, which its token service gives, then does what it is asked.
    ExpireToken(String),
    /// Takes the request and then says nothing, with the connection open.
    Silent,
    /// Sends the headers a byte at a time, with this pause in milliseconds.
    TrickleHead(u64),
    /// Answers with this status and a body that does not end.
    EndlessRefusal(u16),
}

/// How an answer goes over the wire.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pub(super) manner: Manner,
    /// Most bytes of the body.
    pub(super) most: Option<usize>,
    /// Bytes of the body that are sent at once.
    pub(super) piece: Option<usize>,
    /// Between two pieces of the body, and between the bytes of what stands before it.
    pub(super) pause: Option<Duration>,
    pub(super) head_pause: Option<Duration>,
    /// The connection is closed afterwards.
    pub(super) closes: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    #[default]
    Whole,
    /// Nothing comes after the part that is sent.
    Stalled,
    Hangup,
    Silent,
    Endless,
}

impl Fault {
    /// Spoils an answer, and tells how it is sent.
    pub(super) fn apply(self, answer: &mut Answer) -> Delivery {
        let mut delivery = Delivery::default();
        match self {
            Self::Answer(status, headers, body) | Self::DoneButAnswers(status, headers, body) => {
                *answer = Answer { status, headers, body };
            }
            Self::Early(status, headers, body) => {
                *answer = Answer { status, headers, body };
                delivery.closes = true;
            }
            Self::Redirect(to) => *answer = Answer::of(307, "").header("location", to),
            Self::ContentType(text) => answer.set("content-type", text),
            Self::Header(name, value) => answer.set(&name, value),
            Self::WrongBytes => answer.body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            Self::WrongRange => answer.body.rotate_left(1),
            Self::OneMore => answer.body.push(b'!'),
            Self::Truncate(count) => delivery.most = Some(count),
            Self::Stall(count) => (delivery.most, delivery.manner) = (Some(count), Manner::Stalled),
            Self::Trickle(milliseconds) => delivery.pause = Some(Duration::from_millis(milliseconds)),
            Self::Drip(piece, milliseconds) => {
                (delivery.piece, delivery.pause) = (Some(piece), Some(Duration::from_millis(milliseconds)));
            }
            Self::DripRefusal(status, milliseconds) => {
                *answer = Answer::of(status, format!("no{}", " ".repeat(1 << 16)));
                delivery.piece = Some(2);
                delivery.pause = Some(Duration::from_millis(milliseconds));
            }
            Self::TrickleHead(milliseconds) => {
                delivery.head_pause = Some(Duration::from_millis(milliseconds));
            }
            Self::Hangup => (answer.status, delivery.manner) = (0, Manner::Hangup),
            Self::Silent => (answer.status, delivery.manner) = (0, Manner::Silent),
            Self::Endless => (answer.status, delivery.manner) = (200, Manner::Endless),
            Self::EndlessRefusal(status) => (answer.status, delivery.manner) = (status, Manner::Endless),
            Self::IgnoreRange | Self::Reset(_) | Self::LoseUploads | Self::ExpireToken(_) => {}
        }
        delivery
    }
}
