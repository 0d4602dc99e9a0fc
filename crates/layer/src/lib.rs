//! Changeset to tar to compressed blob in one pass, and back, confined.
#![forbid(unsafe_code)]

mod apply;
mod blocks;
mod codec;
mod compression;
mod decompress;
mod error;
mod extract;
mod header;
mod index;
mod limits;
mod name;
mod pax;
mod raw;
mod reader;
mod tree;
mod write;

pub use apply::{Applied, ApplyOptions, Devices, Owners, Skipped, WhiteoutFormat, apply};
pub use compression::{Compression, FORMAT_VERSION};
pub use decompress::{Format, decompress, decompress_layer, sniff};
pub use error::{Error, ErrorKind};
pub use extract::extract_files;
pub use index::LayerIndex;
pub use limits::Limits;
pub use reader::{Policy, TarEntry, TarReader, is_tar};
pub use write::{LayerOptions, WrittenLayer, write};
