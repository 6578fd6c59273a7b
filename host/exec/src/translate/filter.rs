//! Which calls stop: those that name files or ids. Everything about open descriptors but their metadata runs untouched.

use crate::sys::Instruction;

use super::{calls, registers::AUDIT_ARCH};

/// What the filter answers to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The tracer is asked.
    Trace,
    /// The call fails.
    Fail(i32),
}

/// The CLONE_NEW* flags of clone and unshare (time, mount, cgroup, uts, ipc, user, pid and network namespaces).
const NEW_NAMESPACES: u32 = 0x7E02_0000;
const CLONE_NEWTIME: u32 = 0x80;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// The program. Without network, sockets other than unix ones don't exist.
pub fn program(network: bool) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE), jump_if_equal(AUDIT_ARCH, 1, 0), fail(libc::ENOSYS), load(NUMBER)];
    // Calls that are newer than the translator, and those of x32: nobody knows what they would do.
    program.push(instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, calls::HIGHEST as u32, 0, 1));
    program.push(fail(libc::ENOSYS));
    for (number, flags) in [(libc::SYS_clone, NEW_NAMESPACES), (libc::SYS_unshare, NEW_NAMESPACES | CLONE_NEWTIME)] {
        program.push(jump_if_equal(number as u32, 0, 4));
        program.push(load(FIRST_ARGUMENT));
        program.push(instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, flags, 0, 1));
        program.push(fail(libc::EPERM));
        program.push(allow());
    }
    if !network {
        program.push(jump_if_equal(libc::SYS_socket as u32, 0, 4));
        program.push(load(FIRST_ARGUMENT));
        program.push(jump_if_equal(libc::AF_UNIX as u32, 1, 0));
        program.push(fail(libc::EAFNOSUPPORT));
        program.push(allow());
    }
    for (number, answer) in calls::answers() {
        program.push(jump_if_equal(number as u32, 0, 1));
        program.push(match answer {
            Answer::Trace => instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE, 0, 0),
            Answer::Fail(errno) => fail(errno),
        });
    }
    program.push(allow());
    program
}

fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump_if_equal(value: u32, then: u8, otherwise: u8) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, then, otherwise)
}

fn fail(errno: i32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0)
}

fn allow() -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: code as u16, jt, jf, k }
}
