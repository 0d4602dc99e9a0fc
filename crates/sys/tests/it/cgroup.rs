//! Cgroups of what this process starts.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ocibuild_sys::{
    AllowedDevice, Cgroup, CgroupError, CgroupLimits, CgroupRequest, LimitsMet, Operation, Sandbox, Status,
};

use crate::sandbox::{run, shell};

/// A cgroup; none, with the reason printed, where none can be made.
fn cgroup(request: &CgroupRequest<'_>) -> Option<Cgroup> {
    match Cgroup::new(request) {
        Ok(cgroup) => Some(cgroup),
        Err(error) => {
            ocibuild_testkit::skip(&format!("no cgroup: {error}"));
            None
        }
    }
}

fn device_cgroup(allowed: &[AllowedDevice]) -> Option<Cgroup> {
    cgroup(&CgroupRequest { devices: Some(allowed), ..CgroupRequest::default() })
}

fn limited(limits: CgroupLimits) -> Option<Cgroup> {
    cgroup(&CgroupRequest { limits, ..CgroupRequest::default() })
}

/// A command in a cgroup.
fn shell_in(cgroup: &Cgroup, script: &str) -> Sandbox {
    let mut sandbox = shell(script);
    let join = |path: PathBuf| Operation::JoinCgroup(CString::new(path.to_str().unwrap()).unwrap());
    sandbox.operations.extend(cgroup.processes().map(join));
    sandbox
}

fn directories(cgroup: &Cgroup) -> Vec<PathBuf> {
    cgroup.processes().map(|processes| processes.parent().unwrap().to_owned()).collect()
}

#[test]
fn privileged_a_device_cgroup_opens_what_it_names() {
    let null = AllowedDevice { major: 1, minor: Some(3) };
    let (Some(some), Some(none)) = (device_cgroup(&[null]), device_cgroup(&[])) else { return };
    let directory = tempfile::tempdir().unwrap();
    for (cgroup, expected) in [(&some, "made null\nzero: \n"), (&none, "made zero: \n")] {
        let path = directory.path().join("disk");
        let script = format!(
            "mknod {0} b 8 0 && rm {0} && printf 'made '; (cat < /dev/null) 2>&- && echo null; printf 'zero: '; (head -c 1 < /dev/zero) 2>&- | wc -c | grep 1; echo",
            path.display()
        );
        assert_eq!(run(&shell_in(cgroup, &script)), (Status::Exited(0), expected.to_owned()));
    }
}

#[test]
fn privileged_device_cgroups_that_were_left_behind_are_removed() {
    let Some(first) = device_cgroup(&[]) else { return };
    let [own] = &directories(&first)[..] else { panic!("one tree knows devices") };
    // As that of a builder that was killed, with what a runtime made in it.
    let left = own.with_file_name("ocibuild-step-0-left");
    fs::create_dir_all(left.join("a/b")).unwrap();
    let second = device_cgroup(&[]).unwrap();
    assert!(!left.exists() && own.exists(), "one that is in use stays");
    let own = own.clone();
    fs::create_dir(own.join("of-a-runtime")).unwrap();
    drop(first);
    drop(second);
    assert!(!own.exists());
}

#[test]
fn privileged_device_cgroups_made_at_once_do_not_take_each_other_away() {
    let Some(_first) = device_cgroup(&[]) else { return };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..150 {
                    let cgroup = device_cgroup(&[]).unwrap();
                    assert_eq!(run(&shell_in(&cgroup, "true")).0, Status::Exited(0), "round {round}");
                }
            });
        }
    });
}

/// Writes as much as it is told to into memory, in a process of its own.
const FILL: &str = "sh -c 'head -c $0 /dev/zero | tail' ";

#[test]
fn privileged_who_wants_more_memory_is_killed_and_it_is_told() {
    let Some(cgroup) = limited(CgroupLimits { memory: Some(32 << 20), ..CgroupLimits::default() }) else {
        return;
    };
    assert_eq!(run(&shell_in(&cgroup, &format!("{FILL} 1000000 | wc -c"))).1, "1000000\n");
    assert_eq!(cgroup.limits_met().unwrap(), LimitsMet::default());
    let (status, output) = run(&shell_in(&cgroup, &format!("{FILL} 300000000 | wc -c; echo on")));
    assert_eq!((status, output.lines().last()), (Status::Exited(0), Some("on")), "one process is killed");
    for _ in 0..2 {
        assert_eq!(cgroup.limits_met().unwrap(), LimitsMet { memory: true, processes: false });
    }
}

#[test]
fn privileged_a_fork_bomb_ends_at_its_limit() {
    let limits = CgroupLimits { processes: Some(20), ..CgroupLimits::default() };
    let Some(cgroup) = limited(limits) else { return };
    let bomb = "b() { b | b & }; b 2>/dev/null; i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 5 & done 2>/dev/null; echo";
    let (status, _) = run(&shell_in(&cgroup, bomb));
    assert_ne!(status, Status::Exited(0), "a shell that cannot fork ends");
    assert_eq!(cgroup.limits_met().unwrap(), LimitsMet { memory: false, processes: true });
    let directory = directories(&cgroup).remove(0);
    drop(cgroup);
    assert!(!directory.exists(), "all of them are gone");
}

#[test]
fn privileged_time_and_processors_are_limited() {
    let limits = CgroupLimits {
        cpu_quota: Some(20_000),
        cpu_period: Some(50_000),
        cpu_shares: Some(512),
        cpus: Some("0".to_owned()),
        ..CgroupLimits::default()
    };
    let Some(cgroup) = limited(limits) else { return };
    let allowed = run(&shell_in(&cgroup, "grep Cpus_allowed_list /proc/self/status")).1;
    assert_eq!(allowed.split_whitespace().last(), Some("0"));
    let read = |name: &str| {
        let mut files = directories(&cgroup).into_iter().map(|directory| directory.join(name));
        files.find_map(|file| fs::read_to_string(file).ok())
    };
    let one = [read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"), read("cpu.shares")];
    let texts = |values: &[&str]| values.iter().map(|value| Some(format!("{value}\n"))).collect::<Vec<_>>();
    if one[0].is_some() {
        assert_eq!(one.to_vec(), texts(&["20000", "50000", "512"]));
    } else {
        assert_eq!([read("cpu.max"), read("cpu.weight")].to_vec(), texts(&["20000 50000", "20"]));
    }
}

#[test]
fn privileged_a_cgroup_is_made_below_the_one_that_is_named() {
    let name = format!("ocibuild-test-{}/a", std::process::id());
    let limits = CgroupLimits { processes: Some(100), cpus: Some("0".to_owned()), ..CgroupLimits::default() };
    let absolute = format!("/{name}");
    for parent in [name.as_str(), &absolute] {
        let request =
            CgroupRequest { parent: Some(Path::new(parent)), limits: limits.clone(), devices: None };
        let Some(cgroup) = cgroup(&request) else { return };
        let shown = run(&shell_in(&cgroup, "cat /proc/self/cgroup")).1;
        assert!(shown.lines().any(|line| line.contains("pids:") || line.starts_with("0:")), "{shown}");
        let directories = directories(&cgroup);
        assert!(!directories.is_empty());
        for directory in &directories {
            assert!(directory.parent().unwrap().ends_with(&name), "{}", directory.display());
        }
        drop(cgroup);
        for directory in directories {
            assert!(!directory.exists());
            let parent = directory.parent().unwrap();
            fs::remove_dir(parent).unwrap();
            fs::remove_dir(parent.parent().unwrap()).unwrap();
        }
    }
}

#[test]
fn privileged_what_the_kernel_does_not_take_is_told_with_its_file() {
    let Some(_any) = limited(CgroupLimits { processes: Some(5), ..CgroupLimits::default() }) else { return };
    let limits = CgroupLimits { cpus: Some("4000".to_owned()), ..CgroupLimits::default() };
    let request = CgroupRequest { limits, ..CgroupRequest::default() };
    match Cgroup::new(&request) {
        Err(CgroupError::Kernel(error)) => {
            assert!(error.path().ends_with("cpuset.cpus"), "{error}");
            let parent = error.path().parent().unwrap();
            assert!(!parent.exists(), "nothing is left");
        }
        other => panic!("{other:?}"),
    }
}
