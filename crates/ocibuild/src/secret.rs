//! Secrets as the caller gives them, and their values, which are read when they are needed and kept nowhere.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_executor::Private;

use crate::error::{Error, ErrorKind, unusable};

/// Larger secrets are refused, as BuildKit does.
const MAX_SECRET: u64 = 500 << 10;

/// Where the value of a secret comes from; the value itself is read when a step mounts it, and kept nowhere.
#[derive(Clone)]
#[non_exhaustive]
pub enum Secret {
    /// A file.
    File(PathBuf),
    /// The value.
    Value(Vec<u8>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

/// The value of a secret, read now and kept nowhere.
pub(crate) fn secret_value(secret: &Secret, id: &str) -> Result<Private, Error> {
    match secret {
        Secret::Value(value) if value.len() as u64 > MAX_SECRET => Err(too_large(id)),
        Secret::Value(value) => Ok(Private::from(value.clone())),
        Secret::File(path) => read(path, id),
    }
}

fn read(path: &Path, id: &str) -> Result<Private, Error> {
    let file = fs::File::open(path).map_err(|error| unusable(path, error))?;
    let mut value = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut value).map_err(|error| unusable(path, error))?;
    if value.len() as u64 > MAX_SECRET {
        return Err(too_large(id));
    }
    Ok(Private::from(value))
}

fn too_large(id: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("secret {id} has more than 500 KiB"))
        .hint("large files are what COPY and bind mounts are for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_a_largest_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for (size, fits) in [(500 << 10, true), ((500 << 10) + 1, false)] {
            fs::write(&path, vec![b'x'; size]).unwrap();
            assert_eq!(read(&path, "id").is_ok(), fits);
            assert_eq!(secret_value(&Secret::Value(vec![b'x'; size]), "id").is_ok(), fits);
        }
    }
}
