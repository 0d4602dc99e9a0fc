//! Durations in Go's notation.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{digit0, one_of};
use nom::combinator::{opt, value};
use nom::{IResult, Parser};

use crate::quote::quote;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    #[error("time: unknown unit {} in duration {}", quote(unit), quote(text))]
    UnknownUnit { unit: String, text: String },
}

/// Nanoseconds of a text such as `1m30s`, `1.5h` or `-500ms`.
pub(super) fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (rest, negative) = sign(text).map_err(|_| invalid())?;
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    let mut rest = rest;
    while !rest.is_empty() {
        let (after, (whole, fraction)) = number(rest).map_err(|_| invalid())?;
        let (after, name) = unit_name(after).map_err(|_| DurationError::MissingUnit(text.to_owned()))?;
        let unit = unit(name)
            .ok_or_else(|| DurationError::UnknownUnit { unit: name.to_owned(), text: text.to_owned() })?;
        total = nanoseconds(whole, fraction, unit)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= i128::from(i64::MAX))
            .ok_or_else(invalid)?;
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

fn sign(input: &str) -> IResult<&str, bool> {
    opt(one_of("+-")).map(|sign| sign == Some('-')).parse(input)
}

/// Digits before and behind a point; some on one side at least.
fn number(input: &str) -> IResult<&str, (&str, &str)> {
    let fraction = opt((tag("."), digit0)).map(|fraction| fraction.map_or("", |(_, digits)| digits));
    let (rest, (whole, fraction)) = (digit0, fraction).parse(input)?;
    if whole.is_empty() && fraction.is_empty() {
        return take_while1(|c: char| c.is_ascii_digit()).map(|digits| (digits, "")).parse(input);
    }
    Ok((rest, (whole, fraction)))
}

/// All up to the next number.
fn unit_name(input: &str) -> IResult<&str, &str> {
    take_while1(|c: char| c != '.' && !c.is_ascii_digit()).parse(input)
}

fn unit(name: &str) -> Option<i128> {
    let units = alt((
        value(1_000_000, tag("ms")),
        value(1_000, alt((tag("us"), tag("µs"), tag("μs")))),
        value(1, tag("ns")),
        value(1_000_000_000, tag("s")),
        value(60_000_000_000, tag("m")),
        value(3_600_000_000_000, tag("h")),
    ));
    let parsed: IResult<&str, i128> = nom::combinator::all_consuming(units).parse(name);
    parsed.ok().map(|(_, unit)| unit)
}

fn nanoseconds(whole: &str, fraction: &str, unit: i128) -> Option<i128> {
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes().map(|byte| i128::from(byte - b'0')).take(20) {
        // What falls below a nanosecond is cut off.
        total += digit * scale / 10;
        scale /= 10;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn table() {
        let table = [
            ("0", Ok(0)),
            ("1m30s", Ok(90_000_000_000)),
            ("500ms", Ok(500_000_000)),
            ("1.5h", Ok(5_400_000_000_000)),
            (".5s", Ok(500_000_000)),
            ("-2us", Ok(-2_000)),
            ("1h1m1s1ms1µs1ns", Ok(3_661_001_001_001)),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("", Err("time: invalid duration \"\"")),
            ("s", Err("time: invalid duration \"s\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("1d", Err("time: unknown unit \"d\" in duration \"1d\"")),
            ("9999999h", Err("time: invalid duration \"9999999h\"")),
        ];
        for (text, expected) in table {
            let got = parse_duration(text).map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        }
    }
}
