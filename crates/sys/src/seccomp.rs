use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use crate::syscalls::{NEWEST, SYSTEM_CALLS};

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Allow,
    /// It fails with this error number.
    Errno(u16),
    /// Whoever has the [`Listener`](crate::Listener) of the filter answers it. For calls that a 32-bit program makes on a
    /// 64-bit kernel it is ENOSYS: their arguments have another form, and nobody answers them.
    Notify,
}

/// A comparison of the low 32 bits of one argument, which is all the kernel takes of the arguments that
/// profiles compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Equal to the value.
    Equal(u32),
    /// Not equal to the value.
    NotEqual(u32),
    /// Less than the value.
    Less(u32),
    /// Equal to `value` in the bits of `mask`.
    MaskedEqual {
        /// Bits that count.
        mask: u32,
        /// What they must be.
        value: u32,
    },
}

/// One line of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Names of system calls; names that an architecture does not have are passed over.
    pub names: Vec<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Argument (0 to 5) and what it must be for the rule to hold; several rules for one name are alternatives.
    pub condition: Option<(u8, Condition)>,
}

/// Which system calls a process may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Verdict on calls that no rule names.
    pub default: Verdict,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// A [`Profile`] as a program for the kernel, made by [`Profile::compile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub(crate) program: Vec<Instruction>,
}

impl Filter {
    /// Whether some calls are answered by the holder of a [`Listener`](crate::Listener).
    pub fn notifies(&self) -> bool {
        self.program.contains(&result(Verdict::Notify))
    }
}

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

/// What docker's default profile allows to a container with docker's default capabilities, whatever the
/// arguments. The filters on arguments are in [`Profile::container_default`].
const ALLOWED: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset \
    chdir chmod chown chown32 chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 \
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait \
    epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat \
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown \
    fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr \
    fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue \
    futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid \
    getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr \
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
    mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal \
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv \
    process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink \
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr \
    removexattrat rename renameat renameat2 restart_syscall riscv_flush_icache riscv_hwprobe rmdir rseq \
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 \
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid \
    setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx \
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 \
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork \
    vmsplice wait4 waitid waitpid write writev";

/// Address families whose sockets docker allows: no `AF_ALG`, no `AF_VSOCK`, and none that nobody uses.
const FAMILIES_FROM_12: [u32; 23] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43];

/// Execution domains that docker allows: `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The `CLONE_NEW…` flags.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

impl Profile {
    /// Docker's default profile for docker's default capabilities: EPERM for what is not allowed.
    ///
    /// What keeps the arguments that rules look at behind a pointer is ENOSYS, as if the kernel did not have it:
    /// `clone3` (C libraries then fall back to `clone`), and `socketcall`, the way of 32-bit programs to sockets
    /// before Linux 4.3.
    pub fn container_default() -> Self {
        let allow = |name: &str, condition| Rule {
            names: vec![name.to_owned()],
            verdict: Verdict::Allow,
            condition: Some(condition),
        };
        let unknown = |name: &str| Rule {
            names: vec![name.to_owned()],
            verdict: Verdict::Errno(libc::ENOSYS as u16),
            condition: None,
        };
        let names = ALLOWED.split_ascii_whitespace().map(str::to_owned).collect();
        // Before all that names sockets, and not as EPERM, which is the default: a library that makes filters of
        // profiles would otherwise allow, with each call about sockets, the way to it through `socketcall`.
        let mut rules = vec![unknown("socketcall"), Rule { names, verdict: Verdict::Allow, condition: None }];
        rules.push(allow("socket", (0, Condition::Less(12))));
        let families = FAMILIES_FROM_12.into_iter().chain([44, 45]);
        rules.extend(families.map(|family| allow("socket", (0, Condition::Equal(family)))));
        rules.extend(PERSONALITIES.map(|domain| allow("personality", (0, Condition::Equal(domain)))));
        let no_namespaces = Condition::MaskedEqual { mask: CLONE_NAMESPACES, value: 0 };
        rules.push(allow("clone", (0, no_namespaces)));
        rules.push(unknown("clone3"));
        Self { default: Verdict::Errno(libc::EPERM as u16), rules }
    }

    /// The program for this architecture and, on `x86_64`, for i386 programs too. Calls made in any other way
    /// (x32, 32-bit ARM) and calls newer than this crate are ENOSYS.
    pub fn compile(&self) -> Filter {
        let mut program = vec![load(OFFSET_ARCHITECTURE)];
        for architecture in Architecture::NATIVE {
            let section = self.section(*architecture);
            program.push(jump(JUMP_EQUAL, architecture.audit(), 1, 0));
            program.push(jump_always(section.len() as u32));
            program.extend(section);
        }
        program.push(result(Verdict::Errno(libc::ENOSYS as u16)));
        Filter { program }
    }

    fn section(&self, architecture: Architecture) -> Vec<Instruction> {
        let mut calls: BTreeMap<u32, Checks> = BTreeMap::new();
        let numbers = |wanted: &str| {
            let row = SYSTEM_CALLS.binary_search_by(|row| row.0.cmp(wanted)).ok().map(|i| &SYSTEM_CALLS[i]);
            row.and_then(|row| u32::try_from(architecture.number(row)).ok())
        };
        for rule in &self.rules {
            let verdict = architecture.judged(rule.verdict);
            for number in rule.names.iter().filter_map(|name| numbers(name)) {
                let checks = calls.entry(number).or_default();
                match rule.condition {
                    Some(condition) => checks.conditions.push((condition, verdict)),
                    None => checks.verdict = Some(verdict),
                }
            }
        }
        let mut program = vec![load(OFFSET_NUMBER)];
        program.extend(search(&ranges(&calls, self.default)));
        program
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Checks {
    conditions: Vec<((u8, Condition), Verdict)>,
    verdict: Option<Verdict>,
}

/// Number of the first call of each range of calls that are treated alike; the first range starts at 0.
fn ranges(calls: &BTreeMap<u32, Checks>, default: Verdict) -> Vec<(u32, Vec<Instruction>)> {
    let mut ranges: Vec<(u32, Vec<Instruction>)> = Vec::new();
    let mut push = |start, code: Vec<Instruction>| {
        if ranges.last().is_none_or(|(_, last)| *last != code) {
            ranges.push((start, code));
        }
    };
    let mut next = 0;
    for (number, checks) in calls {
        if *number > next {
            push(next, vec![result(default)]);
        }
        push(*number, checks.code(default));
        next = number + 1;
    }
    if next <= NEWEST {
        push(next, vec![result(default)]);
    }
    push(next.max(NEWEST + 1), vec![result(Verdict::Errno(libc::ENOSYS as u16))]);
    ranges
}

impl Checks {
    fn code(&self, default: Verdict) -> Vec<Instruction> {
        let mut code = Vec::new();
        for ((argument, condition), verdict) in &self.conditions {
            code.push(load(OFFSET_ARGUMENTS + 8 * u32::from(*argument)));
            match condition {
                Condition::Equal(value) => code.push(jump(JUMP_EQUAL, *value, 0, 1)),
                Condition::NotEqual(value) => code.push(jump(JUMP_EQUAL, *value, 1, 0)),
                Condition::Less(value) => code.push(jump(JUMP_GREATER_EQUAL, *value, 1, 0)),
                Condition::MaskedEqual { mask, value } => {
                    code.push(Instruction { code: AND, jump_true: 0, jump_false: 0, k: *mask });
                    code.push(jump(JUMP_EQUAL, *value, 0, 1));
                }
            }
            code.push(result(*verdict));
        }
        code.push(result(self.verdict.unwrap_or(default)));
        code
    }
}

/// A binary search over the ranges, so that no call pays for the length of the list.
fn search(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    if let [(_, code)] = ranges {
        return code.clone();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = search(low);
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![jump(JUMP_GREATER_EQUAL, high[0].0, length, 0)],
        // Conditional jumps reach 255 instructions.
        Err(_) => vec![jump(JUMP_GREATER_EQUAL, high[0].0, 0, 1), jump_always(below.len() as u32)],
    };
    program.extend(below);
    program.extend(search(high));
    program
}

#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "each build makes only its own")]
enum Architecture {
    X86_64,
    I386,
    Aarch64,
    Riscv64,
}

impl Architecture {
    #[cfg(target_arch = "x86_64")]
    const NATIVE: &[Self] = &[Self::X86_64, Self::I386];
    #[cfg(target_arch = "aarch64")]
    const NATIVE: &[Self] = &[Self::Aarch64];
    #[cfg(target_arch = "riscv64")]
    const NATIVE: &[Self] = &[Self::Riscv64];

    /// `AUDIT_ARCH_…`: the ELF machine with flags for 64 bit and little endian.
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0x3e | 0xc000_0000,
            Self::I386 => 0x03 | 0x4000_0000,
            Self::Aarch64 => 0xb7 | 0xc000_0000,
            Self::Riscv64 => 0xf3 | 0xc000_0000,
        }
    }

    /// The verdict as far as calls of this architecture can have it.
    fn judged(self, verdict: Verdict) -> Verdict {
        match (self, verdict) {
            (Self::I386, Verdict::Notify) => Verdict::Errno(libc::ENOSYS as u16),
            (_, verdict) => verdict,
        }
    }

    fn number(self, row: &(&str, i32, i32, i32)) -> i32 {
        match self {
            Self::X86_64 => row.1,
            Self::I386 => row.2,
            Self::Aarch64 | Self::Riscv64 => row.3,
        }
    }
}

/// Offsets in `struct seccomp_data`; arguments are little endian, so their low half comes first.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;

fn load(offset: u32) -> Instruction {
    Instruction { code: 0x20, jump_true: 0, jump_false: 0, k: offset }
}

fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

fn jump_always(distance: u32) -> Instruction {
    Instruction { code: 0x05, jump_true: 0, jump_false: 0, k: distance }
}

fn result(verdict: Verdict) -> Instruction {
    let k = match verdict {
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        Verdict::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Verdict::Notify => libc::SECCOMP_RET_USER_NOTIF,
    };
    Instruction { code: 0x06, jump_true: 0, jump_false: 0, k }
}

/// Name of a call of this machine's own architecture.
pub(crate) fn call_name(number: i32) -> Option<&'static str> {
    static NAMES: LazyLock<HashMap<i32, &'static str>> = LazyLock::new(|| {
        let native = Architecture::NATIVE[0];
        SYSTEM_CALLS
            .iter()
            .map(|row| (native.number(row), row.0))
            .filter(|(number, _)| *number >= 0)
            .collect()
    });
    NAMES.get(&number).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would, on one call.
    fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u32; 6]) -> u32 {
        let mut at = 0;
        let mut accumulator = 0;
        loop {
            let Instruction { code, jump_true, jump_false, k } = filter.program[at];
            at += 1;
            match code {
                0x20 if k == OFFSET_NUMBER => accumulator = number,
                0x20 if k == OFFSET_ARCHITECTURE => accumulator = architecture,
                0x20 => accumulator = arguments[(k as usize - 16) / 8],
                0x05 => at += k as usize,
                0x06 => return k,
                AND => accumulator &= k,
                JUMP_EQUAL => at += usize::from(if accumulator == k { jump_true } else { jump_false }),
                JUMP_GREATER_EQUAL => {
                    at += usize::from(if accumulator >= k { jump_true } else { jump_false });
                }
                _ => unreachable!("code {code}"),
            }
        }
    }

    fn verdict(number: u32, arguments: [u32; 6]) -> u32 {
        run(&Profile::container_default().compile(), Architecture::NATIVE[0].audit(), number, arguments)
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn every_call_of_the_table_is_judged_as_its_rules_say() {
        let profile = Profile::container_default();
        let filter = profile.compile();
        for architecture in Architecture::NATIVE {
            for row in SYSTEM_CALLS {
                let Ok(number) = u32::try_from(architecture.number(row)) else { continue };
                let allowed = ALLOWED.split_ascii_whitespace().any(|name| name == row.0);
                let expected = match row.0 {
                    "clone3" | "socketcall" => ENOSYS,
                    "socket" | "clone" | "personality" => ALLOW,
                    _ if allowed => ALLOW,
                    _ => EPERM,
                };
                let actual = run(&filter, architecture.audit(), number, [0; 6]);
                assert_eq!(actual, expected, "{} on {architecture:?}", row.0);
            }
        }
    }

    #[test]
    fn arguments_are_looked_at() {
        let clone = libc::SYS_clone as u32;
        assert_eq!(verdict(clone, [libc::SIGCHLD as u32, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(clone, [libc::CLONE_NEWUSER as u32, 0, 0, 0, 0, 0]), EPERM);
        let socket = libc::SYS_socket as u32;
        assert_eq!(verdict(socket, [libc::AF_INET as u32, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(socket, [libc::AF_ALG as u32, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(verdict(socket, [libc::AF_VSOCK as u32, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(verdict(libc::SYS_personality as u32, [0x40000, 0, 0, 0, 0, 0]), EPERM);
    }

    /// Whichever way a call is made, what is refused one way is refused the other.
    #[test]
    fn rules_about_arguments_hold_on_every_architecture() {
        let profile = Profile::container_default();
        let filter = profile.compile();
        let judged: Vec<&Rule> = profile.rules.iter().filter(|rule| rule.condition.is_some()).collect();
        assert!(!judged.is_empty());
        // What is refused, as the first argument of each.
        let refused: [(&str, &[i32]); 3] = [
            ("socket", &[libc::AF_ALG, libc::AF_VSOCK, 12, 1000, -1]),
            ("clone", &[libc::CLONE_NEWUSER | libc::SIGCHLD, libc::CLONE_NEWNET, libc::CLONE_NEWNS]),
            ("personality", &[0x0040_0000, 1]),
        ];
        for rule in &judged {
            assert!(refused.iter().any(|(name, _)| rule.names == [*name]), "{rule:?} is not tried");
        }
        for architecture in Architecture::NATIVE {
            for (name, arguments) in refused {
                let row = SYSTEM_CALLS.iter().find(|row| row.0 == name).unwrap();
                let number = u32::try_from(architecture.number(row)).unwrap();
                for argument in arguments {
                    let arguments = [*argument as u32, 0, 0, 0, 0, 0];
                    let actual = run(&filter, architecture.audit(), number, arguments);
                    assert_eq!(actual, EPERM, "{name} {argument:#x} on {architecture:?}");
                }
            }
        }
        // A call that carries others is not allowed, but for `ipc`: all that it carries is allowed by its own name.
        for carrier in ["socketcall", "clone3", "syscall", "io_uring_setup", "io_uring_enter"] {
            assert!(!ALLOWED.split_ascii_whitespace().any(|name| name == carrier), "{carrier}");
        }
        for carried in ["semop", "semget", "semctl", "msgsnd", "msgrcv", "msgget", "msgctl", "shmat", "shmdt"]
        {
            assert!(ALLOWED.split_ascii_whitespace().any(|name| name == carried), "{carried}");
        }
    }

    #[test]
    fn what_is_answered_elsewhere_is_refused_to_programs_of_32_bits() {
        let mut profile = Profile::container_default();
        assert!(!profile.compile().notifies());
        let creates = Condition::MaskedEqual { mask: libc::O_CREAT as u32, value: libc::O_CREAT as u32 };
        let rule = |name: &str, condition| Rule {
            names: vec![name.to_owned()],
            verdict: Verdict::Notify,
            condition,
        };
        profile.rules.extend([rule("fchown", None), rule("openat", Some((2, creates)))]);
        let filter = profile.compile();
        assert!(filter.notifies());
        let notify = libc::SECCOMP_RET_USER_NOTIF;
        let openat = |flags: i32| [0, 0, flags as u32, 0, 0, 0];
        for architecture in Architecture::NATIVE {
            let number = |name: &str| {
                let row = SYSTEM_CALLS.iter().find(|row| row.0 == name).unwrap();
                u32::try_from(architecture.number(row)).unwrap()
            };
            let expected = if matches!(architecture, Architecture::I386) { ENOSYS } else { notify };
            let judge = |name: &str, arguments| run(&filter, architecture.audit(), number(name), arguments);
            assert_eq!(judge("fchown", [0; 6]), expected, "{architecture:?}");
            assert_eq!(judge("openat", openat(libc::O_CREAT | libc::O_WRONLY)), expected, "{architecture:?}");
            assert_eq!(judge("openat", openat(libc::O_RDWR)), ALLOW, "{architecture:?}");
        }
    }

    #[test]
    fn strangers_get_enosys() {
        let filter = Profile::container_default().compile();
        assert_eq!(verdict(NEWEST + 1, [0; 6]), ENOSYS);
        assert_eq!(verdict(0x4000_0000, [0; 6]), ENOSYS);
        assert_eq!(run(&filter, 40, 1, [0; 6]), ENOSYS);
    }

    #[test]
    fn the_table_is_sorted_and_the_program_short() {
        assert!(SYSTEM_CALLS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(Profile::container_default().compile().program.len() < 1000);
        for name in ALLOWED.split_ascii_whitespace() {
            let known = SYSTEM_CALLS.binary_search_by(|row| row.0.cmp(name)).is_ok();
            // Calls of architectures that are not in the table; runtimes read the same list.
            assert!(known || name.starts_with("riscv_") || matches!(name, "recv" | "send"), "{name}");
        }
    }
}
