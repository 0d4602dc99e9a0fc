use std::path::Path;
use std::process::ExitCode;

use ocibuild::spec::{History, Timestamp};
use ocibuild::state::ImageDetails;

use crate::args::HistoryArgs;
use crate::backends::open_images;
use crate::failure::Outcome;
use crate::listing::{Format, given};
use crate::state_dir::state_dir;
use crate::table::{age, ellipsis, human_size, now, rfc3339, short_id};
use crate::template::{Record, Value};
use crate::terminal::to_stdout;
use crate::text::printable;

/// Columns of an instruction that docker shows.
const SHOWN: usize = 45;

const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const EXACT_TABLE: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// Docker's table.
pub(crate) fn history(root: Option<&Path>, args: &HistoryArgs) -> Outcome {
    let table = if args.human { TABLE } else { EXACT_TABLE };
    let format = match (given(args.format.as_deref()), args.quiet) {
        ("table", true) => Format::read("{{.ID}}", table)?,
        (text, _) => Format::read(text, table)?,
    };
    let shop = open_images(&state_dir(root)?)?;
    let state = shop.state();
    let image = state.details(&state.find(&args.image)?.descriptor)?;
    let sizes = state.layer_sizes(&image)?;
    let is_json = matches!(format, Format::Json);
    let rows = rows(&image, &sizes, args, is_json);
    to_stdout(format.render(&header(), &rows)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The titles of columns, and with it the fields there are.
fn header() -> Value {
    Record::row(
        [
            ("Comment", "COMMENT"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("CreatedSince", "CREATED"),
            ("ID", "IMAGE"),
            ("Size", "SIZE"),
        ]
        .map(|(name, title)| (name, title.to_owned())),
    )
}

/// The newest first, each with the size of its layer.
fn rows(image: &ImageDetails, sizes: &[u64], args: &HistoryArgs, is_json: bool) -> Vec<Value> {
    let mut sizes = sizes.iter().copied();
    let sized: Vec<(&History, u64)> = image
        .config
        .history
        .iter()
        .map(|entry| (entry, if entry.empty_layer { 0 } else { sizes.next().unwrap_or_default() }))
        .collect();
    let now = now();
    let id = &image.manifest.config.digest;
    let id = if args.no_trunc { id.to_string() } else { short_id(id) };
    let ids = std::iter::once(id).chain(std::iter::repeat("<missing>".to_owned()));
    sized
        .into_iter()
        .rev()
        .zip(ids)
        .map(|((entry, size), id)| row(entry, size, id, args, now, is_json))
        .collect()
}

fn row(entry: &History, size: u64, id: String, args: &HistoryArgs, now: Timestamp, is_json: bool) -> Value {
    // What a terminal may not get is in these texts at will; JSON has escapes of its own.
    let fit = |text: &str| if is_json { text.to_owned() } else { printable(text) };
    let instruction = entry.created_by.replace('\t', " ");
    let instruction = if args.no_trunc { instruction } else { ellipsis(&instruction, SHOWN) };
    let at = entry.created.map(rfc3339).unwrap_or_default();
    let since = match entry.created {
        Some(time) if args.human => age(time, now),
        Some(_) => at.clone(),
        None => "N/A".to_owned(),
    };
    Record::row([
        ("Comment", fit(&entry.comment)),
        ("CreatedAt", at),
        ("CreatedBy", fit(&instruction)),
        ("CreatedSince", since),
        ("ID", id),
        ("Size", if args.human { human_size(size) } else { size.to_string() }),
    ])
}
