//! A system call filter: few calls, those that a build never needs and that reach into the kernel or out of the command's
//! world. Docker's default profile refuses them too to a container without further capabilities; capabilities, namespaces
//! and Landlock do the rest.
//!
//! The numbers are those of Linux's `syscall_64.tbl`, `syscall_32.tbl`, `asm-generic/unistd.h` and `arm/tools/syscall.tbl`.
//! From 424 on they are the same everywhere.

use std::io;

use crate::{
    bpf::{ARCHITECTURE, NUMBER, allow, fail, instruction, jump_if_equal, load, refuse_namespaces},
    sys::{self, Instruction},
};

/// Whether this build has a filter for its processor.
pub const FILTERED: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// A way of entering the kernel: a processor that the machine can run programs for.
struct Convention {
    /// `AUDIT_ARCH_*` of linux/audit.h.
    audit_arch: u32,
    /// Whether numbers with bit 30 belong to another convention (x32), of which nothing is allowed.
    has_x32: bool,
    clone: u32,
    unshare: u32,
    /// Answered by EPERM.
    refused: &'static [u32],
}

/// fsopen and its kin, open_tree, move_mount, mount_setattr.
const NEW_MOUNT_CALLS: [u32; 7] = [428, 429, 430, 431, 432, 433, 442];

/// Answered by ENOSYS, upon which C libraries and runtimes take another way: io_uring_setup, _enter and _register, and
/// clone3, whose flags can't be seen from here (they are behind a pointer).
const UNKNOWN: [u32; 4] = [425, 426, 427, 435];

// kexec_load, kexec_file_load, init_module, delete_module, finit_module, open_by_handle_at, bpf,
// perf_event_open, userfaultfd, add_key, request_key, keyctl, setns, mount, umount2, pivot_root, syslog, lookup_dcookie,
// iopl, ioperm.
#[cfg(target_arch = "x86_64")]
const CONVENTIONS: [Convention; 2] = [
    Convention {
        audit_arch: 0xC000_003E,
        has_x32: true,
        clone: 56,
        unshare: 272,
        refused: &[246, 320, 175, 176, 313, 304, 321, 298, 323, 248, 249, 250, 308, 165, 166, 155, 103, 212, 172, 173],
    },
    // The same without kexec_file_load, and with umount and vm86 (22, 113, 166).
    Convention {
        audit_arch: 0x4000_0003,
        has_x32: false,
        clone: 120,
        unshare: 310,
        refused: &[
            283, 128, 129, 350, 342, 357, 336, 374, 286, 287, 288, 346, 21, 52, 217, 103, 253, 110, 101, 22, 113, 166,
        ],
    },
];

#[cfg(target_arch = "aarch64")]
const CONVENTIONS: [Convention; 2] = [
    Convention {
        audit_arch: 0xC000_00B7,
        has_x32: false,
        clone: 220,
        unshare: 97,
        refused: &[104, 294, 105, 106, 273, 265, 280, 241, 282, 217, 218, 219, 268, 40, 39, 41, 116, 18],
    },
    Convention {
        audit_arch: 0x4000_0028,
        has_x32: false,
        clone: 120,
        unshare: 337,
        refused: &[347, 401, 128, 129, 379, 371, 386, 364, 388, 309, 310, 311, 375, 21, 52, 218, 103, 249],
    },
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CONVENTIONS: [Convention; 0] = [];

/// Puts the filter on this process. A machine that it was not written for has none.
pub fn install() -> io::Result<()> {
    if !FILTERED || !sys::has_seccomp() {
        return Ok(());
    }
    sys::install_filter(&mut program())
}

fn program() -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for convention in CONVENTIONS {
        let body = body(&convention);
        let length = u8::try_from(body.len()).expect("the tables are short enough for a jump");
        program.push(jump_if_equal(convention.audit_arch, 0, length));
        program.extend(body);
    }
    // A program of any other kind gets nowhere, rather than round the filter.
    program.push(fail(libc::ENOSYS));
    program
}

fn body(convention: &Convention) -> Vec<Instruction> {
    let mut body = vec![load(NUMBER)];
    if convention.has_x32 {
        body.push(instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0x4000_0000, 0, 1));
        body.push(fail(libc::ENOSYS));
    }
    for number in UNKNOWN {
        body.push(jump_if_equal(number, 0, 1));
        body.push(fail(libc::ENOSYS));
    }
    for &number in convention.refused.iter().chain(&NEW_MOUNT_CALLS) {
        body.push(jump_if_equal(number, 0, 1));
        body.push(fail(libc::EPERM));
    }
    body.extend(refuse_namespaces(convention.clone, convention.unshare));
    body.push(allow());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would; the words are the number, the architecture and the first argument.
    fn answer(number: u32, architecture: u32, first_argument: u32) -> u32 {
        let program = program();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            let jump = |condition: bool| usize::from(if condition { jt } else { jf });
            at += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    accumulator = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        _ => first_argument,
                    }
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(accumulator == k),
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(accumulator >= k),
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => at += jump(accumulator & k != 0),
                _ => return k,
            }
        }
    }

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn every_convention_has_its_answers() {
        for convention in CONVENTIONS {
            let arch = convention.audit_arch;
            for &number in convention.refused.iter().chain(&NEW_MOUNT_CALLS) {
                assert_eq!(answer(number, arch, 0), EPERM, "{number} of {arch:x}");
            }
            for number in UNKNOWN {
                assert_eq!(answer(number, arch, 0), ENOSYS, "{number} of {arch:x}");
            }
            assert_eq!(answer(convention.clone, arch, libc::SIGCHLD as u32), ALLOW);
            assert_eq!(answer(convention.clone, arch, libc::CLONE_NEWUSER as u32), EPERM);
            assert_eq!(answer(convention.unshare, arch, libc::CLONE_FS as u32), ALLOW);
            assert_eq!(answer(convention.unshare, arch, libc::CLONE_NEWNS as u32), EPERM);
            assert_eq!(answer(3, arch, 0), ALLOW);
        }
        assert_eq!(answer(1, 0x8000_0015, 0), ENOSYS, "powerpc programs don't get round it");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_native_numbers_are_those_of_the_c_library() {
        use libc::{
            SYS_add_key, SYS_bpf, SYS_clone, SYS_clone3, SYS_delete_module, SYS_finit_module, SYS_init_module,
            SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_ioperm, SYS_iopl, SYS_kexec_file_load,
            SYS_kexec_load, SYS_keyctl, SYS_lookup_dcookie, SYS_mount, SYS_open_by_handle_at, SYS_perf_event_open,
            SYS_pivot_root, SYS_request_key, SYS_setns, SYS_syslog, SYS_umount2, SYS_unshare, SYS_userfaultfd,
        };
        let native = &CONVENTIONS[0];
        let named = [
            SYS_kexec_load,
            SYS_kexec_file_load,
            SYS_init_module,
            SYS_delete_module,
            SYS_finit_module,
            SYS_open_by_handle_at,
            SYS_bpf,
            SYS_perf_event_open,
            SYS_userfaultfd,
            SYS_add_key,
            SYS_request_key,
            SYS_keyctl,
            SYS_setns,
            SYS_mount,
            SYS_umount2,
            SYS_pivot_root,
            SYS_syslog,
            SYS_lookup_dcookie,
            SYS_iopl,
            SYS_ioperm,
        ];
        assert_eq!(named.map(|number| number as u32).as_slice(), native.refused);
        assert_eq!((SYS_clone as u32, SYS_unshare as u32), (native.clone, native.unshare));
        assert_eq!([SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_clone3], UNKNOWN.map(i64::from));
        assert_eq!(answer(0x4000_0000, native.audit_arch, 0), ENOSYS, "x32");
    }
}
