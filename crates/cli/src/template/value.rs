use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// What a template works with. It prints as Go's `%v` does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// No value: a nil pointer.
    Nil,
    /// What a map says of a key it does not have.
    Missing,
    Bool(bool),
    Int(i64),
    Text(String),
    /// Nanoseconds.
    Duration(i64),
    /// `None` is the nil slice, which is `null` in JSON.
    List(Option<Vec<Value>>),
    /// Any key may be asked for.
    Map(Option<BTreeMap<String, Value>>),
    /// Has these fields and no others.
    Record(Record),
}

/// A value with named fields in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) fields: Vec<Field>,
    /// Of a table: docker writes its JSON with `<`, `>` and `&` escaped.
    pub(crate) is_row: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    /// JSON leaves it out when it is empty.
    pub(crate) omit_empty: bool,
}

impl Field {
    pub(crate) fn new(name: &'static str, value: impl Into<Value>) -> Self {
        Self { name, value: value.into(), omit_empty: false }
    }

    pub(crate) fn optional(name: &'static str, value: impl Into<Value>) -> Self {
        Self { omit_empty: true, ..Self::new(name, value) }
    }
}

impl Record {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|field| field.name == name).map(|field| &field.value)
    }

    /// A line of a table, whose cells are all texts.
    pub(crate) fn row(cells: impl IntoIterator<Item = (&'static str, String)>) -> Value {
        let fields = cells.into_iter().map(|(name, text)| Field::new(name, text)).collect();
        Value::Record(Self { fields, is_row: true })
    }
}

impl Value {
    pub(crate) fn object(fields: Vec<Field>) -> Self {
        Self::Record(Record { fields, is_row: false })
    }

    /// A list of texts; nil when there are none, as Go keeps them.
    pub(crate) fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Self {
        let list: Vec<Self> = texts.into_iter().map(|text| Self::Text(text.into())).collect();
        Self::List((!list.is_empty()).then_some(list))
    }

    /// A map of texts; nil when it is empty.
    pub(crate) fn map<K: Into<String>, V: Into<Self>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let map: BTreeMap<String, Self> =
            entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self::Map((!map.is_empty()).then_some(map))
    }

    /// About as many bytes as it takes, and no fewer than it has when it is printed.
    pub(super) fn weight(&self) -> usize {
        let parts = match self {
            Self::Text(text) => text.len(),
            Self::List(list) => list.iter().flatten().map(Self::weight).sum(),
            Self::Map(map) => map.iter().flatten().map(|(key, value)| key.len() + value.weight()).sum(),
            Self::Record(record) => {
                record.fields.iter().map(|field| field.name.len() + field.value.weight()).sum()
            }
            Self::Nil | Self::Missing | Self::Bool(_) | Self::Int(_) | Self::Duration(_) => 0,
        };
        size_of::<Self>() + parts
    }

    /// What `if` takes for true: anything but zero and empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil | Self::Missing => false,
            Self::Bool(value) => *value,
            Self::Int(number) | Self::Duration(number) => *number != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => list.as_ref().is_some_and(|list| !list.is_empty()),
            Self::Map(map) => map.as_ref().is_some_and(|map| !map.is_empty()),
            Self::Record(_) => true,
        }
    }

    /// What it is, in an error.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil | Self::Missing => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Text(_) => "string",
            Self::Duration(_) => "duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Record(_) => "struct",
        }
    }

    /// JSON in one line.
    pub(crate) fn json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, None, 0, false);
        out
    }

    /// JSON indented by four blanks.
    pub(crate) fn json_indented(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, Some(4), 0, false);
        out
    }

    fn write_json(&self, out: &mut String, indent: Option<usize>, depth: usize, escape: bool) {
        match self {
            Self::Nil | Self::Missing | Self::List(None) | Self::Map(None) => out.push_str("null"),
            // Writing to a string cannot fail.
            Self::Bool(value) => drop(write!(out, "{value}")),
            Self::Int(number) | Self::Duration(number) => drop(write!(out, "{number}")),
            Self::Text(text) => write_json_text(out, text, escape),
            Self::List(Some(list)) => write_items(out, ('[', ']'), indent, depth, list, |out, item| {
                item.write_json(out, indent, depth + 1, escape);
            }),
            Self::Map(Some(map)) => write_items(out, ('{', '}'), indent, depth, map, |out, (key, value)| {
                write_member(out, key, value, indent, depth, escape);
            }),
            Self::Record(record) => {
                let escape = escape || record.is_row;
                let shown = |field: &&Field| !field.omit_empty || field.value.is_true();
                let fields: Vec<&Field> = record.fields.iter().filter(shown).collect();
                write_items(out, ('{', '}'), indent, depth, fields, |out, field| {
                    write_member(out, field.name, &field.value, indent, depth, escape);
                });
            }
        }
    }
}

fn write_items<T>(
    out: &mut String,
    (open, close): (char, char),
    indent: Option<usize>,
    depth: usize,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.push_str(&" ".repeat(indent * depth));
        }
    };
    out.push(open);
    let mut any = false;
    for item in items {
        if any {
            out.push(',');
        }
        any = true;
        line(out, depth + 1);
        write(out, item);
    }
    if any {
        line(out, depth);
    }
    out.push(close);
}

fn write_member(
    out: &mut String,
    name: &str,
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    escape: bool,
) {
    write_json_text(out, name, escape);
    out.push_str(if indent.is_some() { ": " } else { ":" });
    value.write_json(out, indent, depth + 1, escape);
}

fn write_json_text(out: &mut String, text: &str, escape: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' '
                || matches!(c, '\u{2028}' | '\u{2029}')
                || (escape && matches!(c, '<' | '>' | '&')) =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &mut dyn Iterator<Item = &Self>| {
            for (number, value) in values.enumerate() {
                if number > 0 {
                    f.write_char(' ')?;
                }
                write!(f, "{value}")?;
            }
            Ok(())
        };
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Missing => f.write_str("<no value>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Duration(nanoseconds) => f.write_str(&go_duration(*nanoseconds)),
            Self::List(values) => {
                f.write_char('[')?;
                list(f, &mut values.iter().flatten())?;
                f.write_char(']')
            }
            Self::Map(map) => {
                f.write_str("map[")?;
                for (number, (key, value)) in map.iter().flatten().enumerate() {
                    let blank = if number > 0 { " " } else { "" };
                    write!(f, "{blank}{key}:{value}")?;
                }
                f.write_char(']')
            }
            Self::Record(record) => {
                f.write_char('{')?;
                list(f, &mut record.fields.iter().map(|field| &field.value))?;
                f.write_char('}')
            }
        }
    }
}

/// A duration as Go writes it: `1m30s`, `500ms`.
fn go_duration(nanoseconds: i64) -> String {
    let fraction = |value: u64, unit: u64, name: &str| {
        let digits = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        let dot = if digits.is_empty() { "" } else { "." };
        format!("{}{dot}{digits}{name}", value / unit)
    };
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let value = nanoseconds.unsigned_abs();
    let text = match value {
        0 => "0s".to_owned(),
        1..1_000 => format!("{value}ns"),
        1_000..1_000_000 => fraction(value, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(value, 1_000_000, "ms"),
        _ => {
            let seconds = fraction(value % 60_000_000_000, 1_000_000_000, "s");
            match (value / 3_600_000_000_000, value / 60_000_000_000 % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Text(number.to_string()),
            },
            Json::String(text) => Self::Text(text),
            Json::Array(items) => Self::List(Some(items.into_iter().map(Self::from).collect())),
            Json::Object(members) => {
                Self::Map(Some(members.into_iter().map(|(key, value)| (key, value.into())).collect()))
            }
        }
    }
}
