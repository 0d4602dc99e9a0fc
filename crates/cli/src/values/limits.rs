//! Limits of steps: those of processes, and those of cgroups.

use ocibuild::Error;
use ocibuild::dockerfile::nearest;
use ocibuild::executor::CAPABILITIES;
use ocibuild::executor::{Capabilities, PosixRlimitType, Resources, Rlimit};

use super::size;
use crate::args::LimitArgs;
use crate::failure::usage;

/// The least memory that a step can have, as with docker.
const LEAST_MEMORY: i64 = 6 << 20;

/// The period in which the time of `--cpus` counts, in microseconds.
const PERIOD: u64 = 100_000;

/// What cgroups limit.
pub(crate) fn resources(args: &LimitArgs) -> Result<Resources, Error> {
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
    let memory = bytes("--memory", &args.memory)?;
    let memory_swap = bytes("--memory-swap", &args.memory_swap)?;
    if memory.is_some_and(|memory| (0..LEAST_MEMORY).contains(&memory)) {
        return Err(usage("--memory: a step needs 6 MiB or more").hint("write a larger number, like 512m"));
    }
    match (memory_swap, memory) {
        (Some(_), None) => {
            return Err(usage(
                "--memory-swap: it limits memory and swap together, and takes --memory beside it",
            ));
        }
        (Some(both), Some(memory)) if both != -1 && both < memory => {
            return Err(usage("--memory-swap: memory and swap together cannot be less than --memory")
                .hint("write the sum of both, or -1 for any amount of swap"));
        }
        _ => {}
    }
    let (mut cpu_period, mut cpu_quota) = (args.cpu_period, args.cpu_quota);
    if let Some(cpus) = &args.cpus {
        if cpu_period.is_some() || cpu_quota.is_some() {
            return Err(usage(
                "--cpus: it stands for --cpu-period and --cpu-quota, and is given instead of them",
            ));
        }
        cpu_period = Some(PERIOD);
        cpu_quota = Some(quota(cpus)?);
    }
    Ok(Resources {
        cgroup_parent: args.cgroup_parent.clone(),
        memory,
        memory_swap,
        // Any number, as docker has it.
        processes: args.pids_limit.filter(|limit| *limit > 0),
        cpu_shares: args.cpu_shares,
        cpu_period,
        cpu_quota,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
    })
}

/// The time of as many CPUs in each period.
fn quota(cpus: &str) -> Result<i64, Error> {
    let malformed = || usage(format!("--cpus {cpus}: not a number of CPUs")).hint("write --cpus 1.5");
    let (whole, part) = cpus.split_once('.').unwrap_or((cpus, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && part.is_empty() || !is_number(whole) || !is_number(part) {
        return Err(malformed());
    }
    // A hundred thousandth of a CPU is a microsecond.
    let digits = format!("0{whole}{part:0<5.5}");
    let quota = digits.parse::<i64>().map_err(|_| malformed())?;
    if quota < 1000 {
        return Err(usage(format!("--cpus {cpus}: less than 0.01")).hint("write --cpus 0.01 or more"));
    }
    Ok(quota)
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

/// The size of `/dev/shm`, if it is given.
pub(crate) fn shm_size(args: &LimitArgs) -> Result<Option<u64>, Error> {
    args.shm_size.as_deref().map(|text| size("--shm-size", text)).transpose()
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
    fn limits_of_cgroups_are_read_and_checked() {
        let none = LimitArgs::default;
        let text = |text: &str| Some(text.to_owned());
        assert!(resources(&none()).unwrap().is_empty());
        let given = LimitArgs {
            memory: text("64m"),
            memory_swap: text("-1"),
            pids_limit: Some(100),
            cpus: text("1.5"),
            ..none()
        };
        let expected = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(-1),
            processes: Some(100),
            cpu_period: Some(100_000),
            cpu_quota: Some(150_000),
            ..Resources::default()
        };
        assert_eq!(resources(&given).unwrap(), expected);
        assert!(resources(&LimitArgs { pids_limit: Some(-1), ..none() }).unwrap().is_empty());
        for (bad, words) in [
            (LimitArgs { cgroup_parent: text(""), ..none() }, "--cgroup-parent \"\": not the path"),
            (LimitArgs { cgroup_parent: text("a/../b"), ..none() }, "not the path"),
            (LimitArgs { memory: text("5m"), ..none() }, "--memory: a step needs 6 MiB"),
            (LimitArgs { memory_swap: text("1g"), ..none() }, "takes --memory beside it"),
            (
                LimitArgs { memory: text("1g"), memory_swap: text("512m"), ..none() },
                "cannot be less than --memory",
            ),
            (LimitArgs { cpus: text("1"), cpu_quota: Some(5), ..none() }, "instead of them"),
        ] {
            let error = resources(&bad).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn cpus_are_time_in_a_period() {
        for (text, expected) in [("2", 200_000), ("0.01", 1000), (".5", 50_000), ("1.234567", 123_456)] {
            assert_eq!(quota(text).unwrap(), expected, "{text}");
        }
        for bad in ["", ".", "0", "0.001", "-1", "1e3", "1.x", "99999999999999999999"] {
            assert!(quota(bad).is_err(), "{bad}");
        }
    }
}
