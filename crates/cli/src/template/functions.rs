use std::cmp::Ordering;

use super::Fault;
use super::printf::{printf, widths};
use super::value::Value;

/// Every function there is: docker's, then Go's.
pub(super) const FUNCTIONS: [&str; 24] = [
    "json", "join", "split", "upper", "lower", "title", "truncate", "pad", "index", "len", "slice", "print",
    "printf", "println", "html", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge",
];

/// Most blanks on one side.
const MAX_PAD: i64 = 1000;

pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// What the values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Data.
    Rows,
    /// Titles of columns, which functions leave as they are.
    Header,
}

/// Most bytes that a call makes.
pub(super) fn cost(name: &str, arguments: &[Value]) -> usize {
    let given: usize = arguments.iter().map(Value::weight).sum();
    match (name, arguments) {
        // One character may become six.
        ("json" | "html", _) => given.saturating_mul(6),
        ("upper" | "lower" | "title", _) => given.saturating_mul(3),
        ("printf", [Value::Text(format), ..]) => given.saturating_mul(6).saturating_add(widths(format)),
        ("join", [Value::List(Some(list)), Value::Text(separator)]) => {
            given.saturating_add(list.len().saturating_mul(separator.len()))
        }
        ("split", [Value::Text(text), Value::Text(separator)]) => {
            let parts = text.matches(separator.as_str()).count() + 1;
            given.saturating_add(parts.saturating_mul(size_of::<Value>()))
        }
        ("pad", _) => given.saturating_add(2 * MAX_PAD as usize),
        _ => given,
    }
}

/// Calls a function. Faults have no place yet.
pub(super) fn call(name: &str, arguments: &[Value], mode: Mode) -> Result<Value, Fault> {
    if mode == Mode::Header
        && let "json" | "upper" | "lower" | "title" | "truncate" = name
    {
        return Ok(arguments.first().cloned().unwrap_or(Value::Missing));
    }
    let call = Call { name, arguments };
    match name {
        "split" | "upper" | "lower" | "title" | "truncate" | "pad" => call.of_text(),
        "json" | "join" | "index" | "len" | "slice" => call.of_value(),
        "print" => Ok(Value::Text(print(arguments))),
        "println" => Ok(Value::Text(line(arguments))),
        "html" => Ok(Value::Text(html(&print(arguments)))),
        "printf" => Ok(Value::Text(printf(call.text(0)?, arguments.get(1..).unwrap_or_default()))),
        _ => call.of_logic(),
    }
}

struct Call<'a> {
    name: &'a str,
    arguments: &'a [Value],
}

impl<'a> Call<'a> {
    fn wrong(&self, message: impl std::fmt::Display) -> Fault {
        Fault::new(0, format!("error calling {}: {message}", self.name)).hint(usage(self.name))
    }

    fn counted(&self, wanted: usize) -> Result<&'a [Value], Fault> {
        let got = self.arguments.len();
        if got == wanted {
            return Ok(self.arguments);
        }
        let text = format!("wrong number of args for {}: want {wanted}, got {got}", self.name);
        Err(Fault::new(0, text).hint(usage(self.name)))
    }

    fn text(&self, number: usize) -> Result<&'a str, Fault> {
        match self.arguments.get(number) {
            Some(Value::Text(text)) => Ok(text.as_str()),
            Some(Value::Missing) | None => Ok(""),
            Some(other) => Err(self.wrong(format!("{other} is a {}, not a text", other.kind()))),
        }
    }

    fn number(&self, at: usize) -> Result<i64, Fault> {
        match self.arguments.get(at) {
            Some(Value::Int(number)) => Ok(*number),
            Some(other) => Err(self.wrong(format!("{other} is a {}, not a number", other.kind()))),
            None => Ok(0),
        }
    }

    fn of_text(&self) -> Result<Value, Fault> {
        self.counted(match self.name {
            "pad" => 3,
            "split" | "truncate" => 2,
            _ => 1,
        })?;
        let whole = self.text(0)?;
        Ok(match self.name {
            "upper" => whole.to_uppercase().into(),
            "lower" => whole.to_lowercase().into(),
            "title" => title(whole).into(),
            "truncate" => {
                let length = usize::try_from(self.number(1)?).unwrap_or_default();
                // Docker counts bytes; no character is cut here.
                whole[..whole.floor_char_boundary(length)].into()
            }
            "pad" => {
                let blanks = |count: i64| " ".repeat(count.clamp(0, MAX_PAD) as usize);
                let padded = format!("{}{whole}{}", blanks(self.number(1)?), blanks(self.number(2)?));
                Value::Text(if whole.is_empty() { String::new() } else { padded })
            }
            _ => Value::List(Some(match self.text(1)? {
                "" => whole.chars().map(|c| Value::Text(c.to_string())).collect(),
                separator => whole.split(separator).map(Value::from).collect(),
            })),
        })
    }

    fn of_value(&self) -> Result<Value, Fault> {
        Ok(match self.name {
            "json" => self.counted(1)?[0].json().into(),
            "join" => {
                let Value::List(list) = &self.counted(2)?[0] else {
                    return Err(self.wrong(format!("{} is not a list", self.arguments[0])));
                };
                let texts: Vec<String> = list.iter().flatten().map(ToString::to_string).collect();
                texts.join(self.text(1)?).into()
            }
            "len" => Value::Int(match &self.counted(1)?[0] {
                Value::Text(text) => text.len(),
                Value::List(list) => list.as_ref().map_or(0, Vec::len),
                Value::Map(map) => map.as_ref().map_or(0, std::collections::BTreeMap::len),
                other => return Err(self.wrong(format!("len of type {}", other.kind()))),
            } as i64),
            "index" => index(self.arguments).map_err(|message| self.wrong(message))?,
            _ => {
                let end = if self.arguments.len() > 2 { Some(self.number(2)?) } else { None };
                let value = self.arguments.first().unwrap_or(&Value::Nil);
                slice(value, self.number(1)?, end).map_err(|message| self.wrong(message))?
            }
        })
    }

    fn of_logic(&self) -> Result<Value, Fault> {
        let missing = || self.wrong("missing argument");
        Ok(match self.name {
            // The arguments that decide were looked for before.
            "and" | "or" => self.arguments.last().cloned().ok_or_else(missing)?,
            "not" => Value::Bool(!self.counted(1)?[0].is_true()),
            "eq" => match self.arguments {
                [first, rest @ ..] if !rest.is_empty() => Value::Bool(rest.contains(first)),
                _ => return Err(missing()),
            },
            "ne" => Value::Bool(self.counted(2)?[0] != self.arguments[1]),
            name => {
                let order = compare(&self.counted(2)?[0], &self.arguments[1]);
                let order = order.ok_or_else(|| self.wrong("incompatible types for comparison"))?;
                Value::Bool(match name {
                    "lt" => order == Ordering::Less,
                    "le" => order != Ordering::Greater,
                    "gt" => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                })
            }
        })
    }
}

/// How a function is called.
fn usage(name: &str) -> String {
    let arguments = match name {
        "join" => ".RepoTags \", \"",
        "split" => ".Repository \"/\"",
        "truncate" => ".ID 12",
        "pad" => ".Tag 1 1",
        "index" => ".RepoTags 0",
        "len" => ".RepoTags",
        "slice" => ".ID 0 12",
        "printf" => "\"%s:%s\" .Repository .Tag",
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => ".Tag \"latest\"",
        _ => ".ID",
    };
    format!("write {{{{{name} {arguments}}}}}")
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let (first, keys) = arguments.split_first().ok_or("index of untyped nil")?;
    let mut value = first.clone();
    for key in keys {
        value = match (value, key) {
            (Value::List(list), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| list.as_ref()?.get(at).cloned());
                found.ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::Map(map), Value::Text(key)) => {
                // What a map of texts has for other keys is the empty text.
                map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or(Value::Text(String::new()))
            }
            (Value::Record(record), Value::Text(key)) => {
                record.get(key).cloned().ok_or_else(|| format!("there is no field {key:?}"))?
            }
            (Value::Text(text), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at).copied());
                Value::Int(i64::from(found.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            (Value::Nil | Value::Missing, _) => return Err("index of untyped nil".to_owned()),
            (value @ (Value::List(_) | Value::Map(_) | Value::Record(_) | Value::Text(_)), key) => {
                return Err(format!("cannot index a {} with the {} {key}", value.kind(), key.kind()));
            }
            (value, _) => return Err(format!("can't index item of type {}", value.kind())),
        };
    }
    Ok(value)
}

fn slice(value: &Value, start: i64, end: Option<i64>) -> Result<Value, String> {
    let bounds = |length: usize| {
        let end = end.unwrap_or(length as i64);
        let bounds = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        bounds
            .filter(|(start, end)| start <= end && *end <= length)
            .ok_or_else(|| format!("index out of range: [{start}:{end}]"))
    };
    match value {
        Value::Text(text) => {
            let (start, end) = bounds(text.len())?;
            text.get(start..end).map(Value::from).ok_or_else(|| "a character is cut".to_owned())
        }
        Value::List(list) => {
            let list = list.as_deref().unwrap_or_default();
            let (start, end) = bounds(list.len())?;
            Ok(Value::List(Some(list[start..end].to_vec())))
        }
        other => Err(format!("can't slice item of type {}", other.kind())),
    }
}

/// Blanks between operands when neither is a text.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (number, value) in arguments.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if number > 0 && !is_text(value) && !is_text(&arguments[number - 1]) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    out
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
        .replace('\0', "\u{fffd}")
}

fn line(arguments: &[Value]) -> String {
    let texts: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    texts.join(" ") + "\n"
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|c| {
            let first = !inside;
            inside = c.is_alphanumeric() || matches!(c, '_' | '\'');
            if first { c.to_uppercase().next().unwrap_or(c) } else { c }
        })
        .collect()
}
