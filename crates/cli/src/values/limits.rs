//! Limits of steps: those of processes, and those of cgroups.

use std::path::Path;

use ocibuild::Error;
use ocibuild::dockerfile::nearest;
use ocibuild::executor::CAPABILITIES;
use ocibuild::executor::{Capabilities, PosixRlimitType, Resources, Rlimit};

use super::size;
use crate::args::LimitArgs;
use crate::failure::usage;

/// What cgroups limit. Own namespaces make none, and crun is told to make none where it cannot.
pub(crate) fn resources(args: &LimitArgs, runtime: Option<&Path>) -> Result<Resources, Error> {
    let bytes = |flag: &str, text: &Option<String>| -> Result<Option<i64>, Error> {
        let Some(text) = text.as_deref() else { return Ok(None) };
        if text == "-1" {
            return Ok(Some(-1));
        }
        let bytes = size(flag, text)?;
        i64::try_from(bytes).map(Some).map_err(|_| usage(format!("{flag} {text}: too large")))
    };
    let parent = args.cgroup_parent.as_ref();
    if let Some(parent) =
        parent.filter(|parent| parent.is_empty() || parent.split('/').any(|part| part == ".."))
    {
        return Err(usage(format!("--cgroup-parent {parent:?}: not the path of a cgroup")));
    }
    let resources = Resources {
        cgroup_parent: args.cgroup_parent.clone(),
        memory: bytes("--memory", &args.memory)?,
        memory_swap: bytes("--memory-swap", &args.memory_swap)?,
        cpu_shares: args.cpu_shares,
        cpu_period: args.cpu_period,
        cpu_quota: args.cpu_quota,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
    };
    if runtime.is_none()
        && let Some(flag) = given(&resources)
    {
        return Err(usage(format!("{flag}: this limit needs cgroups, which own namespaces do not make"))
            .hint("--runtime runc makes them, if this host allows it"));
    }
    Ok(resources)
}

/// The first limit that was given, as its flag.
fn given(resources: &Resources) -> Option<&'static str> {
    let flags = [
        ("--cgroup-parent", resources.cgroup_parent.is_some()),
        ("--memory", resources.memory.is_some()),
        ("--memory-swap", resources.memory_swap.is_some()),
        ("--cpu-shares", resources.cpu_shares.is_some()),
        ("--cpu-period", resources.cpu_period.is_some()),
        ("--cpu-quota", resources.cpu_quota.is_some()),
        ("--cpuset-cpus", resources.cpuset_cpus.is_some()),
        ("--cpuset-mems", resources.cpuset_mems.is_some()),
    ];
    flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
}

/// Names of capabilities, each as docker takes it.
pub(crate) fn capabilities(names: &[String]) -> Result<Capabilities, Error> {
    let read = |name: &String| {
        name.parse::<Capabilities>().map_err(|error| {
            let own = usage(format!("--cap-drop {name}: {error}"));
            let known: Vec<&str> =
                CAPABILITIES.iter().map(|known| known.trim_start_matches("CAP_")).chain(["ALL"]).collect();
            let short = error.name().to_ascii_uppercase();
            match nearest(short.trim_start_matches("CAP_"), known.iter().copied()) {
                Some(near) => own.hint(format!("did you mean --cap-drop {near}?")),
                None => own.hint("the names are those of capabilities(7), like NET_RAW, and ALL"),
            }
        })
    };
    names.iter().try_fold(Capabilities::NONE, |set, name| Ok(set.with(read(name)?)))
}

/// `NAME=SOFT[:HARD]`; -1 is without limit.
pub(crate) fn ulimit(text: &str) -> Result<Rlimit, Error> {
    let malformed = || {
        let error = usage(format!("--ulimit {text}: not of the form NAME=SOFT[:HARD]"));
        error.hint("write --ulimit nofile=1024:4096")
    };
    let (name, limits) = text.split_once('=').ok_or_else(malformed)?;
    let resource = resource(name).ok_or_else(|| {
        usage(format!("--ulimit {text}: unknown limit {name:?}"))
            .hint("the limits are nofile, nproc, core and the like")
    })?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        _ => text.parse::<u64>().map_err(|_| malformed()),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(usage(format!("--ulimit {text}: the soft limit is above the hard one"))
            .hint("write the smaller one first"));
    }
    Ok(Rlimit { resource, soft, hard })
}

fn resource(name: &str) -> Option<PosixRlimitType> {
    Some(match name {
        "core" => PosixRlimitType::RlimitCore,
        "cpu" => PosixRlimitType::RlimitCpu,
        "data" => PosixRlimitType::RlimitData,
        "fsize" => PosixRlimitType::RlimitFsize,
        "locks" => PosixRlimitType::RlimitLocks,
        "memlock" => PosixRlimitType::RlimitMemlock,
        "msgqueue" => PosixRlimitType::RlimitMsgqueue,
        "nice" => PosixRlimitType::RlimitNice,
        "nofile" => PosixRlimitType::RlimitNofile,
        "nproc" => PosixRlimitType::RlimitNproc,
        "rss" => PosixRlimitType::RlimitRss,
        "rtprio" => PosixRlimitType::RlimitRtprio,
        "rttime" => PosixRlimitType::RlimitRttime,
        "sigpending" => PosixRlimitType::RlimitSigpending,
        "stack" => PosixRlimitType::RlimitStack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_told_apart_from_typos() {
        let names =
            |names: &[&str]| capabilities(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["NET_RAW", "cap_mknod"]).unwrap().names().count(), 2);
        assert_eq!(names(&["all"]).unwrap(), Capabilities::ALL);
        assert!(names(&[]).unwrap().is_empty());
        let error = names(&["NET_RAW", "NET_ROW"]).unwrap_err();
        assert!(error.to_string().contains("--cap-drop NET_ROW: unknown capability"), "{error}");
        assert_eq!(error.reports()[0].hint_texts(), ["did you mean --cap-drop NET_RAW?"]);
    }

    #[test]
    fn limits_are_soft_and_hard() {
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.soft, limit.hard), (10, 20));
        assert_eq!(ulimit("core=-1").unwrap().hard, u64::MAX);
        for bad in ["nofile", "x=1", "nofile=2:1", "nofile=a"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_cgroups_take_a_runtime() {
        let args = LimitArgs { memory: Some("64m".to_owned()), ..LimitArgs::default() };
        let error = resources(&args, None).unwrap_err();
        assert!(error.to_string().starts_with("--memory: this limit needs cgroups"), "{error}");
        assert_eq!(resources(&args, Some(Path::new("runc"))).unwrap().memory, Some(64 << 20));
        let unlimited = LimitArgs { memory_swap: Some("-1".to_owned()), ..LimitArgs::default() };
        assert_eq!(resources(&unlimited, Some(Path::new("runc"))).unwrap().memory_swap, Some(-1));
        for bad in ["", "a/../b"] {
            let args = LimitArgs { cgroup_parent: Some(bad.to_owned()), ..LimitArgs::default() };
            assert!(resources(&args, Some(Path::new("runc"))).is_err(), "{bad}");
        }
        assert!(resources(&LimitArgs::default(), None).unwrap().is_empty());
    }
}
