//! `RUN --mount`: the text of a flag, and the mount it stands for.

use super::error::PlanError;
use super::fault::{FieldFault, MountFault, PlanFault};
use super::golang::{parse_bool, parse_size, parse_uint};
use super::{CacheSharing, FileSource, MountKind, StepMount, paths};

/// Keys of `RUN --mount`, in every spelling.
pub const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];
const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];
const SHARING: [(&str, CacheSharing); 3] =
    [("shared", CacheSharing::Shared), ("private", CacheSharing::Private), ("locked", CacheSharing::Locked)];

/// The name after `from` in the text of a flag, which is looked at before anything is expanded (5.110).
pub(super) fn from_name(flag: &str) -> Result<Option<String>, PlanError> {
    let mut from = None;
    for field in fields(flag)? {
        let Some((key, value)) = field.split_once('=') else { continue };
        if !key.eq_ignore_ascii_case("from") {
            continue;
        }
        // A `$` at the very end is let through, as the reference implementation does.
        if value.find('$').is_some_and(|at| at + 1 != value.len()) {
            return Err(mount_error(MountFault::FromVariable).word(value));
        }
        from = Some(value.to_owned()).filter(|name| !name.is_empty());
    }
    Ok(from)
}

/// The fields of one line of comma-separated values.
fn fields(flag: &str) -> Result<Vec<String>, PlanError> {
    let malformed = |fault| mount_error(MountFault::Fields(fault)).word(flag);
    let mut fields = Vec::new();
    let mut rest = flag;
    loop {
        let (field, next) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted).ok_or_else(|| malformed(FieldFault::Quoted))?,
            None => match rest.split_once(',') {
                Some((field, next)) => (field.to_owned(), Some(next)),
                None => (rest.to_owned(), None),
            },
        };
        if !rest.starts_with('"') && field.contains('"') {
            return Err(malformed(FieldFault::Bare));
        }
        fields.push(field);
        match next {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// The field up to its closing quote, and what follows the comma behind it.
fn quoted_field(text: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        if let Some(escaped) = after.strip_prefix('"') {
            field.push('"');
            rest = escaped;
        } else if after.is_empty() {
            return Some((field, None));
        } else {
            return after.strip_prefix(',').map(|next| (field, Some(next)));
        }
    }
}

/// What a flag says once its values are expanded.
#[derive(Debug, Clone)]
pub(super) struct MountFlag {
    kind: MountKind,
    pub(super) from: Option<String>,
    source: String,
    target: String,
    read_only: Option<bool>,
    size: Option<u64>,
    id: String,
    sharing: Option<CacheSharing>,
    required: bool,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl MountFlag {
    /// Reads a flag; `expand` resolves the variables of a value.
    pub(super) fn parse(
        flag: &str,
        expand: &mut dyn FnMut(&str) -> Result<String, PlanError>,
    ) -> Result<Self, PlanError> {
        let mut mount = Self {
            kind: MountKind::Bind,
            from: None,
            source: String::new(),
            target: String::new(),
            read_only: None,
            size: None,
            id: String::new(),
            sharing: None,
            required: false,
            env: None,
            mode: None,
            uid: None,
            gid: None,
        };
        for field in fields(flag)? {
            let result = match field.split_once('=') {
                None => mount.set_bare(&field),
                Some((key, value)) => {
                    let value = expand(value)?;
                    mount.set(&key.to_lowercase(), value, &field)
                }
            };
            result.map_err(|error| error.word(&field))?;
        }
        mount.check().map_err(|error| error.word(flag))?;
        Ok(mount)
    }

    fn set_bare(&mut self, field: &str) -> Result<(), PlanError> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.require_kind("required", &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            _ => {
                return Err(mount_error(MountFault::NoValue { field: field.to_owned() }));
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), PlanError> {
        let invalid =
            |value: &str| mount_error(MountFault::Value { key: key.to_owned(), value: value.to_owned() });
        let flag = |value: &str| parse_bool(value).ok_or_else(|| invalid(value));
        let number = |value: &str, radix| {
            let fault = || MountFault::Number { key: key.to_owned(), value: value.to_owned() };
            parse_uint(value, radix).map(Some).ok_or_else(|| mount_error(fault()))
        };
        match key {
            "type" => self.kind = named(&value, &KINDS, "mount type")?,
            "from" => self.from = Some(value).filter(|from| !from.is_empty()),
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => self.read_only = Some(flag(&value)?),
            "readwrite" | "rw" => self.read_only = Some(!flag(&value)?),
            "required" => {
                self.require_kind(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = flag(&value)?;
            }
            "size" => {
                self.require_kind(key, &[MountKind::Tmpfs])?;
                let size = parse_size(&value).filter(|size| i64::try_from(*size).is_ok());
                let size = size.ok_or_else(|| invalid(&value))?;
                self.size = Some(size).filter(|size| *size > 0);
            }
            "id" => self.id = value,
            "sharing" => self.sharing = Some(named(&value, &SHARING, "sharing value")?),
            "mode" => self.mode = number(&value, 8)?,
            "uid" => self.uid = number(&value, 10)?,
            "gid" => self.gid = number(&value, 10)?,
            "env" => self.env = Some(value),
            _ => {
                let (key, field) = (key.to_owned(), field.to_owned());
                return Err(mount_error(MountFault::UnknownKey { key, field }));
            }
        }
        Ok(())
    }

    fn require_kind(&self, key: &str, kinds: &[MountKind]) -> Result<(), PlanError> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        let fitting: Vec<&str> =
            KINDS.iter().filter(|(_, kind)| kinds.contains(kind)).map(|(name, _)| *name).collect();
        let (key, kind) = (key.to_owned(), self.kind_name());
        Err(mount_error(MountFault::KeyOfOtherType { key, kind, fitting }))
    }

    fn kind_name(&self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("bind", |(name, _)| name)
    }

    fn check(&self) -> Result<(), PlanError> {
        let kind = self.kind_name();
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if value.is_some() {
                    return Err(mount_error(MountFault::Owner { key, kind }));
                }
            }
        }
        if self.kind == MountKind::Secret {
            self.check_secret()?;
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(mount_error(MountFault::Sharing { kind }));
        }
        if self.kind == MountKind::Ssh && !self.source.is_empty() {
            return Err(mount_error(MountFault::SshSource));
        }
        Ok(())
    }

    fn check_secret(&self) -> Result<(), PlanError> {
        let nothing = self.source.is_empty() && self.target.is_empty() && self.id.is_empty();
        let fault = if self.from.is_some() {
            MountFault::SecretFrom
        } else if self.sharing.is_some() {
            MountFault::SecretSharing
        } else if nothing {
            MountFault::SecretWithoutName
        } else if !self.source.is_empty() && !self.id.is_empty() {
            MountFault::SecretWithTwoNames
        } else {
            return Ok(());
        };
        Err(mount_error(fault))
    }

    /// Where the flag's target is, as written.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// The mount in a step that starts in `workdir`; `agents` counts the ssh mounts before it.
    pub(super) fn resolve(
        self,
        from: Option<FileSource>,
        workdir: &str,
        namespace: &str,
        agents: usize,
    ) -> Result<StepMount, PlanError> {
        let id = self.identity(namespace);
        let target = self.place(workdir, agents);
        if target == "/" {
            return Err(mount_error(MountFault::TargetIsRoot));
        }
        let has_files = matches!(self.kind, MountKind::Bind | MountKind::Cache);
        let source = if has_files { paths::join("/", &self.source) } else { "/".to_owned() };
        let owned = self.mode.is_some() || self.uid.is_some() || self.gid.is_some();
        let is_cache = self.kind == MountKind::Cache;
        // With a source the attributes do nothing; without one they make the cache begin as a new directory.
        let ignores_owner = is_cache && source != "/";
        let mut mount = StepMount {
            kind: self.kind,
            read_only: self.read_only.unwrap_or(!matches!(self.kind, MountKind::Cache | MountKind::Tmpfs)),
            starts_empty: is_cache && !ignores_owner && (from.is_none() || owned),
            from: if has_files { from } else { None },
            as_file: self.kind == MountKind::Secret && !target.is_empty(),
            target,
            source,
            id,
            sharing: self.sharing.unwrap_or_default(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            required: self.required,
            env: self.env.filter(|_| self.kind == MountKind::Secret),
        };
        if ignores_owner {
            (mount.mode, mount.uid, mount.gid) = (None, None, None);
        }
        Ok(mount)
    }

    fn identity(&self, namespace: &str) -> String {
        match self.kind {
            MountKind::Cache if self.id.is_empty() => format!("{namespace}/{}", paths::clean(&self.target)),
            MountKind::Cache => format!("{namespace}/{}", self.id),
            MountKind::Secret if !self.source.is_empty() => self.source.clone(),
            MountKind::Secret if self.id.is_empty() => paths::base(&self.target).to_owned(),
            MountKind::Secret | MountKind::Ssh => self.id.clone(),
            MountKind::Bind | MountKind::Tmpfs => String::new(),
        }
    }

    /// The target, absolute and clean; empty for a secret that is a variable only.
    fn place(&self, workdir: &str, agents: usize) -> String {
        match self.kind {
            MountKind::Secret if self.target.is_empty() && self.env.is_some() => String::new(),
            MountKind::Secret if self.target.is_empty() => {
                let name = if self.source.is_empty() { &self.id } else { &self.source };
                paths::join("/run/secrets", paths::base(name))
            }
            MountKind::Ssh if self.target.is_empty() => format!("/run/buildkit/ssh_agent.{agents}"),
            _ => paths::join(workdir, &self.target),
        }
    }
}

fn named<T: Copy>(value: &str, known: &[(&'static str, T)], what: &'static str) -> Result<T, PlanError> {
    let lower = value.to_lowercase();
    known.iter().find(|(name, _)| *name == lower).map(|(_, value)| *value).ok_or_else(|| {
        let known = known.iter().map(|(name, _)| *name).collect();
        mount_error(MountFault::Choice { what, value: value.to_owned(), known })
    })
}

fn mount_error(fault: MountFault) -> PlanError {
    PlanError::new(PlanFault::Mount(fault))
}

#[cfg(test)]
#[path = "mounts/tests.rs"]
mod tests;
