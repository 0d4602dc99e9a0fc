//! `HEALTHCHECK`.

use super::duration::parse_duration;
use super::flags::{Flags, Known, Takes};
use super::{Reading, Result};
use crate::Code;
use crate::quote::quote;
use crate::{Healthcheck, InstructionKind};

const FLAGS: Known = &[
    ("interval", Takes::Text),
    ("timeout", Takes::Text),
    ("start-period", Takes::Text),
    ("start-interval", Takes::Text),
    ("retries", Takes::Text),
];

/// The shortest time that is not zero, in nanoseconds.
const MIN_DURATION: i64 = 1_000_000;

pub(super) fn healthcheck(reading: &Reading<'_>) -> Result<InstructionKind> {
    reading.require_arguments()?;
    let Some((kind, command)) = reading.node.arguments.split_first() else {
        return Err(reading.at_least_one());
    };
    if kind.text.eq_ignore_ascii_case("NONE") {
        if let Some(word) = command.first() {
            let message = "HEALTHCHECK NONE takes no arguments";
            let error = reading.error(Code::TooManyArguments, message).label(word.span);
            return Err(
                error.hint("write HEALTHCHECK NONE alone, or HEALTHCHECK CMD followed by the command")
            );
        }
        return Ok(InstructionKind::Healthcheck(Box::new(Healthcheck::None)));
    }
    let flags = reading.flags(FLAGS)?;
    if !kind.text.eq_ignore_ascii_case("CMD") {
        let kind_upper = kind.text.to_uppercase();
        let message = format!("Unknown type {} in HEALTHCHECK (try CMD)", quote(&kind_upper));
        let is_flag = |name: &str| FLAGS.iter().any(|(known, _)| *known == name.trim_start_matches('-'));
        let rest = reading.rest();
        let command = rest.strip_prefix(&*kind.text).unwrap_or(&rest).trim_start();
        let hint = if kind.text.split_once('=').is_some_and(|(name, _)| is_flag(name)) {
            format!("flags begin with two dashes: --{}", kind.text.trim_start_matches('-'))
        } else if kind_upper == "RUN" || kind_upper == "CMD-SHELL" {
            format!("write CMD instead of {}: HEALTHCHECK CMD {command}", kind.text)
        } else if kind_upper.starts_with("[\"CMD") {
            format!("write CMD before the list, not in it: HEALTHCHECK CMD [{command}")
        } else {
            format!("put CMD before the command: HEALTHCHECK CMD {rest}")
        };
        return Err(reading.error(Code::UnknownHealthcheck, message).label(kind.span).hint(hint));
    }
    if command.is_empty() {
        return Err(reading
            .error(Code::MissingCommand, "Missing command after HEALTHCHECK CMD")
            .label(kind.span)
            .hint("write the command after CMD: HEALTHCHECK CMD curl -f http://localhost/"));
    }
    let interval = duration(reading, &flags, "interval")?;
    let timeout = duration(reading, &flags, "timeout")?;
    let start_period = duration(reading, &flags, "start-period")?;
    let start_interval = duration(reading, &flags, "start-interval")?;
    let retries = retries(reading, &flags)?;
    let command = reading.command(command);
    let check = Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries };
    Ok(InstructionKind::Healthcheck(Box::new(check)))
}

fn duration(reading: &Reading<'_>, flags: &Flags<'_>, name: &'static str) -> Result<i64> {
    let Some(text) = flags.text(name) else { return Ok(0) };
    let duration = parse_duration(text).map_err(|error| {
        let error = reading.flag_error(Code::InvalidDuration, error.to_string(), name);
        error.hint(format!("give a number with a unit (ms, s, m, h), as in --{name}=30s"))
    })?;
    if duration != 0 && duration < MIN_DURATION {
        let message = format!("Interval {} cannot be less than 1ms", quote(name));
        let error = reading.flag_error(Code::DurationTooShort, message, name);
        return Err(error.hint(format!("give 1ms or more, as in --{name}=30s, or 0 for the default")));
    }
    Ok(duration)
}

fn retries(reading: &Reading<'_>, flags: &Flags<'_>) -> Result<i64> {
    let Some(text) = flags.text("retries") else { return Ok(0) };
    let error = |message: String| {
        let error = reading.flag_error(Code::InvalidRetries, message, "retries");
        error.hint("give a whole number from 0 up, as in --retries=3")
    };
    let number: i32 = text.parse().map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let reason = if is_number { "value out of range" } else { "invalid syntax" };
        error(format!("strconv.ParseInt: parsing {}: {reason}", quote(text)))
    })?;
    if number < 0 {
        return Err(error(format!("--retries cannot be negative ({number})")));
    }
    Ok(i64::from(number))
}
