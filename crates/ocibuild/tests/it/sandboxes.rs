//! What this place can do. As which user, and in which container, is tried with the program.

use ocibuild::StateDirectory;
use ocibuild::executor::NamespaceExecutor;
use ocibuild::sandboxes::{DeviceSupport, Outcome, Rung, SandboxReport, SnapshotSupport};

/// All paths below a directory.
fn listed(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listed(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn each_kind_of_sandbox_is_reported_as_builds_find_it() {
    let directory = tempfile::tempdir().unwrap();
    let report = SandboxReport::find(Some(&directory.path().join("state")));
    let rungs: Vec<Rung> = report.rungs.iter().map(|rung| rung.rung).collect();
    assert_eq!(rungs, Rung::ALL);
    assert_eq!(report.rungs[4].outcome, Outcome::Unsupported);
    assert!(report.rungs[4].hints().is_empty());
    let chroot = NamespaceExecutor::new().try_chroot();
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(
        matches!(report.rungs[3].outcome, Outcome::Works { .. }),
        is_root && chroot.is_ok(),
        "{chroot:?}"
    );
    let state = StateDirectory::open(directory.path().join("state")).unwrap();
    let checked = state.check_sandbox(&NamespaceExecutor::new());
    assert_eq!(report.taken().is_some(), checked.is_ok(), "{:?} {checked:?}", report.rungs);
    assert_eq!(report.step.is_some(), report.taken().is_some());
    assert!(!report.kernel.is_empty());
    for runtime in &report.runtimes {
        assert!(runtime.path.is_file(), "{runtime:?}");
        let version = runtime.version.as_deref().unwrap();
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{runtime:?}");
    }
}

#[test]
fn nothing_is_left_behind_and_no_state_directory_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path();
    let tried = |root: &std::path::Path| match SandboxReport::find(Some(root)).snapshots.unwrap() {
        SnapshotSupport::Overlay { path }
        | SnapshotSupport::OverlayUser { path }
        | SnapshotSupport::Copy { path, .. } => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(tried(&parent.join("not/there")), parent);
    assert_eq!(listed(parent), Vec::<std::path::PathBuf>::new());
    // A state directory that exists, with what is in it.
    let root = parent.join("state");
    drop(StateDirectory::open(&root).unwrap());
    let before = listed(parent);
    assert_eq!(tried(&root), root.join("tmp"));
    assert_eq!(listed(parent), before);
    assert!(SandboxReport::find(None).snapshots.is_none());
}

#[test]
fn a_state_directory_that_cannot_be_made_is_said() {
    let report = SandboxReport::find(Some("/proc/1/nowhere".as_ref()));
    match report.snapshots.unwrap() {
        SnapshotSupport::Unusable { path, .. } => assert_eq!(path, std::path::Path::new("/proc/1")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn privileged_root_has_namespaces_of_its_own() {
    if !rustix::process::geteuid().is_root() || ocibuild_testkit::sys::namespaces_work().is_err() {
        return ocibuild_testkit::skip("this takes root with CAP_SYS_ADMIN");
    }
    let directory = tempfile::tempdir().unwrap();
    let report = SandboxReport::find(Some(directory.path()));
    assert_eq!((report.user, report.tried, report.taken()), (0, Some(Rung::Root), Some(Rung::Root)));
    let Outcome::Works { users } = &report.rungs[0].outcome else { panic!("{:?}", report.rungs) };
    assert!(users.iter().any(|range| range.contains(&0) && range.contains(&1)), "{users:?}");
    let step = report.step.unwrap();
    assert_eq!((&step.no_own_proc, step.own_sys, step.own_hostname), (&None, true, true));
    let limits: Vec<_> = step.limits.iter().map(|(limit, _)| *limit).collect();
    assert_eq!(limits, ocibuild::executor::Limit::ALL);
    assert_eq!(step.no_own_network, None);
    match ocibuild::executor::NetworkProgram::discover() {
        Ok(program) if step.private_network.is_some() => {
            assert_eq!(step.private_network.as_deref(), Some(program.path()));
            assert_eq!(step.no_private_network, None);
        }
        // It may take a way out that this place does not have itself.
        _ => assert!(step.no_private_network.is_some()),
    }
    assert!(matches!(step.devices, DeviceSupport::Cgroup | DeviceSupport::Mounts { reason: Some(_) }));
}
