//! Which calls stop: those that name files or ids. Everything about open descriptors but their metadata runs untouched.

use super::{calls, footing::Footing, registers::AUDIT_ARCH};
use crate::{
    bpf::{
        ARCHITECTURE, FIRST_ARGUMENT, NUMBER, SECOND_ARGUMENT, allow, fail, instruction, jump_if_equal, load,
        refuse_namespaces,
    },
    sys::Instruction,
};

/// Where `struct seccomp_data` has the low halves of the third and the fifth argument.
const THIRD_ARGUMENT: u32 = FIRST_ARGUMENT + 2 * 8;
const FIFTH_ARGUMENT: u32 = FIRST_ARGUMENT + 4 * 8;

/// What the filter answers to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The tracer is asked.
    Trace,
    /// The call fails.
    Fail(i32),
}

/// What stops beside the calls that always do.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// Those by which a task could see or lose what it stands on.
    pub footing: Footing,
    /// Those that write.
    pub writing: bool,
}

/// The program. Without `sockets`, there are none but unix ones.
pub fn program(sockets: bool, stopped: Stopped) -> Vec<Instruction> {
    // Calls of another processor's programs: the tracer says so, and answers ENOSYS.
    let trap = instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRAP, 0, 0);
    let mut program = vec![load(ARCHITECTURE), jump_if_equal(AUDIT_ARCH, 1, 0), trap, load(NUMBER)];
    // Calls that are newer than the translator, and those of x32: nobody knows what they would do.
    program.push(instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, calls::HIGHEST as u32, 0, 1));
    program.push(fail(libc::ENOSYS));
    program.extend(refuse_namespaces(libc::SYS_clone as u32, libc::SYS_unshare as u32));
    if let Some(door) = stopped.footing.door() {
        program.extend(keep_open(door as u32));
    }
    // A lease would make others wait who read the same file of a layer (fcntl(2)).
    program.push(jump_if_equal(libc::SYS_fcntl as u32, 0, 4));
    program.push(load(SECOND_ARGUMENT));
    program.push(jump_if_equal(libc::F_SETLEASE as u32, 0, 1));
    program.push(fail(libc::EINVAL));
    program.push(allow());
    // Auditing is the machine's. Programs go on where a kernel has none (sudo, PAM, shadow), but not where it refuses.
    program.push(jump_if_equal(libc::SYS_socket as u32, 0, 6));
    program.push(load(FIRST_ARGUMENT));
    program.push(jump_if_equal(libc::AF_NETLINK as u32, 0, 3));
    program.push(load(THIRD_ARGUMENT));
    program.push(jump_if_equal(libc::NETLINK_AUDIT as u32, 0, 1));
    program.push(fail(libc::EPROTONOSUPPORT));
    program.push(load(NUMBER));
    if !sockets {
        program.push(jump_if_equal(libc::SYS_socket as u32, 0, 4));
        program.push(load(FIRST_ARGUMENT));
        program.push(jump_if_equal(libc::AF_UNIX as u32, 1, 0));
        program.push(fail(libc::EAFNOSUPPORT));
        program.push(allow());
    }
    // On a connected socket: there is no address.
    for number in [libc::SYS_sendto, libc::SYS_recvfrom] {
        program.push(jump_if_equal(number as u32, 0, 6));
        program.push(load(FIFTH_ARGUMENT));
        program.push(jump_if_equal(0, 0, 3));
        program.push(load(FIFTH_ARGUMENT + 4));
        program.push(jump_if_equal(0, 0, 1));
        program.push(allow());
        program.push(load(NUMBER));
    }
    for (number, answer) in calls::answers(stopped) {
        program.push(jump_if_equal(number as u32, 0, 1));
        program.push(match answer {
            Answer::Trace => instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE, 0, 0),
            Answer::Fail(errno) => fail(errno),
        });
    }
    program.push(allow());
    program
}

/// For the calls that could close a descriptor or put another file in its place: it is not there, and closing it succeeds, as
/// programs expect that close all that they have.
fn keep_open(descriptor: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    let cases = [
        (libc::SYS_close, FIRST_ARGUMENT, 0),
        (libc::SYS_dup2, SECOND_ARGUMENT, libc::EBADF),
        (libc::SYS_dup3, SECOND_ARGUMENT, libc::EBADF),
    ];
    for (number, argument, errno) in cases {
        program.push(jump_if_equal(number as u32, 0, 4));
        program.push(load(argument));
        program.push(jump_if_equal(descriptor, 0, 1));
        program.push(fail(errno));
        program.push(allow());
    }
    program.push(jump_if_equal(libc::SYS_fcntl as u32, 0, 4));
    program.push(load(FIRST_ARGUMENT));
    program.push(jump_if_equal(descriptor, 0, 1));
    program.push(fail(libc::EBADF));
    program.push(load(NUMBER));
    program
}
