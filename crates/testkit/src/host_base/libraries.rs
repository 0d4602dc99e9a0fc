//! Where the loader of this host would find a library.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::elf::{Elf, Kind};

/// Directories that loaders look in without being told, besides those of the file that needs the library.
const DIRECTORIES: [&str; 7] =
    ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/lib32", "/usr/lib32"];

/// The libraries of this host.
pub(super) struct Libraries {
    /// Names and paths from the loader's cache.
    cached: Vec<(String, PathBuf)>,
    directories: Vec<PathBuf>,
}

impl Libraries {
    pub(super) fn of_this_host() -> Self {
        let cached =
            fs::read("/etc/ld.so.cache").ok().and_then(|cache| parse_cache(&cache)).unwrap_or_default();
        let arch = std::env::consts::ARCH;
        let multiarch = ["/lib", "/usr/lib"].map(|path| PathBuf::from(format!("{path}/{arch}-linux-gnu")));
        let directories = DIRECTORIES.iter().map(PathBuf::from).chain(multiarch).collect();
        Self { cached, directories }
    }

    /// The library `name` of the right kind, for a file in `origin` that asks for `directories` to be looked in first.
    /// `beside` is where the loader itself is, which knows that directory.
    pub(super) fn find(
        &self,
        name: &str,
        kind: Kind,
        directories: &[String],
        origin: &Path,
        beside: &Path,
    ) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| is_of(path, kind));
        }
        let origin = origin.to_string_lossy();
        let expand = |path: &String| path.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
        let own = directories.iter().map(|path| Path::new(&expand(path)).join(name));
        let cached = self.cached.iter().filter(|(cached, _)| cached == name).map(|(_, path)| path.clone());
        let usual = self.directories.iter().map(|directory| directory.join(name));
        own.chain(cached).chain([beside.join(name)]).chain(usual).find(|path| is_of(path, kind))
    }
}

fn is_of(path: &Path, kind: Kind) -> bool {
    fs::read(path).is_ok_and(|bytes| Elf::parse(&bytes).is_some_and(|elf| elf.kind() == Some(kind)))
}

/// The entries of `ld.so.cache` for any processor, in the format that glibc writes since 2.2, alone or behind the one
/// before it.
fn parse_cache(bytes: &[u8]) -> Option<Vec<(String, PathBuf)>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let cache = &bytes[start..];
    let number = |at: usize| Some(u32::from_ne_bytes(cache.get(at..at + 4)?.try_into().ok()?) as usize);
    let text = |at: usize| {
        let rest = cache.get(at..)?;
        std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0)?]).ok()
    };
    let entries = (0..number(20)?).map(|index| HEADER + index * ENTRY).map_while(|at| {
        let capabilities = cache.get(at + 16..at + 24)?;
        let (name, path) = (text(number(at + 4)?)?, text(number(at + 8)?)?);
        Some((capabilities == [0; 8]).then(|| (name.to_owned(), PathBuf::from(path))))
    });
    Some(entries.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_and_damaged_ones_are_short() {
        let mut cache = b"older format in front glibc-ld.so.cache1.1".to_vec();
        let start = cache.len() - 20;
        cache.extend(2_u32.to_ne_bytes());
        cache.resize(start + 48, 0);
        for (name, path, capabilities) in [(96_u32, 105_u32, 0_u64), (96, 105, 7)] {
            cache.extend([0; 4]);
            cache.extend(name.to_ne_bytes());
            cache.extend(path.to_ne_bytes());
            cache.extend([0; 4]);
            cache.extend(capabilities.to_ne_bytes());
        }
        cache.extend(b"libx.so.\0/lib/libx.so.\0");
        let found = parse_cache(&cache).unwrap();
        assert_eq!(found, [("libx.so.".to_owned(), PathBuf::from("/lib/libx.so."))]);
        assert_eq!(parse_cache(&cache[..start + 60]).unwrap(), []);
        assert!(parse_cache(b"nothing").is_none());
    }
}
