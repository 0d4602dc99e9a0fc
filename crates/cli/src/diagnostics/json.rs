//! Errors for editors and other programs; `docs/formats/diagnostics.md` is the contract.

use ocibuild::Place;
use ocibuild::dockerfile::line_column;
use serde_json::{Value, json};

use super::{hints, place, reasons};
use crate::failure::Failure;

/// One object for each thing that is wrong.
pub(crate) fn reports(failure: &Failure) -> Vec<Value> {
    failure.error.reports().iter().map(|report| object(failure, report)).collect()
}

fn object(failure: &Failure, report: &ocibuild::Report) -> Value {
    let kind = failure.error.kind().name();
    let mut object = json!({
        "id": if report.id.is_empty() { kind } else { report.id },
        "severity": "error",
        "message": report.message,
        "place": place(failure, report),
        "file": null, "line": null, "column": null, "end_line": null, "end_column": null,
        "lines": report.location.map(|location| [location.start_line, location.end_line]),
        "causes": reasons(report, failure),
        "hints": hints(report, failure),
    });
    let source = failure.source.as_ref();
    if let (Some(location), Some(source)) = (report.location, source) {
        let span = report.label.unwrap_or(location.span);
        let (line, column) = line_column(&source.text, span.start);
        let (end_line, end_column) = line_column(&source.text, span.end);
        object["file"] = source.name.clone().into();
        object["line"] = line.into();
        object["column"] = column.into();
        object["end_line"] = end_line.into();
        object["end_column"] = end_column.into();
        return object;
    }
    match &report.place {
        Some(Place::Line { file, line, text }) => {
            object["file"] = file.clone().into();
            object["line"] = (*line).into();
            object["column"] = 1.into();
            object["end_line"] = (*line).into();
            object["end_column"] = (text.chars().count() + 1).into();
        }
        Some(Place::File(file)) => object["file"] = file.clone().into(),
        _ if failure.error.kind() == ocibuild::ErrorKind::Dockerfile => {
            object["file"] = source.map(|source| source.name.clone()).into();
        }
        _ => {}
    }
    object
}
