//! The ids that an administrator gave to a user, and the programs that hand them out.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use super::{IdsError, read};

/// Ids beside the own one, from `/etc/subuid` and `/etc/subgid`.
pub(super) struct Ranges {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl Ranges {
    /// Those of this user; the error is what is missing.
    pub(super) fn find(uid: u32) -> Result<Self, IdsError> {
        let name = user_name(uid);
        let ranges = |path: &'static str| {
            let ranges = parse(&read(path), uid, name.as_deref());
            if ranges.is_empty() { Err(IdsError::NoRange { path }) } else { Ok(ranges) }
        };
        let (users, groups) = (ranges("/etc/subuid")?, ranges("/etc/subgid")?);
        Ok(Self { users, groups, newuidmap: program("newuidmap")?, newgidmap: program("newgidmap")? })
    }

    /// Gives them to the user namespace of a process, in which the own ids become 0; the error is what the programs said.
    pub(super) fn map(&self, process: Pid, (uid, gid): (u32, u32)) -> Result<(), IdsError> {
        map(&self.newuidmap, process, uid, &self.users)?;
        map(&self.newgidmap, process, gid, &self.groups)
    }
}

fn parse(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    let parse = |line: &str| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        if Some(who) != name && who != uid {
            return None;
        }
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0).then_some((start, count))
    };
    text.lines().filter_map(parse).collect()
}

fn user_name(uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let passwd = read("/etc/passwd");
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2) == Some(&uid.as_str())).map(|fields| fields[0].to_owned())
}

/// Only places that are the administrator's: what is run here has set-user-ID.
fn program(name: &'static str) -> Result<PathBuf, IdsError> {
    let directories = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/run/wrappers/bin"];
    let paths = directories.iter().map(|directory| Path::new(directory).join(name));
    paths.into_iter().find(|path| path.exists()).ok_or(IdsError::ProgramMissing { name })
}

fn map(program: &Path, process: Pid, own: u32, ranges: &[(u32, u32)]) -> Result<(), IdsError> {
    let mut arguments =
        vec![process.as_raw_pid().to_string(), "0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside = 1_u32;
    for (start, count) in ranges {
        arguments.extend([inside.to_string(), start.to_string(), count.to_string()]);
        inside = inside.saturating_add(*count);
    }
    let output = Command::new(program).args(&arguments).env_clear().output();
    let failed = |message: String| IdsError::Program { path: program.to_owned(), message };
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(failed(message.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:1:2\n1000:300000:10\nalice:bad:1\nalice:5:0\n";
        assert_eq!(parse(text, 1000, Some("alice")), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(parse(text, 7, None), []);
    }
}
