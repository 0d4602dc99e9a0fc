//! `ast`, `expand` and `ignore`: parts of the library for other programs, in formats that do not change.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use ocibuild::dockerfile::{expand as expansion, ignore_protocol, nodes_json, parse_nodes};
use ocibuild::{Error, ErrorKind, read_dockerfile};

use crate::failure::{Failure, Outcome, SourceText, host};
use crate::input::read_file_or_stream;
use crate::terminal::to_stdout;

/// The syntax tree as JSON.
pub(crate) fn ast(file: &Path) -> Outcome {
    let bytes = read_file_or_stream(file, read_dockerfile)?;
    let nodes = parse_nodes(&bytes).map_err(|errors| {
        let source = SourceText { name: file.display().to_string(), text: errors.source.clone() };
        Failure::from(errors).with_source(source)
    })?;
    to_stdout(format!("{}\n", nodes_json(&nodes)).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Answers one line for each line. A program at the other end may wait for each answer.
pub(crate) fn expand() -> Outcome {
    let mut input = io::BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        let length =
            input.read_until(b'\n', &mut line).map_err(|error| host("cannot read standard input", error))?;
        if length == 0 {
            return written(output.flush());
        }
        let answer = expansion::answer_line(&String::from_utf8_lossy(&line));
        let mut result = writeln!(output, "{answer}");
        if input.buffer().is_empty() {
            result = result.and_then(|()| output.flush());
        }
        if result.is_err() {
            return written(result);
        }
    }
}

fn written(result: io::Result<()>) -> Outcome {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(host("cannot write standard output", error).into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Answers when all paths are known: a directory is kept for what is below it.
pub(crate) fn ignore(file: &Path) -> Outcome {
    let patterns = fs_err::read(file).map_err(|error| {
        Error::new(ErrorKind::Usage, "cannot read the ignore file")
            .hint("name an existing file that can be read")
            .caused_by(error)
    })?;
    let mut paths = Vec::new();
    io::stdin().lock().read_to_end(&mut paths).map_err(|error| host("cannot read standard input", error))?;
    let answers = ignore_protocol(&patterns, &paths).map_err(|error| {
        let message = format!("{}:{}: {error}", file.display(), error.line);
        Error::new(ErrorKind::Dockerfile, message)
    })?;
    to_stdout(answers.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
