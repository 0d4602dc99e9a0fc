//! What docker's `--format` makes of rows: a table, JSON, a template.

use ocibuild::Error;

use crate::table::tabulate;
use crate::template::{Mode, Template, Value};

/// The value of `--format`, also where it says nothing.
pub(crate) fn given(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("table")
}

/// A format, read.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// An object a line.
    Json,
    /// A template for each row.
    Lines(Template),
    /// The same with titles, in columns.
    Table(Template),
}

impl Format {
    /// What was given with `--format`; `table` alone is the table of `default`. In the others `\t` and `\n` are a tab and
    /// a line end, as docker has it.
    pub(crate) fn read(text: &str, default: &str) -> Result<Self, Error> {
        if text == "json" {
            return Ok(Self::Json);
        }
        match text.strip_prefix("table") {
            Some("") => Ok(Self::Table(Template::parse(default)?)),
            Some(_) => Ok(Self::Table(Template::parse_row(text, "table".len())?)),
            None => Ok(Self::Lines(Template::parse_row(text, 0)?)),
        }
    }

    /// The text for these rows; `header` has the titles of their fields.
    pub(crate) fn render(&self, header: &Value, rows: &[Value]) -> Result<String, Error> {
        let mut text = String::new();
        match self {
            Self::Json => {
                for row in rows {
                    text.push_str(&row.json());
                    text.push('\n');
                }
            }
            Self::Lines(template) => {
                for row in rows {
                    text.push_str(&template.render(row, Mode::Rows)?);
                    text.push('\n');
                }
            }
            Self::Table(template) => {
                text.push_str(&template.render(header, Mode::Header)?);
                text.push('\n');
                for row in rows {
                    text.push_str(&template.render(row, Mode::Rows)?);
                    text.push('\n');
                }
                text = tabulate(&text);
            }
        }
        Ok(text)
    }
}
