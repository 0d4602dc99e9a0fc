//! TOML whose values know the line that they stand in.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ocibuild_spec::{SourceError, SourceErrorKind};
use toml::de::{DeTable, DeValue};

use super::Origin;

/// Most bytes of a file of configuration.
const MAX_FILE: u64 = 1 << 20;

/// A file, as text.
#[derive(Debug)]
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    text: String,
}

impl TextFile {
    pub(super) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The file, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, SourceError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            fs_err::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let unusable = |reason: String| SourceError::new(SourceErrorKind::Configuration, reason);
        let bytes = match read() {
            Ok(bytes) if bytes.len() as u64 > MAX_FILE => {
                return Err(unusable(format!("{}: larger than {MAX_FILE} bytes", path.display())));
            }
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(unusable(error.to_string())),
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| unusable(format!("{}: the file is not Unicode text", path.display())))?;
        Ok(Some(Self::new(path, text)))
    }

    /// What is wrong at a place of the text.
    pub(super) fn error(&self, at: usize, reason: impl std::fmt::Display) -> SourceError {
        let text = format!("{}:{}: {reason}", self.path.display(), self.line(at));
        SourceError::new(SourceErrorKind::Configuration, text)
    }

    pub(super) fn origin(&self, at: usize) -> Origin {
        Origin::File { path: self.path.clone(), line: self.line(at) }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// Hands the table of the whole file to `read`.
    pub(super) fn parse<T>(
        &self,
        read: impl FnOnce(Table<'_>) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let document = DeTable::parse(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.error(at, error.message().split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        read(Table { file: self, inner: document.get_ref(), at: 0 })
    }
}

/// A table of a file.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) file: &'a TextFile,
    inner: &'a DeTable<'a>,
    pub(super) at: usize,
}

/// A value, under which key it is, and where.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    file: &'a TextFile,
    key: &'a str,
    at: usize,
    inner: &'a DeValue<'a>,
}

impl<'a> Table<'a> {
    pub(super) fn get(&self, key: &'a str) -> Option<Value<'a>> {
        let value = self.inner.get(key)?;
        Some(Value { file: self.file, key, at: value.span().start, inner: value.get_ref() })
    }

    /// The tables in this one, in the order of the file.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Table<'a>)>, SourceError> {
        let mut found = Vec::new();
        for (key, value) in self.inner {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let table = Value { file: self.file, key: name, at, inner: value.get_ref() }.as_table()?;
            found.push((name, table));
        }
        found.sort_by_key(|(_, table)| table.at);
        Ok(found)
    }

    pub(super) fn boolean(&self, key: &'a str) -> Result<Option<bool>, SourceError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.inner.as_bool().ok_or_else(|| value.wanted("true or false")).map(Some)
    }

    /// The tables of an array of tables; none when the key is not there.
    pub(super) fn tables(&self, key: &'a str) -> Result<Vec<Table<'a>>, SourceError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        value.items()?.iter().map(Value::as_table).collect()
    }
}

impl<'a> Value<'a> {
    pub(super) fn wanted(&self, what: &str) -> SourceError {
        self.error(format!("it has to be {what}, and is of the type {}", self.inner.type_str()))
    }

    pub(super) fn error(&self, reason: impl std::fmt::Display) -> SourceError {
        self.file.error(self.at, format!("{}: {reason}", self.key))
    }

    pub(super) fn origin(&self) -> Origin {
        self.file.origin(self.at)
    }

    pub(super) fn as_str(&self) -> Result<&'a str, SourceError> {
        self.inner.as_str().ok_or_else(|| self.wanted("a text"))
    }

    /// The text as what it stands for.
    pub(super) fn parse<T: std::str::FromStr<Err = String>>(&self) -> Result<T, SourceError> {
        self.as_str()?.parse().map_err(|reason: String| self.error(reason))
    }

    pub(super) fn as_table(&self) -> Result<Table<'a>, SourceError> {
        let inner = self.inner.as_table().ok_or_else(|| self.wanted("a table"))?;
        Ok(Table { file: self.file, inner, at: self.at })
    }

    pub(super) fn is_list(&self) -> bool {
        self.inner.is_array()
    }

    pub(super) fn items(&self) -> Result<Vec<Value<'a>>, SourceError> {
        let array = self.inner.as_array().ok_or_else(|| self.wanted("a list"))?;
        let items = array.iter();
        Ok(items.map(|item| Value { at: item.span().start, inner: item.get_ref(), ..*self }).collect())
    }
}
