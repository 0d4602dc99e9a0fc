//! Text the way Go's `fmt`, `strconv` and `time` write and read it: parts of an image's history are made of it.

use std::fmt::Write;

/// A list as `%q` prints it: `["a" "b"]`.
pub(super) fn quoted_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A list as `%v` prints it: `[a b]`.
pub(super) fn plain_list(list: &[String]) -> String {
    format!("[{}]", list.join(" "))
}

/// A string as `%q` prints it, a Go literal between double quotes.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        push_escaped(&mut quoted, c);
    }
    quoted.push('"');
    quoted
}

/// `text` on one line and without characters that could disturb a terminal.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut shown, c));
    shown
}

fn push_escaped(text: &mut String, c: char) {
    let short = match c {
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        _ if is_print(c) => return text.push(c),
        _ => return push_code(text, u32::from(c)),
    };
    text.extend(['\\', short]);
}

fn push_code(text: &mut String, code: u32) {
    // Writing to a string cannot fail.
    let _ = match code {
        0..=0x7f => write!(text, "\\x{code:02x}"),
        0x80..=0xffff => write!(text, "\\u{code:04x}"),
        _ => write!(text, "\\U{code:08x}"),
    };
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII blank.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // `Debug` escapes the complement of Go's `IsPrint`, and marks only where they come first.
    let mut probe = String::from("a");
    probe.push(c);
    !probe.escape_debug().any(|escaped| escaped == '\\')
}

/// Nanoseconds as `time.Duration` prints them: `1h0m0s`, `1.5s`, `500ms`, `0s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = decimal(total % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// `value / unit` with as many digits as it takes; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

/// `strconv.ParseBool`
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `strconv.Atoi`: digits with an optional sign.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// `strconv.ParseUint` of 32 bits: digits only.
pub(super) fn parse_uint(text: &str, radix: u32) -> Option<u32> {
    if text.starts_with('+') { None } else { u32::from_str_radix(text, radix).ok() }
}

/// `units.RAMInBytes`: a number with an optional unit of 1024 (`64m`, `1.5GiB`).
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let number_end = if text.as_bytes().get(last) == Some(&b' ') { last } else { last + 1 };
    let (number, unit) = (text.get(..number_end)?, text.get(last + 1..)?.to_ascii_lowercase());
    if !number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E')) {
        return None;
    }
    let size: f64 = number.parse().ok().filter(|size: &f64| *size >= 0.0)?;
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    Some((size * 1024_f64.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_like_percent_q() {
        for (text, quoted) in [
            ("a \"b\"", r#""a \"b\"""#),
            ("tab\t\u{7}\u{b}", r#""tab\t\a\v""#),
            ("é你", "\"é你\""),
            ("\u{2028}\u{1}\u{7f}\u{a0}\u{feff}", r#""\u2028\x01\x7f\u00a0\ufeff""#),
            ("e\u{301}", "\"e\u{301}\""),
            ("\u{301}", "\"\u{301}\""),
            ("\u{e0001}", r#""\U000e0001""#),
            ("\\", r#""\\""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
        assert_eq!(quoted_list(&[]), "[]");
        assert_eq!(quoted_list(&["a".to_owned(), "b c".to_owned()]), r#"["a" "b c"]"#);
        assert_eq!(printable("a\n\"\u{1b}[0m"), "a\\n\"\\x1b[0m");
    }

    #[test]
    fn durations_are_those_of_go() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_600_050_000_000, "1h0m0.05s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, size) in [
            ("0", Some(0)),
            ("128m", Some(128 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2 kb", Some(2048)),
            ("32B", Some(32)),
            ("abc", None),
            ("-1", None),
            ("", None),
            ("1bb", None),
            ("1 mi", None),
        ] {
            assert_eq!(parse_size(text), size, "{text}");
        }
    }
}
