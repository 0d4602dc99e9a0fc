//! `du` and `prune`.

use std::path::Path;
use std::process::ExitCode;

use ocibuild::Error;
use ocibuild::state::{DiskUsage, PruneOptions};
use serde_json::json;

use crate::args::{DuArgs, PruneArgs, SnapshotterArg, TableFormat};
use crate::backends::open_state;
use crate::failure::{Failure, Outcome};
use crate::state_dir::state_dir;
use crate::table::{human_size, table};
use crate::terminal::to_stdout;
use crate::values;

/// What takes up space.
pub(crate) fn du(root: Option<&Path>, args: &DuArgs) -> Outcome {
    let shop = open_state(&state_dir(root)?, SnapshotterArg::Auto)?;
    let usage = shop.state().disk_usage()?;
    let text = match args.format {
        TableFormat::Json => {
            let object = json!({
                "images": usage.images, "blobs": usage.blobs, "reclaimable": usage.reclaimable,
                "cached_blobs": usage.cached_blobs, "snapshots": usage.snapshots,
                "unneeded_snapshots": usage.unneeded_snapshots, "cache": usage.cache, "cache_mounts": usage.cache_mounts,
                "kept_steps": usage.kept_steps,
            });
            format!("{object}\n")
        }
        TableFormat::Table => {
            let row = |name: &str, sizes: [u64; 3]| {
                std::iter::once(name.to_owned()).chain(sizes.map(human_size)).collect::<Vec<_>>()
            };
            let head = ["TYPE", "SIZE", "RECLAIMABLE", "WITH --all"].map(str::to_owned).to_vec();
            let DiskUsage { blobs, reclaimable, snapshots, cache, cache_mounts, kept_steps, .. } = usage;
            table(&[
                head,
                row(
                    &format!("Blobs ({} images)", usage.images),
                    [blobs, reclaimable, reclaimable + usage.cached_blobs],
                ),
                row("Unpacked layers", [snapshots, usage.unneeded_snapshots, snapshots]),
                row("Cache records", [cache, 0, cache]),
                row("Cache mounts", [cache_mounts, 0, cache_mounts]),
                row("Kept steps", [kept_steps; 3]),
            ])
        }
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What goes besides what nothing needs.
fn options(args: &PruneArgs) -> Result<PruneOptions, Error> {
    let mut options = PruneOptions::default();
    options.all = args.all;
    for filter in &args.filter {
        options.unused_for = Some(values::unused_for(filter)?);
    }
    options.keep_storage =
        args.keep_storage.as_deref().map(|text| values::size("--keep-storage", text)).transpose()?;
    Ok(options)
}

/// Frees what nobody needs.
pub(crate) fn prune(root: Option<&Path>, args: &PruneArgs) -> Outcome {
    let options = options(args)?;
    let shop = open_state(&state_dir(root)?, SnapshotterArg::Auto)?;
    let pruned = shop.state().prune(&options).map_err(|error| {
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
