//! `USER` of an image, as far as it says for certain who a container runs as.

/// Ids that the kernel and Kubernetes both take.
const MAX_ID: u32 = i32::MAX as u32;

/// Who a container runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum User {
    /// An id that is not root's, and the group if that is an id as well.
    Id { user: u32, group: Option<u32> },
    /// A name, which only the files of the image could translate.
    Name(String),
    /// Root, whether it is said or not.
    Root,
}

impl User {
    pub(super) fn of(text: &str) -> Self {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        match id(user) {
            Some(0) => Self::Root,
            Some(number) => Self::Id { user: number, group: group.and_then(id) },
            None if matches!(user, "" | "root") => Self::Root,
            None => Self::Name(user.to_owned()),
        }
    }
}

fn id(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| is_number && *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        for (text, user) in [
            ("", User::Root),
            ("0", User::Root),
            ("root", User::Root),
            ("0:5", User::Root),
            ("1000", User::Id { user: 1000, group: None }),
            ("1000:0", User::Id { user: 1000, group: Some(0) }),
            ("1000:app", User::Id { user: 1000, group: None }),
            ("app:1000", User::Name("app".to_owned())),
            ("+1", User::Name("+1".to_owned())),
            ("4294967295", User::Name("4294967295".to_owned())),
        ] {
            assert_eq!(User::of(text), user, "{text}");
        }
    }
}
