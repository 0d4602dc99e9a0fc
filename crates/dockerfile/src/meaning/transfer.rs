//! `COPY` and `ADD`.

use std::collections::HashMap;

use super::flags::{Flags, Known, Takes};
use super::{Reading, Result};
use crate::Code;
use crate::node::BorrowedWord;
use crate::syntax::heredoc;
use crate::{Add, Copy, Heredoc, InstructionKind, Text, Transfer};

/// All heredocs of an instruction together. A body counts for each of its names' uses, so that this can be more than
/// the file itself.
const MAX_HEREDOC_BYTES: usize = 32 << 20;

const COPY_FLAGS: Known = &[
    ("from", Takes::Text),
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Boolean),
    ("parents", Takes::Boolean),
    ("exclude", Takes::List),
];

const ADD_FLAGS: Known = &[
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Boolean),
    ("exclude", Takes::List),
    ("checksum", Takes::Text),
    ("keep-git-dir", Takes::Boolean),
    ("unpack", Takes::Boolean),
];

pub(super) fn copy(reading: &Reading<'_>) -> Result<InstructionKind> {
    reading.require_destination()?;
    let flags = reading.flags(COPY_FLAGS)?;
    let copy = Copy {
        transfer: transfer(reading, &flags)?,
        from: reading.value(&flags, "from"),
        parents: flags.boolean("parents").unwrap_or_default(),
    };
    Ok(InstructionKind::Copy(Box::new(copy)))
}

pub(super) fn add(reading: &Reading<'_>) -> Result<InstructionKind> {
    reading.require_destination()?;
    let flags = reading.flags(ADD_FLAGS)?;
    let add = Add {
        transfer: transfer(reading, &flags)?,
        checksum: reading.value(&flags, "checksum"),
        keep_git_dir: flags.boolean("keep-git-dir"),
        unpack: flags.boolean("unpack"),
    };
    Ok(InstructionKind::Add(Box::new(add)))
}

fn transfer(reading: &Reading<'_>, flags: &Flags<'_>) -> Result<Transfer> {
    let Some((destination, words)) = reading.node.arguments.split_last() else {
        return Err(reading.at_least_one());
    };
    if heredoc::start(&destination.text).is_some() {
        let message = format!("{} cannot accept a heredoc as a destination", reading.name);
        let error = reading.error(Code::HeredocDestination, message).label(destination.span);
        return Err(error.hint(format!(
            "write the destination after the heredoc: {} {} /path/in/the/image",
            reading.name, destination.text
        )));
    }
    let (heredocs, sources) = sources(reading, words)?;
    Ok(Transfer {
        sources,
        heredocs,
        destination: reading.word(destination),
        chown: reading.value(flags, "chown"),
        chmod: reading.value(flags, "chmod"),
        link: flags.boolean("link").unwrap_or_default(),
        excludes: reading.values(flags, "exclude"),
    })
}

/// Tells heredocs from paths. A word that looks like the start of a heredoc is one, even in the JSON form.
fn sources(reading: &Reading<'_>, words: &[BorrowedWord<'_>]) -> Result<(Vec<Heredoc>, Vec<Text>)> {
    // Of several bodies with one name the last counts.
    let contents: HashMap<&str, &str> =
        reading.node.heredocs.iter().map(|body| (&body.name[..], &body.content[..])).collect();
    let mut heredocs = Vec::new();
    let mut total = 0;
    let mut paths = Vec::with_capacity(words.len());
    for word in words {
        let Some(start) = heredoc::start(&word.text) else {
            paths.push(reading.word(word));
            continue;
        };
        let content = contents.get(&start.name[..]).copied().unwrap_or_default();
        total += content.len();
        if total > MAX_HEREDOC_BYTES {
            let message = format!("the heredocs are larger than {MAX_HEREDOC_BYTES} bytes");
            let error = reading.error(Code::HeredocsTooLarge, message).label(word.span);
            return Err(error.hint("put the text into a file of the context and copy that"));
        }
        heredocs.push(Heredoc {
            content: chomped(reading, content, start.chomp),
            name: reading.text(&start.name),
            expand: start.expand,
            chomp: start.chomp,
            file_descriptor: start.file_descriptor,
        });
    }
    Ok((heredocs, paths))
}

/// The body of a heredoc, if asked for without the tabs at the beginning of its lines.
pub(super) fn chomped(reading: &Reading<'_>, body: &str, chomp: bool) -> Text {
    if !chomp {
        return reading.text(body);
    }
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect::<String>().into()
}
