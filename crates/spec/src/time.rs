use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A moment in nanoseconds around 1970-01-01T00:00:00Z, written as RFC 3339 in UTC with the fewest digits, the way
/// Go prints times in image configs (11.03).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds above them, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 time")]
pub struct TimeError(String);

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Timestamp {
    /// A whole second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// A date of HTTP (RFC 9110, 5.6.7) in any of its three forms; `None` for other texts.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let text = text.trim();
        let (day, month, year, time) = if let Some((_, rest)) = text.split_once(", ") {
            let rest = rest.strip_suffix(" GMT").or_else(|| rest.strip_suffix(" UTC"))?;
            let (date, time) = rest.rsplit_once(' ')?;
            let mut parts = date.split([' ', '-']);
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            (parts.next().is_none()).then_some((day, month, year, time))?
        } else {
            let mut parts = text.split_ascii_whitespace().skip(1);
            let (month, day, time, year) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
            (parts.next().is_none()).then_some((day, month, year, time))?
        };
        let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
        let number = |digits: &str, most: i64| -> Option<i64> {
            let is_number = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?.filter(|value| *value <= most)
        };
        let year = match (year.len(), number(year, 9999)?) {
            // Years of two digits are those around 2000, as everywhere.
            (2, short) => short + if short >= 69 { 1900 } else { 2000 },
            (4, full) => full,
            _ => return None,
        };
        let mut clock = time.split(':');
        let (hour, minute) = (number(clock.next()?, 23)?, number(clock.next()?, 59)?);
        let second = number(clock.next()?, 60).filter(|_| clock.next().is_none())?;
        let day = number(day, 31).filter(|day| *day > 0)?;
        let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Self::from_seconds(seconds))
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self { seconds: after.as_secs() as i64, nanoseconds: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                let (seconds, nanoseconds) = (-(before.as_secs() as i64), before.subsec_nanos());
                if nanoseconds == 0 {
                    Self { seconds, nanoseconds }
                } else {
                    Self { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds }
                }
            }
        }
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds != 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text).ok_or_else(|| TimeError(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let sign = |at: usize, expected: u8| text.as_bytes().get(at).filter(|byte| **byte == expected);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let signs = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    signs.iter().try_for_each(|(at, expected)| sign(*at, *expected).map(|_| ()))?;
    text.get(10..11).filter(|t| *t == "T" || *t == "t")?;
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !in_range {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept = fraction.get(..digits.min(9)).filter(|kept| !kept.is_empty())?;
        nanoseconds = format!("{kept:0<9}").parse().ok()?;
        rest = &fraction[digits..];
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => offset_of(rest)?,
    };
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp { seconds, nanoseconds })
}

/// Seconds east of UTC of `+hh:mm`.
fn offset_of(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let number = |digits: &str| -> Option<i64> {
        (digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.parse().ok())?
    };
    Some(sign * (number(hours)? * 3600 + number(minutes)? * 60))
}

impl TryFrom<String> for Timestamp {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_of_http_have_three_forms() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Wed, 03 Mar 2010 10:11:12 GMT", Some(1_267_611_072)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 +0100", None),
            ("Thu, 01 Foo 1970 00:00:00 GMT", None),
            ("Thu, 41 Jan 1970 00:00:00 GMT", None),
            ("Thu, 01 Jan 1970 24:00:00 GMT", None),
            ("Thu, 01 Jan 19700 00:00:00 GMT", None),
            ("yesterday", None),
            ("", None),
        ] {
            let parsed = Timestamp::parse_http_date(text);
            assert_eq!(parsed, seconds.map(Timestamp::from_seconds), "{text}");
        }
    }

    #[test]
    fn known_moments() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000, 0),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
            ("2000-02-29T12:00:00.000000001Z", 951_825_600, 1),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time, Timestamp { seconds, nanoseconds });
            assert_eq!(time.to_string(), text);
        }
        let east: Timestamp = "2023-11-15T00:13:20+02:00".parse().unwrap();
        assert_eq!(east.seconds, 1_700_000_000);
        for bad in
            ["", "2023-11-14", "2023-13-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-14T22:13:20.Z", "é"]
        {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(seconds in -62_000_000_000_i64..250_000_000_000, nanoseconds in 0_u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }
}
