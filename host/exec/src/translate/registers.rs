//! The one file that knows the processor: where a system call has its number, arguments and result.

use rustix::{io::Errno, process::Pid};

use crate::sys::trace::{self, RawRegisters};

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
pub const AUDIT_ARCH: u32 = 0xC000_003E;

/// The instruction that enters the kernel (`syscall`).
pub const SYSCALL_INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// A program that makes one call after the other, out of a list of [`CALL_WORDS`] words for each, and never ends: number, six
/// arguments, and room for the result. It is in words of memory, the first byte first.
///
/// ```text
/// next:   mov rax, [rbx]
///         mov rdi, [rbx + 8]
///         mov rsi, [rbx + 16]
///         mov rdx, [rbx + 24]
///         mov r10, [rbx + 32]
///         mov r8, [rbx + 40]
///         mov r9, [rbx + 48]
///         syscall
///         mov [rbx + 56], rax
///         add rbx, 64
///         jmp next
/// ```
pub const CALLER: [u64; 5] = [
    u64::from_le_bytes([0x48, 0x8b, 0x03, 0x48, 0x8b, 0x7b, 0x08, 0x48]),
    u64::from_le_bytes([0x8b, 0x73, 0x10, 0x48, 0x8b, 0x53, 0x18, 0x4c]),
    u64::from_le_bytes([0x8b, 0x53, 0x20, 0x4c, 0x8b, 0x43, 0x28, 0x4c]),
    u64::from_le_bytes([0x8b, 0x4b, 0x30, 0x0f, 0x05, 0x48, 0x89, 0x43]),
    u64::from_le_bytes([0x38, 0x48, 0x83, 0xc3, 0x40, 0xeb, 0xd9, 0x90]),
];

/// How many words [`CALLER`] has for a call.
pub const CALL_WORDS: usize = 8;

/// Below the stack pointer, functions keep values that nobody may overwrite (System V ABI, "the red zone"), in bytes.
pub const RED_ZONE_BYTES: u64 = 128;

/// The registers of a stopped task.
#[derive(Clone)]
pub struct Registers(RawRegisters);

impl Registers {
    /// Reads them.
    pub fn read(task: Pid) -> Result<Self, Errno> {
        trace::registers(task).map(Self)
    }

    /// Writes them.
    pub fn write(&self, task: Pid) -> Result<(), Errno> {
        trace::set_registers(task, &self.0)
    }

    /// The number of the system call.
    pub fn number(&self) -> i64 {
        i64::from(self.0.orig_rax as i32)
    }

    /// Makes another call of it while it has not begun.
    pub fn set_number(&mut self, number: i64) {
        self.0.orig_rax = number as u64;
    }

    /// An argument, counted from 0.
    pub fn argument(&self, index: usize) -> u64 {
        match index {
            0 => self.0.rdi,
            1 => self.0.rsi,
            2 => self.0.rdx,
            3 => self.0.r10,
            4 => self.0.r8,
            _ => self.0.r9,
        }
    }

    /// Changes an argument.
    pub fn set_argument(&mut self, index: usize, value: u64) {
        *match index {
            0 => &mut self.0.rdi,
            1 => &mut self.0.rsi,
            2 => &mut self.0.rdx,
            3 => &mut self.0.r10,
            4 => &mut self.0.r8,
            _ => &mut self.0.r9,
        } = value;
    }

    /// What the call gave.
    pub fn result(&self) -> i64 {
        self.0.rax as i64
    }

    /// Changes what the call gave.
    pub fn set_result(&mut self, value: i64) {
        self.0.rax = value as u64;
    }

    /// The stack pointer.
    pub fn stack(&self) -> u64 {
        self.0.rsp
    }

    /// Prepares [`CALLER`], which is at `place`, to make the calls of a list.
    pub fn prepare_caller(&mut self, place: u64, list: u64) {
        self.0.rip = place;
        self.0.rbx = list;
    }

    /// The next instruction.
    pub fn instruction(&self) -> u64 {
        self.0.rip
    }

    /// The instruction that made the call at whose entry or end the task is stopped.
    pub fn call_instruction(&self) -> u64 {
        self.0.rip.wrapping_sub(SYSCALL_INSTRUCTION.len() as u64)
    }

    /// Prepares a call that the instruction at `gadget` makes when the task goes on.
    pub fn prepare_call(&mut self, gadget: u64, number: i64, arguments: [u64; 6]) {
        self.0.rip = gadget;
        self.0.rax = number as u64;
        // No call to be made again.
        self.0.orig_rax = u64::MAX;
        for (index, value) in arguments.into_iter().enumerate() {
            self.set_argument(index, value);
        }
    }
}
