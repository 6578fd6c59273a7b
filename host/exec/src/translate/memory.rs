//! The memory of a traced process: bounded copies, never a pointer.

use std::os::unix::fs::FileExt;

use rustix::{io::Errno, process::Pid};

use crate::sys::trace;

/// The longest path that the kernel takes, with the NUL (limits.h, PATH_MAX).
pub const PATH_LIMIT_BYTES: usize = 4096;

const PAGE_BYTES: u64 = 4096;

/// Reads exactly `into.len()` bytes.
///
/// # Errors
/// EFAULT, as the kernel has it.
pub fn read(task: Pid, address: u64, into: &mut [u8]) -> Result<(), Errno> {
    if into.is_empty() {
        return Ok(());
    }
    match trace::read_memory(task, address, into) {
        Ok(count) if count == into.len() => Ok(()),
        Ok(_) | Err(Errno::FAULT) => Err(Errno::FAULT),
        // Seccomp profiles of old container runtimes refuse the call.
        Err(Errno::PERM | Errno::NOSYS) => {
            let file = std::fs::File::open(format!("/proc/{}/mem", task.as_raw_nonzero())).map_err(|_| Errno::FAULT)?;
            file.read_exact_at(into, address).map_err(|_| Errno::FAULT)
        }
        Err(error) => Err(error),
    }
}

/// Writes all of `from`.
///
/// # Errors
/// EFAULT, as the kernel has it.
pub fn write(task: Pid, address: u64, from: &[u8]) -> Result<(), Errno> {
    if from.is_empty() {
        return Ok(());
    }
    match trace::write_memory(task, address, from) {
        Ok(count) if count == from.len() => Ok(()),
        Ok(_) | Err(Errno::FAULT) => Err(Errno::FAULT),
        Err(Errno::PERM | Errno::NOSYS) => {
            let path = format!("/proc/{}/mem", task.as_raw_nonzero());
            let file = std::fs::OpenOptions::new().write(true).open(path).map_err(|_| Errno::FAULT)?;
            file.write_all_at(from, address).map_err(|_| Errno::FAULT)
        }
        Err(error) => Err(error),
    }
}

/// Reads a NUL-terminated string of at most `limit` bytes, the NUL included, and leaves the NUL out.
///
/// # Errors
/// EFAULT, or ENAMETOOLONG when there is no NUL.
pub fn read_string(task: Pid, address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
    if address == 0 {
        return Err(Errno::FAULT);
    }
    let mut string = Vec::new();
    let mut at = address;
    let mut buffer = [0; PAGE_BYTES as usize];
    while string.len() < limit {
        // Never over the end of a page, since the next one may not be there.
        let in_page = (PAGE_BYTES - at % PAGE_BYTES).min(if string.is_empty() { 256 } else { PAGE_BYTES });
        let length = (in_page as usize).min(limit - string.len());
        read(task, at, &mut buffer[..length])?;
        if let Some(end) = buffer[..length].iter().position(|&byte| byte == 0) {
            string.extend_from_slice(&buffer[..end]);
            return Ok(string);
        }
        string.extend_from_slice(&buffer[..length]);
        at = at.checked_add(length as u64).ok_or(Errno::FAULT)?;
    }
    Err(Errno::NAMETOOLONG)
}

/// Reads a path.
///
/// # Errors
/// As [`read_string`].
pub fn read_path(task: Pid, address: u64) -> Result<Vec<u8>, Errno> {
    read_string(task, address, PATH_LIMIT_BYTES)
}

/// Reads one word.
///
/// # Errors
/// EFAULT.
pub fn read_u64(task: Pid, address: u64) -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    read(task, address, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Reads pointers up to and without the null one.
///
/// # Errors
/// EFAULT, or E2BIG beyond `limit`.
pub fn read_pointers(task: Pid, address: u64, limit: usize) -> Result<Vec<u64>, Errno> {
    let mut pointers = Vec::new();
    let mut is_too_much = false;
    read_words(task, address, |word| {
        is_too_much = pointers.len() > limit;
        if word != 0 {
            pointers.push(word);
        }
        word == 0 || is_too_much
    })?;
    if is_too_much { Err(Errno::TOOBIG) } else { Ok(pointers) }
}

/// Reads words until `is_last` says so of one.
///
/// # Errors
/// EFAULT.
pub fn read_words(task: Pid, address: u64, mut is_last: impl FnMut(u64) -> bool) -> Result<(), Errno> {
    let mut at = address;
    let mut buffer = [0; PAGE_BYTES as usize];
    loop {
        // Never over the end of a page, since the next one may not be there.
        let in_page = ((PAGE_BYTES - at % PAGE_BYTES) as usize).max(8);
        let length = if at.is_multiple_of(8) { in_page } else { 8 };
        read(task, at, &mut buffer[..length])?;
        for word in buffer[..length].chunks_exact(8) {
            if is_last(u64::from_ne_bytes(word.try_into().expect("eight bytes"))) {
                return Ok(());
            }
        }
        at = at.checked_add(length as u64).ok_or(Errno::FAULT)?;
    }
}
