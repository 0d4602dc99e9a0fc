use std::path::Path;
use std::process::ExitCode;

use ocibuild::spec::{History, Timestamp};
use ocibuild::state::ImageDetails;
use serde_json::json;

use crate::args::{HistoryArgs, TableFormat};
use crate::backends::Workshop;
use crate::failure::Outcome;
use crate::state_dir::state_dir;
use crate::table::{age, human_size, now, short_id, table};
use crate::terminal::to_stdout;
use crate::text::printable;
use crate::values::reference;

/// Columns of an instruction that docker shows.
const SHOWN: usize = 45;

/// One entry with the size of its layer, the newest first.
struct Row<'a> {
    entry: &'a History,
    size: u64,
}

/// Docker's table.
pub(crate) fn history(root: Option<&Path>, args: &HistoryArgs) -> Outcome {
    let name = reference(&args.image)?;
    let shop = Workshop::open_plainly(&state_dir(root)?)?;
    let image = shop.state().inspect(&name)?;
    let rows = rows(&image);
    let text = match args.format {
        TableFormat::Json => rows.iter().map(|row| format!("{}\n", object(row))).collect::<Vec<_>>().concat(),
        TableFormat::Table => {
            let header = ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"].map(str::to_owned).to_vec();
            let now = now();
            let lines = rows.iter().enumerate().map(|(number, row)| {
                let id = if number == 0 {
                    short_id(&image.manifest.config.digest)
                } else {
                    "<missing>".to_owned()
                };
                cells(row, id, args.no_trunc, now)
            });
            table(&std::iter::once(header).chain(lines).collect::<Vec<_>>())
        }
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn rows(image: &ImageDetails) -> Vec<Row<'_>> {
    let mut layers = image.manifest.layers().iter();
    let mut rows: Vec<Row<'_>> = image
        .config
        .history
        .iter()
        .map(|entry| {
            let layer = if entry.empty_layer { None } else { layers.next() };
            Row { entry, size: layer.map_or(0, |layer| layer.size) }
        })
        .collect();
    rows.reverse();
    rows
}

fn cells(row: &Row<'_>, id: String, whole: bool, now: Timestamp) -> Vec<String> {
    let instruction = printable(&row.entry.created_by);
    let shown = if whole || instruction.chars().count() <= SHOWN {
        instruction
    } else {
        instruction.chars().take(SHOWN - 1).chain(['…']).collect()
    };
    vec![id, age(row.entry.created, now), shown, human_size(row.size), printable(&row.entry.comment)]
}

fn object(row: &Row<'_>) -> serde_json::Value {
    json!({
        "CreatedAt": row.entry.created.map(|time| time.to_string()),
        "CreatedBy": row.entry.created_by,
        "Size": row.size,
        "Comment": row.entry.comment,
    })
}
