use std::{fmt, str::FromStr};

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const OTHER: u32 = 0o007;
const STANDARD: u32 = 0o6777;
const ALL: u32 = 0o7777;

/// Value of `--chmod`: an octal number, or clauses in the notation of chmod(1) (5.204).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// The mode of everything that is copied.
    Octal(u32),
    /// Changes to the mode each entry has.
    Symbolic(SymbolicMode),
}

/// The clauses of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode(Vec<Change>);

/// A text that is not a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChmodError {
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Set(u32),
    Clear(u32),
    /// Set on directories and on what was executable by anyone before the first change.
    SetIfExecutable(u32),
    /// Copy the bits of the class at `from` to the classes in `to`.
    Copy {
        from: u32,
        to: u32,
        set: bool,
        clear: bool,
    },
}

impl Chmod {
    /// Reads the value of `--chmod`.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        let refuse = || ChmodError { text: text.chars().take(160).collect() };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= ALL);
            return mode.map(Self::Octal).ok_or_else(refuse);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes).ok_or_else(refuse)?;
        }
        Ok(Self::Symbolic(SymbolicMode(changes)))
    }

    /// The mode of an entry that has `mode`, type bits aside.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(octal) => *octal,
            Self::Symbolic(SymbolicMode(changes)) => {
                let conditional = is_dir || mode & 0o111 != 0;
                changes.iter().fold(mode & ALL, |mode, change| change.apply(mode, conditional))
            }
        }
    }

    /// Mode of directories that are made for the destination (5.205).
    pub fn created_directory(&self) -> u32 {
        match self {
            Self::Octal(octal) => octal & 0o777,
            Self::Symbolic(_) => 0o755,
        }
    }
}

impl FromStr for Chmod {
    type Err = ChmodError;

    fn from_str(text: &str) -> Result<Self, ChmodError> {
        Self::parse(text)
    }
}

impl Change {
    fn apply(self, mode: u32, conditional: bool) -> u32 {
        match self {
            Self::Set(bits) => mode | bits,
            Self::Clear(bits) => mode & !bits,
            Self::SetIfExecutable(bits) if conditional => mode | bits,
            Self::SetIfExecutable(_) => mode,
            Self::Copy { from, to, set, clear } => {
                let value = (mode >> from) & OTHER;
                let removed = match (set, clear) {
                    (true, true) => OTHER,
                    (false, true) => value,
                    _ => 0,
                };
                let spread = |bits: u32| (bits << 6 | bits << 3 | bits) & to;
                (mode & !spread(removed)) | if set { spread(value) } else { 0 }
            }
        }
    }
}

/// One clause: who, then operators with what they do.
fn parse_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let who_end = clause.find(|c| !matches!(c, 'a' | 'u' | 'g' | 'o'))?;
    let (classes, mut rest) = clause.split_at(who_end);
    let who = classes.chars().fold(0, |who, class| {
        who | match class {
            'u' => SET_USER | 0o700,
            'g' => SET_GROUP | 0o070,
            'o' => OTHER,
            _ => STANDARD,
        }
    });
    while !rest.is_empty() {
        let operator = rest.chars().next().filter(|c| matches!(c, '+' | '-' | '='))?;
        let body = &rest[1..];
        let end = body.find(|c| !matches!(c, 'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o'));
        let (permissions, next) = body.split_at(end.unwrap_or(body.len()));
        Action { operator, who, bits: 0, conditional: 0, assigned: false }.read(permissions, changes);
        rest = next;
    }
    Some(())
}

/// An operator while its permissions are read.
struct Action {
    operator: char,
    who: u32,
    bits: u32,
    conditional: u32,
    assigned: bool,
}

impl Action {
    fn read(mut self, permissions: &str, changes: &mut Vec<Change>) {
        let special = self.who == 0 || self.who & !OTHER != 0;
        for permission in permissions.chars() {
            match permission {
                'r' => self.bits |= 0o444,
                'w' => self.bits |= 0o222,
                'x' => self.bits |= 0o111,
                'X' if self.operator == '-' => self.bits |= 0o111,
                'X' => self.conditional |= 0o111,
                's' if special => self.bits |= SET_USER | SET_GROUP,
                't' if special => {
                    self.who |= STICKY;
                    self.bits |= STICKY;
                }
                'u' | 'g' | 'o' => {
                    if self.bits != 0 {
                        self.flush_bits(changes);
                    }
                    self.assigned |= self.operator == '=';
                    self.flush_conditional(changes);
                    changes.push(self.copy_from(permission));
                }
                _ => {}
            }
        }
        if self.bits != 0 || self.operator == '=' && !self.assigned {
            self.flush_bits(changes);
        }
        self.flush_conditional(changes);
    }

    fn flush_bits(&mut self, changes: &mut Vec<Change>) {
        let bits = if self.who == 0 { self.bits } else { self.bits & self.who };
        match self.operator {
            '-' => changes.push(Change::Clear(bits)),
            '+' => changes.push(Change::Set(bits)),
            _ => {
                changes.push(Change::Clear(if self.who == 0 { STANDARD } else { self.who }));
                changes.push(Change::Set(bits));
            }
        }
        self.bits = 0;
    }

    fn flush_conditional(&mut self, changes: &mut Vec<Change>) {
        if self.conditional != 0 {
            let bits = if self.who == 0 { self.conditional } else { self.conditional & self.who };
            changes.push(Change::SetIfExecutable(bits));
            self.conditional = 0;
        }
    }

    fn copy_from(&self, class: char) -> Change {
        let from = match class {
            'u' => 6,
            'g' => 3,
            _ => 0,
        };
        let to = if self.who == 0 { 0o777 } else { self.who & 0o777 };
        Change::Copy { from, to, set: self.operator != '-', clear: self.operator != '+' }
    }
}

impl fmt::Display for ChmodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = super::golang::printable(&self.text);
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            write!(f, "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        } else {
            write!(f, "invalid chmod parameter: '{text}': invalid syntax")
        }
    }
}

impl std::error::Error for ChmodError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_up_to_07777() {
        for (text, mode) in
            [("7", 0o7), ("755", 0o755), ("0755", 0o755), ("00600", 0o600), ("4755", 0o4755), ("0", 0)]
        {
            assert_eq!(Chmod::parse(text), Ok(Chmod::Octal(mode)));
        }
        for bad in ["17777", "0798", "0o755", "7_5", "99999999999999999999"] {
            let message = Chmod::parse(bad).unwrap_err().to_string();
            assert!(message.contains("it should be octal string and between 0 and 07777"), "{message}");
        }
        for bad in ["", "rwx", "u+q", "+755", "u", "u+x,", ",u+x", "u+x g+x", "x+u", "ü+x", "a"] {
            let message = Chmod::parse(bad).unwrap_err().to_string();
            assert!(message.contains("invalid syntax"), "{bad}: {message}");
        }
    }

    #[test]
    fn clauses_change_what_is_there() {
        for (text, mode, is_dir, result) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o400, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("g=u", 0o640, false, 0o660),
            ("o=", 0o777, false, 0o770),
            ("=r", 0o4751, false, 0o444),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("+s", 0o755, false, 0o6755),
            ("+t", 0o755, true, 0o1755),
            ("o+t", 0o755, true, 0o755),
            ("o+s", 0o755, false, 0o755),
            ("u+x,g-r+w", 0o640, false, 0o720),
            ("u-x+X", 0o700, false, 0o700),
            ("a-X", 0o755, true, 0o644),
            ("g=u-w", 0o750, false, 0o750),
            ("go=u", 0o740, false, 0o777),
            ("u-g", 0o740, false, 0o340),
            ("o+u", 0o700, false, 0o707),
            ("a=", 0o1777, true, 0o1000),
            ("=", 0o1777, true, 0o1000),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(
                chmod.apply(mode, is_dir),
                result,
                "{text} of {mode:o}: {:o}",
                chmod.apply(mode, is_dir)
            );
        }
        assert_eq!(Chmod::parse("4711").unwrap().created_directory(), 0o711);
    }
}
