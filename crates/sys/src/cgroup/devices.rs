//! Which devices the processes of a cgroup may open: told by a program that the kernel asks (cgroup v2), or by the lists of the
//! `devices` controller (v1).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::hierarchy::{Version, write};
use crate::Error;
use crate::dir::last_errno;

/// Character devices that may be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedDevice {
    /// Major number.
    pub major: u32,
    /// Minor number; all of them where there is none.
    pub minor: Option<u32>,
}

/// Lets the processes of a cgroup make nodes of any number, as what packs files does, and open only the devices that are named.
pub(super) fn allow(
    version: Version,
    directory: &OwnedFd,
    path: &Path,
    allowed: &[AllowedDevice],
) -> Result<(), Error> {
    match version {
        Version::Two => ask_program(directory, path, allowed),
        Version::One => write_lists(directory, path, allowed),
    }
}

fn write_lists(directory: &OwnedFd, path: &Path, allowed: &[AllowedDevice]) -> Result<(), Error> {
    let write = |name: &str, line: &str| write(directory.as_fd(), path, name, line);
    write("devices.deny", "a")?;
    write("devices.allow", "b *:* m")?;
    write("devices.allow", "c *:* m")?;
    for device in allowed {
        let minor = device.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
        write("devices.allow", &format!("c {}:{minor} rwm", device.major))?;
    }
    Ok(())
}

/// One instruction of the kernel's machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// `BPF_LDX | BPF_MEM | BPF_W`, and so on: classes and operations of `linux/bpf_common.h`.
const LOAD: u8 = 0x61;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SET: u8 = 0xb7;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Allows to make nodes, and to read and write the devices named. What is asked about is a `struct bpf_cgroup_dev_ctx`: the
/// type in the low half of the first word and the access in the high one, then major and minor number.
fn program(allowed: &[AllowedDevice]) -> Vec<Instruction> {
    const CHARACTER: i32 = 2;
    const MAKE_NODE: i32 = 1;
    let mut program = vec![
        instruction(LOAD, 0x12, 0, 0),
        instruction(COPY, 0x23, 0, 0),
        instruction(AND, 0x02, 0, 0xffff),
        instruction(SHIFT_RIGHT, 0x03, 0, 16),
        instruction(LOAD, 0x14, 4, 0),
        instruction(LOAD, 0x15, 8, 0),
        instruction(JUMP_IF_NOT_EQUAL, 0x03, 2, MAKE_NODE),
        instruction(SET, 0x00, 0, 1),
        instruction(EXIT, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0x02, 2, CHARACTER),
        instruction(SET, 0x00, 0, 0),
        instruction(EXIT, 0, 0, 0),
    ];
    for device in allowed {
        let after = if device.minor.is_some() { 3 } else { 2 };
        program.push(instruction(JUMP_IF_NOT_EQUAL, 0x04, after, device.major as i32));
        if let Some(minor) = device.minor {
            program.push(instruction(JUMP_IF_NOT_EQUAL, 0x05, 2, minor as i32));
        }
        program.extend([instruction(SET, 0x00, 0, 1), instruction(EXIT, 0, 0, 0)]);
    }
    program.extend([instruction(SET, 0x00, 0, 0), instruction(EXIT, 0, 0, 0)]);
    program
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[expect(unsafe_code, reason = "neither rustix nor libc wraps bpf")]
fn ask_program(directory: &OwnedFd, path: &Path, allowed: &[AllowedDevice]) -> Result<(), Error> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE_PROGRAM: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTIPLE: u32 = 2;
    let program = program(allowed);
    let load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: what the struct points to outlives the call, and its size is given.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    if loaded < 0 {
        return Err(Error::new("load a program about devices for", path, last_errno()));
    }
    // SAFETY: a new descriptor that nobody else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    let attach = Attach {
        target: directory.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTIPLE,
    };
    // SAFETY: the struct outlives the call, and its size is given.
    let attached =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    if attached < 0 {
        return Err(Error::new("attach a program about devices to", path, last_errno()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program answers, carried out as the kernel would.
    fn answer(program: &[Instruction], kind: u32, access: u32, numbers: (u32, u32)) -> u64 {
        let context = [access << 16 | kind, numbers.0, numbers.1];
        let mut registers = [0_u64; 16];
        let mut at = 0_usize;
        loop {
            let Instruction { code, registers: both, offset, immediate } = program[at];
            let (to, from) = (usize::from(both & 0xf), usize::from(both >> 4));
            at += 1;
            match code {
                LOAD => {
                    assert_eq!(from, 1, "the context is in the first register");
                    registers[to] = u64::from(context[offset as usize / 4]);
                }
                COPY => registers[to] = registers[from],
                AND => registers[to] &= immediate as u64,
                SHIFT_RIGHT => registers[to] >>= immediate,
                SET => registers[to] = immediate as u64,
                JUMP_IF_EQUAL if registers[to] == immediate as u64 => at += offset as usize,
                JUMP_IF_NOT_EQUAL if registers[to] != immediate as u64 => at += offset as usize,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn programs_allow_what_is_named_and_no_more() {
        const NODE: u32 = 1;
        const READ: u32 = 2;
        const WRITE: u32 = 4;
        const BLOCK: u32 = 1;
        const CHARACTER: u32 = 2;
        let allowed = [AllowedDevice { major: 1, minor: Some(3) }, AllowedDevice { major: 136, minor: None }];
        let program = program(&allowed);
        for (kind, access, numbers, expected) in [
            (CHARACTER, READ | WRITE, (1, 3), 1),
            (CHARACTER, READ, (1, 3), 1),
            (CHARACTER, READ, (1, 1), 0),
            (CHARACTER, WRITE, (10, 3), 0),
            (CHARACTER, READ, (136, 9), 1),
            (BLOCK, READ, (1, 3), 0),
            (BLOCK, READ, (136, 0), 0),
            (BLOCK, NODE, (8, 0), 1),
            (CHARACTER, NODE, (10, 237), 1),
            (BLOCK, NODE | READ, (8, 0), 0),
        ] {
            assert_eq!(answer(&program, kind, access, numbers), expected, "{kind} {access} {numbers:?}");
        }
        assert_eq!(answer(&super::program(&[]), CHARACTER, READ, (1, 3)), 0);
    }
}
