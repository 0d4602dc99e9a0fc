use std::fmt::Write as _;

use super::value::Value;

/// What is wider than this is a mistake.
const MAX_WIDTH: usize = 10_000;

/// No less than all the widths in a format together.
pub(super) fn widths(format: &str) -> usize {
    let numbers =
        format.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<usize>().ok());
    numbers.map(|width| width.min(MAX_WIDTH)).fold(0, usize::saturating_add)
}

/// Go's `Sprintf` for texts, numbers and what prints itself: `%s %v %d %q %t %x %%` with width and `-`.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = arguments.iter();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '#' | ' ' | '0')) {
            flags.push(flag);
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut text = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            text
        };
        let width = digits(&mut chars).parse().unwrap_or(0_usize).min(MAX_WIDTH);
        let precision = chars.next_if_eq(&'.').map(|_| digits(&mut chars).parse().unwrap_or(0_usize));
        let verb = chars.next();
        let text = match (verb, next.clone().next()) {
            (None, _) => "%!(NOVERB)".to_owned(),
            (Some('%'), _) => "%".to_owned(),
            (Some(verb), None) => format!("%!{verb}(MISSING)"),
            (Some(verb), Some(value)) => {
                next.next();
                converted(verb, value, precision)
            }
        };
        pad(&mut out, &text, width, &flags);
    }
    let extra: Vec<String> = next.map(|value| format!("{}={value}", go_type(value))).collect();
    if !extra.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn converted(verb: char, value: &Value, precision: Option<usize>) -> String {
    match (verb, value) {
        ('v', value) => value.to_string(),
        ('s', Value::Text(text)) => text.chars().take(precision.unwrap_or(usize::MAX)).collect(),
        ('s', Value::List(_) | Value::Map(_) | Value::Record(_) | Value::Duration(_)) => value.to_string(),
        ('q', Value::Text(_)) => value.json(),
        ('d', Value::Int(number) | Value::Duration(number)) => number.to_string(),
        ('x', Value::Int(number)) => format!("{number:x}"),
        ('x', Value::Text(text)) => text.bytes().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        }),
        ('t', Value::Bool(value)) => value.to_string(),
        (verb, value) => format!("%!{verb}({}={value})", go_type(value)),
    }
}

fn pad(out: &mut String, text: &str, width: usize, flags: &str) {
    let missing = width.saturating_sub(text.chars().count());
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let filler = if flags.contains('0') && !flags.contains('-') && is_number { "0" } else { " " };
    if flags.contains('-') {
        out.push_str(text);
        out.push_str(&filler.repeat(missing));
    } else {
        out.push_str(&filler.repeat(missing));
        out.push_str(text);
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Nil | Value::Missing => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Text(_) => "string",
        Value::Duration(_) => "time.Duration",
        Value::List(_) => "[]string",
        Value::Map(_) => "map[string]interface {}",
        Value::Record(_) => "struct",
    }
}
