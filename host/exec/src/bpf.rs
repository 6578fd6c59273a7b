//! Instructions of seccomp filters (classic BPF; seccomp(2), linux/filter.h), for the filter round a command and for the one
//! that decides which calls the translator is asked about.

use crate::sys::Instruction;

/// The CLONE_NEW* flags of mount, cgroup, uts, ipc, user, pid and network namespaces; CLONE_NEWTIME is a flag of unshare
/// only.
const NEW_NAMESPACES: u32 = 0x7E02_0000;
const CLONE_NEWTIME: u32 = 0x80;

/// Offsets in `struct seccomp_data`; the first argument's low half comes first on little-endian machines.
pub const NUMBER: u32 = 0;
/// See [`NUMBER`].
pub const ARCHITECTURE: u32 = 4;
/// See [`NUMBER`].
pub const FIRST_ARGUMENT: u32 = 16;
/// See [`NUMBER`].
pub const SECOND_ARGUMENT: u32 = 24;

/// Answers clone and unshare, by their numbers: EPERM where they would make namespaces. Other calls go on.
pub fn refuse_namespaces(clone: u32, unshare: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (number, flags) in [(clone, NEW_NAMESPACES), (unshare, NEW_NAMESPACES | CLONE_NEWTIME)] {
        program.push(jump_if_equal(number, 0, 4));
        program.push(load(FIRST_ARGUMENT));
        program.push(instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, flags, 0, 1));
        program.push(fail(libc::EPERM));
        program.push(allow());
    }
    program
}

/// Loads a word of `struct seccomp_data`.
pub fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Passes over `then` instructions if the word is `value`, else over `otherwise`.
pub fn jump_if_equal(value: u32, then: u8, otherwise: u8) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, then, otherwise)
}

/// The call fails.
pub fn fail(errno: i32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0)
}

/// The call runs.
pub fn allow() -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0)
}

/// Any other one.
pub fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: code as u16, jt, jf, k }
}
