//! Who this process is, and what it does about being nobody special.

use ocibuild::sys::enter_user_namespace;

/// What came of the way to a user namespace.
#[derive(Debug, Default)]
pub(crate) struct Privilege {
    /// What may be the reason when something that takes privilege fails.
    pub(crate) notes: Vec<String>,
}

/// Whether the effective user is root, here or in the namespace this process was started in.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes an ordinary user root of a user namespace. Has to come before the first thread.
///
/// Where that is denied the program goes on: a build of which no step runs anything needs no namespace, and a step that
/// does says that it cannot have one. What stood in the way is kept to be told then.
pub(crate) fn enter() -> Privilege {
    if is_root() {
        return Privilege::default();
    }
    let mut notes = Vec::new();
    match enter_user_namespace() {
        Ok(namespace) => notes.extend(
            namespace
                .without_ranges
                .map(|reason| format!("this user namespace has no ids but one: {reason}")),
        ),
        Err(error) => {
            notes.push(format!("this process is not root and could not enter a user namespace: {error}"));
        }
    }
    Privilege { notes }
}
