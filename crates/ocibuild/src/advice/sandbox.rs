//! What lets steps run in a place that refuses a kind of sandbox.

use ocibuild_executor::{CgroupError, Obstacle};
use ocibuild_sys::ErrorKind;
use rustix::io::Errno;

use super::Hint;
use crate::failure::SandboxRefusal;

/// What removes the reason of a refusal.
pub(crate) fn sandbox(refusal: &SandboxRefusal) -> Vec<Hint> {
    match refusal {
        SandboxRefusal::NoRange { .. } => vec![
            "have root give this user ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER".into(),
        ],
        SandboxRefusal::ProgramMissing { .. } => vec![
            "install newuidmap and newgidmap: the package is called uidmap, shadow-utils or shadow-uidmap".into(),
        ],
        SandboxRefusal::Kernel { obstacles, .. } => {
            obstacles.iter().map(|obstacle| way_around(*obstacle)).collect()
        }
        SandboxRefusal::NotRoot { .. }
        | SandboxRefusal::OneId
        | SandboxRefusal::NoNamespaces
        | SandboxRefusal::Program { .. } => Vec::new(),
    }
}

/// What lets steps run in spite of this.
pub(crate) fn way_around(obstacle: Obstacle) -> Hint {
    let text = match obstacle {
        Obstacle::Sysctl(name, value) => {
            let other = if value == "1" { "0" } else { "1 or more" };
            format!("set the sysctl {name} to {other}, or build as root with CAP_SYS_ADMIN")
        }
        Obstacle::NoUserNamespaces => {
            "use a kernel with user namespaces, or build as root with CAP_SYS_ADMIN".to_owned()
        }
        Obstacle::NoCapability => {
            "give CAP_SYS_ADMIN to the container that this runs in: docker run --cap-add SYS_ADMIN, or \
                                   capabilities.add of a pod's securityContext"
                .to_owned()
        }
        Obstacle::Capability(name) => {
            let short = name.trim_start_matches("CAP_");
            format!(
                "give {name} to the container that this runs in: docker run --cap-add {short}, or capabilities.add of \
                 a pod's securityContext"
            )
        }
        Obstacle::NoIdMapping => "give the container CAP_SETFCAP, with which root makes a user namespace: docker run --cap-add \
                                  SETFCAP, or capabilities.add of a pod's securityContext; Docker's filter has to be \
                                  off as well: --security-opt seccomp=unconfined"
            .to_owned(),
        Obstacle::SystemCallFilter => {
            "start the container without the filter: docker run --security-opt seccomp=unconfined, or \
                                       seccompProfile.type Unconfined in a pod's securityContext; no capability has to \
                                       be added, and Podman needs no flag"
                .to_owned()
        }
        Obstacle::AppArmorProfile => {
            "start the container without the profile: docker run --security-opt apparmor=unconfined, or \
                                      appArmorProfile.type Unconfined in a pod's securityContext"
                .to_owned()
        }
        Obstacle::HiddenProc => {
            "start the container with all of /proc: docker run --security-opt systempaths=unconfined, or \
                                 procMount Unmasked in a pod's securityContext"
                .to_owned()
        }
        Obstacle::NoLandlock => "use a kernel of Linux 5.19 or newer with Landlock, which the boot parameter lsm= must name where it is \
                                 given"
            .to_owned(),
        _ => "look for what denies mounts and namespaces to this process".to_owned(),
    };
    text.into()
}

/// What gives steps limits in a place that refuses them.
pub(crate) fn limits(refusal: &CgroupError) -> Vec<Hint> {
    let around = "limit the container, pod or service that this runs in: steps share its limits";
    let own = "start the build in a cgroup that it may divide: where systemd runs, systemd-run makes a scope with Delegate=yes, \
               for root of the system and for others of the user";
    match refusal {
        CgroupError::Occupied { .. } => vec![own.into(), around.into()],
        // What is mounted read-only cannot be divided however the build is started.
        CgroupError::Kernel(error) if error.raw_os_error() == Errno::ROFS.raw_os_error() => {
            vec![around.into()]
        }
        CgroupError::Kernel(error) if error.kind() == ErrorKind::Denied => vec![own.into(), around.into()],
        CgroupError::NoController { .. } => vec![around.into()],
        // A value that the kernel does not take: its file is named.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_way_out() {
        let of = |refusal: &SandboxRefusal| -> Vec<String> {
            sandbox(refusal).iter().map(ToString::to_string).collect()
        };
        let kernel = |obstacles: &[Obstacle]| SandboxRefusal::Kernel {
            operation: "make namespaces".to_owned(),
            errno: 1,
            obstacles: obstacles.to_vec(),
        };
        let sysctl = Obstacle::Sysctl("kernel.apparmor_restrict_unprivileged_userns", "1");
        let cases = [
            (kernel(&[sysctl]), "set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0"),
            (kernel(&[Obstacle::Capability("CAP_SETFCAP")]), "give CAP_SETFCAP to the container"),
            (kernel(&[Obstacle::SystemCallFilter]), "start the container without the filter"),
            (SandboxRefusal::NoRange { path: "/etc/subuid".into() }, "have root give this user ids"),
            (SandboxRefusal::ProgramMissing { name: "newuidmap".to_owned() }, "install newuidmap"),
        ];
        for (refusal, words) in cases {
            let hints = of(&refusal);
            assert_eq!(hints.len(), 1, "{refusal}");
            assert!(hints[0].contains(words), "{refusal}: {hints:?}");
        }
        // Nothing is advised where nothing tells what is in the way.
        for refusal in [kernel(&[]), SandboxRefusal::NotRoot { user: 1 }, SandboxRefusal::OneId] {
            assert_eq!(of(&refusal), Vec::<String>::new(), "{refusal}");
        }
    }
}
