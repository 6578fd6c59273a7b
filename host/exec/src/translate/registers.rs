//! The one file that knows the processor: where a system call has its number, arguments and result.

use rustix::{io::Errno, process::Pid};

use crate::sys::trace::{self, RawRegisters};

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
pub const AUDIT_ARCH: u32 = 0xC000_003E;

/// `e_machine` of the programs that run here (ELF, EM_X86_64).
pub const ELF_MACHINE: u16 = 62;

/// The instruction that enters the kernel (`syscall`).
pub const SYSCALL_INSTRUCTION: [u8; 2] = [0x0f, 0x05];

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
