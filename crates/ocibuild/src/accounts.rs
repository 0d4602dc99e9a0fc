use crate::error::Error;
use crate::failure::RunFailure;

/// The users and groups that a root file system knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    pub(crate) passwd: Option<String>,
    pub(crate) group: Option<String>,
}

/// Whom a command runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.iter().flat_map(|text| text.lines()).filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(User {
                name,
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: fields.nth(1).unwrap_or(""),
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.iter().flat_map(|text| text.lines()).filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Group { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or("") })
        })
    }

    fn user_named(&self, name: &str) -> Option<User<'_>> {
        self.users().find(|user| user.name == name)
    }

    fn group_named(&self, name: &str) -> Option<u32> {
        self.groups().find(|group| group.name == name).map(|group| group.gid)
    }

    /// Owner that `--chown` and the `USER` of a `WORKDIR` mean (5.202): never an error, unknown names are root.
    pub(crate) fn owner(&self, text: &str) -> (u32, u32) {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let (uid, own_gid) = match number(user) {
            Some(uid) => (uid, uid),
            None => self.user_named(user).map_or((0, 0), |user| (user.uid, user.gid)),
        };
        let gid = match group {
            None => own_gid,
            Some("" | "root") => 0,
            Some(group) => number(group).or_else(|| self.group_named(group)).unwrap_or(own_gid),
        };
        (uid, gid)
    }

    /// Whom a `RUN` runs as (5.90 to 5.92).
    pub(crate) fn identity(&self, text: &str) -> Result<Identity, Error> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        if let Some(group) = group
            && let (Some(uid), Some(gid)) = (plain_id(user), plain_id(group))
        {
            return Ok(Identity { uid, gid, additional_gids: vec![gid] });
        }
        let (uid, own_gid, name) = self.lookup(user)?;
        if let Some(group) = group {
            let gid = number(group)
                .or_else(|| self.group_named(group))
                .ok_or_else(|| RunFailure::UnknownGroup { group: group.to_owned() })?;
            return Ok(Identity { uid, gid, additional_gids: vec![gid] });
        }
        let mut additional_gids = vec![own_gid];
        if let Some(name) = name {
            let listed = self.groups().filter(|group| group.members.split(',').any(|member| member == name));
            additional_gids.extend(listed.map(|group| group.gid).filter(|gid| *gid != own_gid));
        }
        Ok(Identity { uid, gid: own_gid, additional_gids })
    }

    /// User, primary group and, when the user has an entry, the name in it.
    fn lookup(&self, user: &str) -> Result<(u32, u32, Option<&str>), Error> {
        let wanted = if user.is_empty() { Some(0) } else { number(user) };
        if let Some(uid) = wanted {
            let found = self.users().find(|entry| entry.uid == uid);
            return Ok(found.map_or((uid, 0, None), |entry| (uid, entry.gid, Some(entry.name))));
        }
        let found = self.user_named(user).ok_or_else(|| RunFailure::UnknownUser { user: user.to_owned() })?;
        Ok((found.uid, found.gid, Some(found.name)))
    }

    /// Home directory of a user: `/` without an entry (5.93).
    pub(crate) fn home(&self, uid: u32) -> String {
        let home = self.users().find(|user| user.uid == uid).map_or("", |user| user.home);
        if home.is_empty() { "/".to_owned() } else { home.to_owned() }
    }
}

/// A number that fits an id; everything else is taken for a name.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<i32>().ok().filter(|_| is_number).and_then(|number| u32::try_from(number).ok())
}

/// An id that needs no file: a number, or root.
fn plain_id(text: &str) -> Option<u32> {
    if text == "root" { Some(0) } else { number(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: Some(
                "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\n".into(),
            ),
            group: Some("root:x:0:\nstaff:x:50:app,other\napps:x:1001:\nwheel:x:10:root\n".into()),
        }
    }

    #[test]
    fn owners_are_never_an_error() {
        for (text, expected) in [
            ("5", (5, 5)),
            ("5:6", (5, 6)),
            ("app", (1000, 1001)),
            ("app:staff", (1000, 50)),
            ("app:nogroup", (1000, 1001)),
            ("33:nogroup", (33, 33)),
            ("nosuch:staff", (0, 50)),
            ("nosuch", (0, 0)),
            ("7:", (7, 0)),
            ("app:", (1000, 0)),
            (":staff", (0, 50)),
            ("-1", (0, 0)),
            ("4294967296", (0, 0)),
            ("root", (0, 0)),
        ] {
            assert_eq!(accounts().owner(text), expected, "{text}");
        }
    }

    #[test]
    fn identities_come_from_the_files() {
        let identity =
            |text: &str| accounts().identity(text).map(|id| (id.uid, id.gid, id.additional_gids)).ok();
        assert_eq!(identity(""), Some((0, 0, vec![0, 10])));
        assert_eq!(identity("app"), Some((1000, 1001, vec![1001, 50])));
        assert_eq!(identity("1000"), Some((1000, 1001, vec![1001, 50])));
        assert_eq!(identity("77"), Some((77, 0, vec![0])));
        assert_eq!(identity("77:88"), Some((77, 88, vec![88])));
        assert_eq!(identity("app:root"), Some((1000, 0, vec![0])));
        assert_eq!(identity("nosuch"), None);
        assert_eq!(identity("app:nosuch"), None);
        let empty = Accounts::default();
        assert_eq!(empty.identity("").unwrap().uid, 0);
        assert!(empty.identity("root").is_err());
        assert!(empty.identity("root:0").is_ok());
        assert_eq!(accounts().home(0), "/root");
        assert_eq!(accounts().home(5), "/");
    }
}
