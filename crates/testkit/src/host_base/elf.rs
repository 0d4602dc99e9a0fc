//! As much of ELF as it takes to know what a program needs beside itself.

use std::ops::Range;

/// An executable or shared library, its headers checked.
pub(super) struct Elf<'b> {
    bytes: &'b [u8],
    wide: bool,
    little: bool,
}

/// What the dynamic section of a file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Names of libraries.
    pub(super) libraries: Vec<String>,
    /// Directories to look in first, with `$ORIGIN` in them as it is written.
    pub(super) directories: Vec<String>,
}

/// Class, byte order and machine: libraries of another one are of no use.
pub(super) type Kind = (u8, u8, u64);

const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const INTERPRETER: u64 = 3;

const NEEDED: u64 = 1;
const STRINGS: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;

/// A program header.
struct Segment {
    kind: u64,
    file: Range<usize>,
    address: u64,
}

impl<'b> Elf<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Option<Self> {
        let ident = bytes.get(..16)?;
        let known = ident.starts_with(b"\x7fELF") && matches!(ident[4], 1 | 2) && matches!(ident[5], 1 | 2);
        known.then_some(Self { bytes, wide: ident[4] == 2, little: ident[5] == 1 })
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        Some((self.bytes[4], self.bytes[5], self.number(18, 2)?))
    }

    /// The program that loads this one; none for a library and for what is linked statically.
    pub(super) fn interpreter(&self) -> Option<&'b str> {
        let segment = self.segments()?.into_iter().find(|segment| segment.kind == INTERPRETER)?;
        let text = self.bytes.get(segment.file)?;
        std::str::from_utf8(text.strip_suffix(b"\0").unwrap_or(text)).ok()
    }

    /// What is in the dynamic section; nothing when there is none.
    pub(super) fn needs(&self) -> Needs {
        self.dynamic().unwrap_or_default()
    }

    fn dynamic(&self) -> Option<Needs> {
        let segments = self.segments()?;
        let dynamic = segments.iter().find(|segment| segment.kind == DYNAMIC)?;
        let word = if self.wide { 8 } else { 4 };
        let entries: Vec<(u64, u64)> = dynamic
            .file
            .clone()
            .step_by(2 * word)
            .map_while(|at| Some((self.number(at, word)?, self.number(at + word, word)?)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let address = entries.iter().find(|(tag, _)| *tag == STRINGS)?.1;
        let table = segments.iter().filter(|segment| segment.kind == LOAD).find_map(|segment| {
            let offset = usize::try_from(address.checked_sub(segment.address)?).ok()?;
            (offset < segment.file.len()).then_some(segment.file.start + offset)
        })?;
        let texts = |wanted: u64| {
            let with_tag = entries.iter().filter(move |(tag, _)| *tag == wanted);
            with_tag.filter_map(|(_, offset)| self.text(table.checked_add(usize::try_from(*offset).ok()?)?))
        };
        // A library with a RUNPATH ignores its own RPATH.
        let run: Vec<&str> = texts(RUNPATH).collect();
        let paths = if run.is_empty() { texts(RPATH).collect() } else { run };
        let directories = paths.iter().flat_map(|list| list.split(':')).filter(|path| !path.is_empty());
        Some(Needs {
            libraries: texts(NEEDED).map(str::to_owned).collect(),
            directories: directories.map(str::to_owned).collect(),
        })
    }

    fn segments(&self) -> Option<Vec<Segment>> {
        let (table, size, count) = if self.wide {
            (self.number(32, 8)?, self.number(54, 2)?, self.number(56, 2)?)
        } else {
            (self.number(28, 4)?, self.number(42, 2)?, self.number(44, 2)?)
        };
        let (table, size) = (usize::try_from(table).ok()?, usize::try_from(size).ok()?);
        let starts = (0..usize::try_from(count).ok()?).map(|index| table.checked_add(index * size));
        starts.map(|at| self.segment(at?)).collect()
    }

    fn segment(&self, at: usize) -> Option<Segment> {
        let (offset, address, size, width) = if self.wide { (8, 16, 32, 8) } else { (4, 8, 16, 4) };
        let field = |offset: usize| self.number(at.checked_add(offset)?, width);
        let start = usize::try_from(field(offset)?).ok()?;
        let length = usize::try_from(field(size)?).ok()?;
        Some(Segment {
            kind: self.number(at, 4)?,
            file: start..start.checked_add(length)?,
            address: field(address)?,
        })
    }

    fn number(&self, at: usize, width: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(width)?)?.iter();
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.little { bytes.rev().fold(0, fold) } else { bytes.fold(0, fold) })
    }

    fn text(&self, at: usize) -> Option<&'b str> {
        let rest = self.bytes.get(at..)?;
        std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0)?]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_needs_the_c_library() {
        let bytes = fs_err::read("/proc/self/exe").unwrap();
        let program = Elf::parse(&bytes).unwrap();
        if program.interpreter().is_none() {
            return crate::skip("these tests are linked statically");
        }
        let libraries = program.needs().libraries;
        assert!(libraries.iter().any(|name| name.starts_with("libc.")), "{libraries:?}");
    }

    #[test]
    fn damaged_files_are_no_programs() {
        let bytes = fs_err::read("/proc/self/exe").unwrap();
        for length in [0, 4, 15] {
            assert!(Elf::parse(&bytes[..length]).is_none());
        }
        for length in [16, 40, 64, 200, 4096] {
            let cut = Elf::parse(&bytes[..length]).unwrap();
            assert_eq!(cut.needs(), Needs::default(), "{length}");
        }
        let mut wild = bytes[..4096].to_vec();
        wild[32..40].fill(0xff);
        assert!(Elf::parse(&wild).unwrap().interpreter().is_none());
    }
}
