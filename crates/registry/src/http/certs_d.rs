//! Folders about hosts, `certs.d/HOST[:PORT]/`, as docker, containers and containerd have them.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::tls::{ClientCertificate, HostTls, UnusableFile};

/// Directories with a folder for each host. In it, `*.crt` are authorities trusted for that host alone, and
/// `NAME.cert` with `NAME.key` is the certificate shown to it.
#[derive(Debug, Clone, Default)]
pub(super) struct CertsD(pub(super) Vec<PathBuf>);

impl CertsD {
    /// What the folders say about a host: all authorities, and the first client certificate.
    pub(super) fn of(&self, host: &str, port: u16) -> Result<HostTls, UnusableFile> {
        let mut found = HostTls::default();
        for directory in &self.0 {
            for name in names(host, port) {
                let folder = directory.join(name);
                // Beside this file containerd looks at no other that it does not name.
                if folder.join("hosts.toml").exists() {
                    continue;
                }
                let of_folder = read_folder(&folder)?;
                found.ca.extend(of_folder.ca);
                found.client = found.client.or(of_folder.client);
            }
        }
        Ok(found)
    }
}

/// What the folder about a host may be called. The port that is not written in references need not be written here.
fn names(host: &str, port: u16) -> Vec<String> {
    // References have another name for this one.
    let host = if host == "registry-1.docker.io" { "docker.io" } else { host };
    let mut names = vec![format!("{host}_{port}_"), format!("{host}:{port}")];
    if port == 443 {
        names.push(host.to_owned());
    }
    names
}

fn read_folder(folder: &Path) -> Result<HostTls, UnusableFile> {
    let files = match files_of(folder) {
        Ok(files) => files,
        // Folders of the system may be closed to this user, whose images then come as if there were none.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(HostTls::default());
        }
        Err(error) => return Err(UnusableFile::new(folder, error)),
    };
    let with = |extension: &str| -> Vec<&PathBuf> {
        files.iter().filter(|path| path.extension() == Some(OsStr::new(extension))).collect()
    };
    for (from, to, hint) in
        [("cert", "key", "; certificates of authorities have the extension .crt"), ("key", "cert", "")]
    {
        for path in with(from) {
            let partner = path.with_extension(to);
            if !files.contains(&partner) {
                let missing = partner.file_name().unwrap_or_default().display();
                return Err(UnusableFile::new(path, format!("{missing} is missing beside it{hint}")));
            }
        }
    }
    let client = match with("cert").as_slice() {
        [] => None,
        [path] => Some(ClientCertificate { chain: (*path).clone(), key: path.with_extension("key") }),
        [_, second, ..] => {
            return Err(UnusableFile::new(second, "a second client certificate for one host; keep one"));
        }
    };
    Ok(HostTls { ca: with("crt").into_iter().cloned().collect(), client })
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}
