//! Commands about files and processes.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use fs_err as fs;
use ocibuild::spec::Timestamp;

use super::print;

pub(super) fn cat(args: &[String]) -> io::Result<()> {
    for path in args {
        let mut file = fs::File::open(path)?;
        io::copy(&mut file, &mut io::stdout().lock())?;
    }
    io::stdout().flush()
}

pub(super) fn head(args: &[String]) -> io::Result<()> {
    let (count, paths) = match args {
        [flag, count, paths @ ..] if flag == "-n" => {
            let count =
                count.parse().map_err(|_| io::Error::other(format!("{count}: this is not a number")))?;
            (count, paths)
        }
        paths => (10, paths),
    };
    for path in paths {
        let mut file = io::BufReader::new(fs::File::open(path)?);
        for _ in 0..count {
            let mut line = Vec::new();
            // What has no lines has an end.
            if file.by_ref().take(1 << 20).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            io::stdout().write_all(&line)?;
        }
    }
    io::stdout().flush()
}

pub(super) fn list(args: &[String]) -> io::Result<()> {
    let (flags, paths): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.starts_with('-'));
    let is_long = flags.iter().any(|flag| flag.contains('l'));
    let here = ".".to_owned();
    let all = if paths.is_empty() { vec![&here] } else { paths };
    for path in &all {
        let path = Path::new(path);
        if !path.is_dir() {
            shown(path, &path.display().to_string(), is_long)?;
            continue;
        }
        if all.len() > 1 {
            print(&format!("{}:\n", path.display()))?;
        }
        let mut names: Vec<_> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            shown(&path.join(&name), &name.to_string_lossy(), is_long)?;
        }
    }
    Ok(())
}

/// One line of a list.
fn shown(path: &Path, name: &str, is_long: bool) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !is_long {
        return print(&format!("{name}\n"));
    }
    let target = fs::read_link(path).map(|target| format!(" -> {}", target.display())).unwrap_or_default();
    let (kind, mode) = (kind(&metadata), metadata.mode() & 0o7777);
    let (uid, gid, size) = (metadata.uid(), metadata.gid(), metadata.len());
    print(&format!("{kind}{mode:04o} {uid:>5} {gid:>5} {size:>10} {name}{target}\n"))
}

fn kind(metadata: &std::fs::Metadata) -> char {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () => '-',
    }
}

pub(super) fn stat(args: &[String]) -> io::Result<()> {
    for path in args {
        let metadata = fs::symlink_metadata(path)?;
        let time = Timestamp::from_seconds(metadata.mtime());
        print(&format!(
            "{path}: {}{:04o} owner {}:{} size {} links {} inode {} changed {time}\n",
            kind(&metadata),
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            metadata.len(),
            metadata.nlink(),
            metadata.ino(),
        ))?;
    }
    Ok(())
}

pub(super) fn links(args: &[String]) -> io::Result<()> {
    args.iter().try_for_each(|path| print(&format!("{}\n", fs::read_link(path)?.display())))
}

pub(super) fn find(args: &[String]) -> io::Result<()> {
    let start = args.first().map_or(".", String::as_str);
    let mut todo = vec![Path::new(start).to_owned()];
    while let Some(path) = todo.pop() {
        print(&format!("{}\n", path.display()))?;
        if fs::symlink_metadata(&path)?.is_dir() {
            let entries = fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path()));
            let mut entries: Vec<_> = entries.collect::<io::Result<_>>()?;
            entries.sort_by(|a, b| b.cmp(a));
            todo.extend(entries);
        }
    }
    Ok(())
}

pub(super) fn id() -> io::Result<()> {
    use rustix::process::{getegid, geteuid, getgroups};
    let groups: Vec<String> = getgroups()?.iter().map(|group| group.as_raw().to_string()).collect();
    print(&format!("uid={} gid={} groups={}\n", geteuid().as_raw(), getegid().as_raw(), groups.join(",")))
}

pub(super) fn processes() -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
        let Some(number) = number else { continue };
        // One that has ended meanwhile.
        let Ok(line) = fs::read(path.join("cmdline")) else { continue };
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        all.push((number, words.join(" ")));
    }
    all.sort();
    all.iter().try_for_each(|(number, line)| print(&format!("{number:>7} {}\n", line.trim_end())))
}
