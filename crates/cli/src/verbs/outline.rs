//! The answers to `build --call outline` and `--call targets`, as docker prints them.

use std::process::ExitCode;

use ocibuild::plan::{Outline, OutlineMount, Targets};
use ocibuild::spec::json;
use ocibuild::{Error, ErrorKind};
use serde::Serialize;

use crate::args::ReportFormat;
use crate::failure::Outcome;
use crate::table::table;
use crate::terminal::to_stdout;
use crate::text::printable;

pub(super) fn print_outline(outline: &Outline, format: ReportFormat) -> Outcome {
    print(outline, format, outline_text)
}

pub(super) fn print_targets(targets: &Targets, format: ReportFormat) -> Outcome {
    print(targets, format, targets_text)
}

fn print<T: Serialize>(answer: &T, format: ReportFormat, text: fn(&T) -> String) -> Outcome {
    let bytes = match format {
        ReportFormat::Text => text(answer).into_bytes(),
        ReportFormat::Json => {
            let mut bytes = json::to_vec_pretty(answer).map_err(|error| {
                Error::new(ErrorKind::Host, "the answer cannot be written as JSON").caused_by(error)
            })?;
            bytes.push(b'\n');
            bytes
        }
    };
    to_stdout(&bytes)?;
    Ok(ExitCode::SUCCESS)
}

fn outline_text(outline: &Outline) -> String {
    let mut blocks = Vec::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        let mut block = vec![row(["TARGET:", name])];
        if !outline.description.is_empty() {
            block.push(row(["DESCRIPTION:", &outline.description]));
        }
        blocks.push(table(&block));
    }
    if !outline.args.is_empty() {
        let rows = outline.args.iter().map(|arg| row([&arg.name, &arg.value, &arg.description]));
        let head = row(["BUILD ARG", "VALUE", "DESCRIPTION"]);
        blocks.push(table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    blocks.extend(mounts("SECRET", &outline.secrets));
    blocks.extend(mounts("SSH", &outline.ssh));
    if !outline.cache.is_empty() {
        let rows = outline.cache.iter().map(|cache| row([&cache.id]));
        blocks.push(table(&std::iter::once(row(["CACHE"])).chain(rows).collect::<Vec<_>>()));
    }
    blocks.join("\n")
}

fn mounts(kind: &str, mounts: &[OutlineMount]) -> Option<String> {
    let rows = mounts.iter().map(|mount| row([&mount.name, if mount.required { "true" } else { "" }]));
    let all: Vec<_> = std::iter::once(row([kind, "REQUIRED"])).chain(rows).collect();
    (!mounts.is_empty()).then(|| table(&all))
}

fn targets_text(targets: &Targets) -> String {
    let rows = targets.targets.iter().map(|target| {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        row([&name, &target.description])
    });
    table(&std::iter::once(row(["TARGET", "DESCRIPTION"])).chain(rows).collect::<Vec<_>>())
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(printable).into()
}
