//! `du` and `prune`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::args::{DuArgs, PruneArgs, SnapshotterArg, TableFormat};
use crate::backends::open_state;
use crate::failure::{Failure, Outcome};
use crate::state_dir::state_dir;
use crate::table::{human_size, table};
use crate::terminal::to_stdout;

/// What takes up space.
pub(crate) fn du(root: Option<&Path>, args: &DuArgs) -> Outcome {
    let shop = open_state(&state_dir(root)?, SnapshotterArg::Auto)?;
    let usage = shop.state().disk_usage()?;
    let text = match args.format {
        TableFormat::Json => {
            let object = json!({
                "images": usage.images, "blobs": usage.blobs, "reclaimable": usage.reclaimable,
                "snapshots": usage.snapshots, "cache": usage.cache, "cache_mounts": usage.cache_mounts,
                "kept_steps": usage.kept_steps,
            });
            format!("{object}\n")
        }
        TableFormat::Table => {
            let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
            let kept = human_size(usage.kept_steps);
            let (blobs, reclaimable) = (human_size(usage.blobs), human_size(usage.reclaimable));
            table(&[
                row(["TYPE", "SIZE", "RECLAIMABLE"]),
                row([&format!("Blobs ({} images)", usage.images), &blobs, &reclaimable]),
                row(["Unpacked layers", &human_size(usage.snapshots), ""]),
                row(["Cache records", &human_size(usage.cache), ""]),
                row(["Cache mounts", &human_size(usage.cache_mounts), ""]),
                row(["Kept steps", &kept, &kept]),
            ])
        }
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Frees what nobody needs.
pub(crate) fn prune(root: Option<&Path>, args: &PruneArgs) -> Outcome {
    let shop = open_state(&state_dir(root)?, SnapshotterArg::Auto)?;
    let pruned = shop.state().prune(args.all).map_err(|error| {
        let mut failure = Failure::from(error);
        failure.note(&shop);
        failure
    })?;
    let text = format!(
        "Removed {} blobs, {} unpacked layers, {} cached steps, {} kept steps, {} leftovers\nTotal reclaimed space: {}\n",
        pruned.blobs,
        pruned.snapshots,
        pruned.records,
        pruned.kept_steps,
        pruned.leftovers,
        human_size(pruned.bytes),
    );
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
