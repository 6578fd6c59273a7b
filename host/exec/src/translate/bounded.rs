//! Directories that hold no more than so many bytes (tmpfs(5), `size`), where no such file system can be mounted.
//!
//! Only where a command has one, calls that write stop. What is there is counted in pages, as tmpfs does: of files with
//! names, so what was removed and is still open is free; and what comes by a mapping of a file with holes is not seen.

use std::{collections::HashSet, path::Path};

use rustix::io::Errno;

use super::{
    bindings::is_beneath,
    calls::Outcome,
    memory,
    registers::Registers,
    tracee::{After, Task},
    tracer::Tracer,
};

const PAGE_BYTES: u64 = 4096;

/// As many parts as one call takes (IOV_MAX).
const PARTS_LIMIT: u64 = 1024;

/// One such directory.
pub struct Bounded {
    /// Where this machine has it.
    source: Vec<u8>,
    limit_bytes: u64,
    /// What may be written before it has to be counted again.
    credit_bytes: u64,
}

impl Bounded {
    /// An empty one.
    pub fn new(source: Vec<u8>, limit_bytes: u64) -> Self {
        let limit_bytes = limit_bytes.next_multiple_of(PAGE_BYTES);
        Self { source, limit_bytes, credit_bytes: limit_bytes }
    }

    /// How many bytes more there is room for.
    fn room_bytes(&self) -> u64 {
        use std::os::unix::ffi::OsStrExt;
        let used = used_bytes(Path::new(std::ffi::OsStr::from_bytes(&self.source)), &mut HashSet::new());
        self.limit_bytes.saturating_sub(used)
    }
}

/// What files take, a file with several names once.
fn used_bytes(directory: &Path, counted: &mut HashSet<u64>) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let used = entries.map(|entry| {
        let Ok(seen) = entry.path().symlink_metadata() else { return 0 };
        match seen.is_dir() {
            true => used_bytes(&entry.path(), counted),
            false if counted.insert(seen.ino()) => taken_bytes(seen.size(), seen.blocks()),
            false => 0,
        }
    });
    used.sum()
}

/// What a file takes in memory: holes do not count.
fn taken_bytes(size: u64, blocks: u64) -> u64 {
    size.next_multiple_of(PAGE_BYTES).min((blocks * 512).next_multiple_of(PAGE_BYTES))
}

/// What is written, by the indexes of arguments.
#[derive(Clone, Copy)]
pub enum Written {
    /// So many bytes, of which the kernel may write less.
    Bytes(usize),
    /// An array of parts, and how many there are.
    Parts(usize, usize),
    /// So many bytes, or none.
    All(usize),
}

/// A call that writes to the descriptor that its argument `file` is; `offset` is the argument that says where, if any does.
pub fn write(
    tracer: &mut Tracer,
    task: &Task,
    registers: &mut Registers,
    file: usize,
    written: Written,
    offset: Option<usize>,
) -> Result<Outcome, Errno> {
    let link = format!("/proc/{}/fd/{}", task.id.as_raw_nonzero(), registers.argument(file) as i32);
    // What is no descriptor is the kernel's to say.
    let Ok(path) = rustix::fs::readlink(&*link, Vec::new()) else { return Ok(Outcome::Native) };
    let Some(bounded) = tracer.bounded.iter_mut().find(|bounded| is_beneath(path.as_bytes(), &bounded.source)) else {
        return Ok(Outcome::Native);
    };
    let parts = match written {
        Written::Bytes(count) | Written::All(count) => vec![registers.argument(count)],
        Written::Parts(array, count) => lengths(task, registers.argument(array), registers.argument(count))?,
    };
    let wanted: u64 = parts.iter().fold(0, |sum, &length| sum.saturating_add(length));
    // A page for what was begun in the last one.
    if let Some(left) = bounded.credit_bytes.checked_sub(wanted.saturating_add(PAGE_BYTES)) {
        bounded.credit_bytes = left;
        return Ok(Outcome::Native);
    }
    let seen = rustix::fs::stat(&*link)?;
    if seen.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(Outcome::Native);
    }
    let size = seen.st_size as u64;
    let Position { at, append } = position(task, registers.argument(file) as i32)?;
    let begin = match offset {
        _ if append => size,
        Some(offset) => registers.argument(offset),
        None => at,
    };
    let room = bounded.room_bytes();
    // What lies within the file is there already, but for holes.
    let inside = size.next_multiple_of(PAGE_BYTES).saturating_sub(begin);
    let allowed = inside.saturating_add(room);
    bounded.credit_bytes = room.saturating_sub(wanted);
    if wanted <= allowed {
        return Ok(Outcome::Native);
    }
    bounded.credit_bytes = 0;
    match written {
        Written::Bytes(count) if allowed > 0 => {
            let after = After::restore(registers);
            registers.set_argument(count, allowed);
            Ok(Outcome::Rewritten(after))
        }
        Written::Parts(_, count) if parts[0] <= allowed => {
            let mut sum = 0_u64;
            let fitting = parts.iter().take_while(|&&length| {
                sum = sum.saturating_add(length);
                sum <= allowed
            });
            let fitting = fitting.count() as u64;
            let after = After::restore(registers);
            registers.set_argument(count, fitting);
            Ok(Outcome::Rewritten(after))
        }
        _ => Err(Errno::NOSPC),
    }
}

/// The lengths of the parts of an array of `struct iovec`.
fn lengths(task: &Task, address: u64, count: u64) -> Result<Vec<u64>, Errno> {
    if count > PARTS_LIMIT {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; count as usize * 16];
    memory::read(task.id, address, &mut bytes)?;
    Ok(bytes.chunks_exact(16).map(|part| u64::from_ne_bytes(part[8..].try_into().expect("eight bytes"))).collect())
}

/// Where a descriptor stands.
struct Position {
    at: u64,
    append: bool,
}

/// As proc_pid_fdinfo(5) has it.
fn position(task: &Task, number: i32) -> Result<Position, Errno> {
    let path = format!("/proc/{}/fdinfo/{number}", task.id.as_raw_nonzero());
    let text = std::fs::read_to_string(path).map_err(|_| Errno::BADF)?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let at = field("pos:").and_then(|value| value.parse().ok()).unwrap_or(0);
    let flags = field("flags:").and_then(|value| i32::from_str_radix(value, 8).ok()).unwrap_or(0);
    Ok(Position { at, append: flags & libc::O_APPEND != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_take_whole_pages_and_holes_none() {
        assert_eq!(taken_bytes(1, 8), PAGE_BYTES);
        assert_eq!(taken_bytes(3 * PAGE_BYTES, 24), 3 * PAGE_BYTES);
        assert_eq!(taken_bytes(1 << 30, 8), PAGE_BYTES);
        assert_eq!(taken_bytes(0, 0), 0);
        assert_eq!(Bounded::new(Vec::new(), 1).limit_bytes, PAGE_BYTES);
    }
}
