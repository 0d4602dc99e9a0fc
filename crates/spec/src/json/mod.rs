//! JSON as Go's `encoding/json` writes it, which is how every other builder's documents look (11.01, 11.15), and as it
//! reads it where something is `null`.
//!
//! Digests are taken of what is written, so a change there changes the identity of every image.

mod nulls;

use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeSeed as _};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter};

/// Compact JSON: configs, `index.json`, records.
pub fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    write(value, CompactFormatter)
}

/// JSON indented by two spaces: manifests and nested indexes.
pub fn to_vec_pretty(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    write(value, PrettyFormatter::with_indent(b"  "))
}

/// Reads a document that another program wrote. `null` is the zero value of whatever it stands for, a field, an item or
/// a member, as Go's readers take it.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = nulls::OrZero(PhantomData).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The same for text.
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = nulls::OrZero(PhantomData).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

fn write(value: &impl Serialize, layout: impl Formatter) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoEscapes(layout)))?;
    Ok(out)
}

/// Another formatter's layout with Go's escapes inside strings.
struct GoEscapes<F>(F);

impl<F: Formatter> Formatter for GoEscapes<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let special = rest[at..].chars().next().expect("`find` gave the place of a character");
            write!(writer, "{}\\u{:04x}", &rest[..at], special as u32)?;
            rest = &rest[at + special.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_go() {
        let text = "a && b <c> \u{2028}\u{1}\t\u{8}\u{c}\"\\é";
        assert_eq!(
            String::from_utf8(to_vec(&text).unwrap()).unwrap(),
            "\"a \\u0026\\u0026 b \\u003cc\\u003e \\u2028\\u0001\\t\\b\\f\\\"\\\\é\""
        );
    }

    #[test]
    fn null_is_the_zero_value() {
        use std::collections::BTreeMap;

        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Inner {
            #[serde(default)]
            name: String,
        }
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Outer {
            text: String,
            number: i32,
            truth: bool,
            fraction: f64,
            list: Vec<Option<String>>,
            texts: Vec<String>,
            map: BTreeMap<String, String>,
            inner: Inner,
            maybe: Option<Inner>,
            inners: Vec<Inner>,
            pair: Option<(u8, u8)>,
            any: serde_json::Value,
        }
        let text = r#"{"text":null,"number":null,"truth":null,"fraction":null,"list":[null,"a"],"texts":["a",null],
            "map":{"a":null,"b":"c"},"inner":null,"maybe":null,"inners":[null,{"name":null},{"name":"x"}],"pair":[1,null],
            "any":{"x":null}}"#;
        let inner = |name: &str| Inner { name: name.to_owned() };
        let read: Outer = from_str(text).unwrap();
        let expected = Outer {
            text: String::new(),
            number: 0,
            truth: false,
            fraction: 0.0,
            list: vec![None, Some("a".to_owned())],
            texts: vec!["a".to_owned(), String::new()],
            map: [("a", ""), ("b", "c")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            inner: inner(""),
            maybe: None,
            inners: vec![inner(""), inner(""), inner("x")],
            pair: Some((1, 0)),
            any: serde_json::json!({"x": null}),
        };
        assert_eq!(read, expected);
        assert_eq!(from_slice::<Inner>(b" null ").unwrap(), inner(""));
        for bad in
            ["", "{} {}", r#"{"name":1}"#, r#"{"name":"a","name":null}"#, "nul", "[]", "[1]", r#"["a"]"#]
        {
            assert!(from_str::<Inner>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_have_a_place() {
        let error = from_str::<Vec<u8>>("[1,\n  \"x\"]").unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 5), "{error}");
    }

    #[test]
    fn pretty_is_indented_by_two() {
        let value = serde_json::json!({"a": [1], "b": {}});
        assert_eq!(to_vec_pretty(&value).unwrap(), b"{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}");
    }
}
