//! Who the processes of a step take themselves for.

use rustix::io::Errno;

/// Real, effective, saved and file system id, of a user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) file_system: u32,
}

/// Stands for "as it is" in arguments.
const KEEP: u32 = u32::MAX;

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, file_system: id }
    }

    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// `setuid(2)`, `setgid(2)`.
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if id == KEEP {
            return Err(Errno::INVAL);
        }
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            (self.effective, self.file_system) = (id, id);
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// `setreuid(2)`, `setregid(2)`.
    fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let old = *self;
        let allows_real = real == KEEP || real == old.real || real == old.effective;
        if !(privileged || allows_real && (effective == KEEP || old.has(effective))) {
            return Err(Errno::PERM);
        }
        self.set_each([real, effective, KEEP]);
        if real != KEEP || effective != KEEP && effective != old.real {
            self.saved = self.effective;
        }
        Ok(())
    }

    /// `setresuid(2)`, `setresgid(2)`.
    fn set_three(&mut self, ids: [u32; 3], privileged: bool) -> Result<(), Errno> {
        if !privileged && !ids.into_iter().all(|id| id == KEEP || self.has(id)) {
            return Err(Errno::PERM);
        }
        self.set_each(ids);
        Ok(())
    }

    fn set_each(&mut self, [real, effective, saved]: [u32; 3]) {
        for (place, id) in
            [(&mut self.real, real), (&mut self.effective, effective), (&mut self.saved, saved)]
        {
            if id != KEEP {
                *place = id;
            }
        }
        self.file_system = self.effective;
    }

    /// `setfsuid(2)`, `setfsgid(2)`, which give the old one and do not tell of failures.
    fn set_file_system(&mut self, id: u32, privileged: bool) -> u32 {
        let old = self.file_system;
        if id != KEEP && (privileged || id == old || self.has(id)) {
            self.file_system = id;
        }
        old
    }

    fn execute_as(&mut self, id: Option<u32>) {
        if let Some(id) = id {
            self.effective = id;
        }
        (self.saved, self.file_system) = (self.effective, self.effective);
    }
}

/// User, group and supplementary groups of a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) user: Ids,
    pub(super) group: Ids,
    pub(super) groups: Vec<u32>,
}

/// What a call that changes who a process is returns.
type Changed = Result<i64, Errno>;

impl Identity {
    pub(super) fn of(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        Self { user: Ids::all(uid), group: Ids::all(gid), groups }
    }

    /// Whether it has the capabilities that there are.
    pub(super) fn is_root(&self) -> bool {
        self.user.effective == 0
    }

    /// Whether it has the group.
    pub(super) fn is_in(&self, gid: u32) -> bool {
        self.group.file_system == gid || self.groups.contains(&gid)
    }

    /// Carries out a call that changes ids; `None` if it is none of those. `has` tells whether root has a capability.
    pub(super) fn change(
        &mut self,
        call: &str,
        arguments: [u32; 3],
        has: impl Fn(&str) -> bool,
    ) -> Option<Changed> {
        let of_group = call.ends_with("gid");
        let privileged = self.is_root() && has(if of_group { "CAP_SETGID" } else { "CAP_SETUID" });
        let [a, b, _] = arguments;
        let done = |result: Result<(), Errno>| Some(result.map(|()| 0));
        match call {
            "setuid" => done(self.user.set(a, privileged)),
            "setgid" => done(self.group.set(a, privileged)),
            "setreuid" => done(self.user.set_two(a, b, privileged)),
            "setregid" => done(self.group.set_two(a, b, privileged)),
            "setresuid" => done(self.user.set_three(arguments, privileged)),
            "setresgid" => done(self.group.set_three(arguments, privileged)),
            "setfsuid" => Some(Ok(self.user.set_file_system(a, privileged).into())),
            "setfsgid" => Some(Ok(self.group.set_file_system(a, privileged).into())),
            _ => None,
        }
    }

    /// What a call that asks for one id returns; `None` if it is none of those.
    pub(super) fn ask(&self, call: &str) -> Option<u32> {
        match call {
            "getuid" => Some(self.user.real),
            "geteuid" => Some(self.user.effective),
            "getgid" => Some(self.group.real),
            "getegid" => Some(self.group.effective),
            _ => None,
        }
    }

    /// Who executes a program with the set-user-ID bit of one user and the set-group-ID bit of one group.
    pub(super) fn execute_as(&mut self, user: Option<u32>, group: Option<u32>) {
        self.user.execute_as(user);
        self.group.execute_as(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(identity: &Identity) -> [u32; 4] {
        let Ids { real, effective, saved, file_system } = identity.user;
        [real, effective, saved, file_system]
    }

    fn change(identity: &mut Identity, call: &str, arguments: [u32; 3]) -> Changed {
        identity.change(call, arguments, |_| true).unwrap()
    }

    #[test]
    fn root_that_becomes_somebody_does_not_come_back() {
        let mut identity = Identity::of(0, 0, Vec::new());
        assert!(identity.is_root());
        assert_eq!(change(&mut identity, "setgid", [33, 0, 0]), Ok(0));
        assert!(identity.is_root());
        assert_eq!(change(&mut identity, "setuid", [33, 0, 0]), Ok(0));
        assert_eq!(user(&identity), [33; 4]);
        for call in ["setuid", "setgid"] {
            assert_eq!(change(&mut identity, call, [0, 0, 0]), Err(Errno::PERM), "{call}");
        }
        assert_eq!(change(&mut identity, "setresuid", [KEEP, 0, KEEP]), Err(Errno::PERM));
        assert_eq!(change(&mut identity, "setreuid", [KEEP, 0, 0]), Err(Errno::PERM));
        assert_eq!(user(&identity), [33; 4]);
    }

    #[test]
    fn root_without_a_capability_is_like_anybody() {
        let mut identity = Identity::of(0, 0, Vec::new());
        let mut change = |call, lacks| identity.change(call, [33, 33, 33], |name| name != lacks).unwrap();
        assert_eq!(change("setresgid", "CAP_SETGID"), Err(Errno::PERM));
        assert_eq!(change("setresgid", "CAP_SETUID"), Ok(0));
        assert_eq!(change("setuid", "CAP_SETUID"), Err(Errno::PERM));
        assert_eq!(change("setfsuid", "CAP_SETUID"), Ok(0), "the old one, which it still is");
        assert_eq!(identity.user, Ids::all(0));
    }

    #[test]
    fn root_that_goes_aside_for_a_while_comes_back() {
        let mut identity = Identity::of(0, 0, Vec::new());
        assert_eq!(change(&mut identity, "setresuid", [KEEP, 42, KEEP]), Ok(0));
        assert_eq!(user(&identity), [0, 42, 0, 42]);
        assert!(!identity.is_root());
        assert_eq!(change(&mut identity, "setuid", [0, 0, 0]), Ok(0), "the real one is still root");
        assert_eq!(user(&identity), [0; 4]);
        // As seteuid and back of older C libraries.
        assert_eq!(change(&mut identity, "setreuid", [KEEP, 42, 0]), Ok(0));
        assert_eq!(user(&identity), [0, 42, 42, 42]);
        assert_eq!(change(&mut identity, "setreuid", [KEEP, 0, 0]), Ok(0));
        assert_eq!(user(&identity), [0, 0, 42, 0], "the saved one follows another effective one alone");
    }

    #[test]
    fn the_id_for_files_changes_alone() {
        let mut identity = Identity::of(0, 0, Vec::new());
        assert_eq!(change(&mut identity, "setfsuid", [7, 0, 0]), Ok(0));
        assert_eq!(user(&identity), [0, 0, 0, 7]);
        assert_eq!(change(&mut identity, "setfsuid", [KEEP, 0, 0]), Ok(7));
        let mut other = Identity::of(5, 5, vec![9]);
        assert_eq!(change(&mut other, "setfsuid", [7, 0, 0]), Ok(5));
        assert_eq!(user(&other), [5; 4]);
        assert!(other.is_in(9) && other.is_in(5) && !other.is_in(0));
    }

    #[test]
    fn programs_with_a_set_id_bit_have_what_they_need_and_know_who_called() {
        let mut identity = Identity::of(1000, 1000, Vec::new());
        identity.execute_as(Some(0), None);
        assert_eq!(user(&identity), [1000, 0, 0, 0]);
        assert_eq!(identity.ask("getuid"), Some(1000));
        assert_eq!(identity.ask("geteuid"), Some(0));
        assert_eq!(change(&mut identity, "setuid", [0, 0, 0]), Ok(0));
        assert!(identity.is_root());
        identity.execute_as(None, Some(12));
        assert_eq!((identity.group.real, identity.group.effective, identity.group.saved), (1000, 12, 12));
        assert!(identity.change("getpid", [0; 3], |_| true).is_none() && identity.ask("getpid").is_none());
    }
}
