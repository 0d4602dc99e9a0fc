use std::path::Path;
use std::process::ExitCode;

use ocibuild::{ContextEntry, ContextEntryKind, ContextVerdict, LocalContext};
use serde_json::json;

use crate::args::{ContextLsArgs, ReportFormat};
use crate::failure::Outcome;
use crate::terminal::to_stdout;
use crate::text::printable;

/// Lists what is in a build context, or says of one path whether it is.
pub(crate) fn context_ls(args: &ContextLsArgs) -> Outcome {
    let dockerfile = args.file.clone().unwrap_or_else(|| args.context.join("Dockerfile"));
    let context = LocalContext::open_for(&args.context, &dockerfile)?;
    let text = match &args.why {
        Some(path) => why(&context, path.strip_prefix(&args.context).unwrap_or(path), args.format)?,
        None => return list(&context, args.format),
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn list(context: &LocalContext, format: ReportFormat) -> Outcome {
    let (mut count, mut total) = (0_u64, 0_u64);
    let mut entries = Vec::new();
    context.entries(&mut |entry| {
        count += 1;
        total += entry.size;
        match format {
            ReportFormat::Text => to_stdout(line(&entry).as_bytes()),
            ReportFormat::Json => {
                let path = entry.path.to_string_lossy();
                entries.push(json!({ "path": path, "type": type_name(entry.kind), "size": entry.size }));
                Ok(())
            }
        }
    })?;
    let end = match format {
        ReportFormat::Text => format!("{total:>12} in {count} entries\n"),
        ReportFormat::Json => format!("{:#}\n", json!({ "v": 1, "entries": entries, "size": total })),
    };
    to_stdout(end.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn line(entry: &ContextEntry) -> String {
    let slash = if entry.kind == ContextEntryKind::Directory { "/" } else { "" };
    format!("{:>12} {}{slash}\n", entry.size, printable(&entry.path.to_string_lossy()))
}

fn type_name(kind: ContextEntryKind) -> &'static str {
    match kind {
        ContextEntryKind::Directory => "directory",
        ContextEntryKind::File => "file",
        ContextEntryKind::Symlink => "symlink",
        _ => "special",
    }
}

fn why(context: &LocalContext, path: &Path, format: ReportFormat) -> Result<String, ocibuild::Error> {
    let verdict = context.why(path)?;
    Ok(match format {
        ReportFormat::Text => explained(&verdict),
        ReportFormat::Json => {
            let decided = verdict.decided.as_ref().map(|decided| {
                json!({
                    "file": decided.file, "line": decided.line, "pattern": decided.pattern,
                    "matched": decided.matched.to_string_lossy(),
                })
            });
            let object = json!({
                "v": 1, "path": verdict.path.to_string_lossy(), "exists": verdict.exists,
                "in_context": verdict.exists && verdict.kept, "kept": verdict.kept,
                "for_what_is_below": verdict.for_what_is_below, "decided": decided,
            });
            format!("{object:#}\n")
        }
    })
}

fn explained(verdict: &ContextVerdict) -> String {
    let path = printable(&verdict.path.to_string_lossy());
    let state = match (verdict.exists, verdict.kept) {
        (true, true) => "in the context",
        (true, false) => "not in the context",
        (false, true) => "does not exist; it would be in the context",
        (false, false) => "does not exist; it would not be in the context",
    };
    let reason = match &verdict.decided {
        None => "no pattern matches it".to_owned(),
        Some(decided) => {
            let what = if decided.matched == verdict.path {
                "matches it".to_owned()
            } else {
                format!("matches the directory {} above it", printable(&decided.matched.to_string_lossy()))
            };
            format!(
                "{}:{} \"{}\" {what}",
                printable(&decided.file),
                decided.line,
                printable(&decided.pattern)
            )
        }
    };
    let below = if verdict.for_what_is_below { "; it is included for what is kept below it" } else { "" };
    format!("{path}: {state}: {reason}{below}\n")
}
