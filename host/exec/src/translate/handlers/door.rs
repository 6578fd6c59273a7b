//! The door, which is not there for the command ([`crate::translate::footing`]).

use rustix::io::Errno;

use crate::translate::{
    calls::Outcome,
    memory,
    registers::Registers,
    tracee::{After, Task},
    tracer::Tracer,
};

/// The form of directory entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Of getdents(2).
    Old,
    /// Of getdents64(2).
    New,
}

impl Entries {
    /// Where an entry has its length (two bytes).
    const LENGTH: usize = 16;

    /// Where an entry has its name.
    fn name(self) -> usize {
        match self {
            Self::Old => 18,
            Self::New => 19,
        }
    }

    /// Takes the entry with a name out.
    fn without(self, bytes: &[u8], name: &[u8]) -> Vec<u8> {
        let (mut kept, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
        while let Some(length) = rest.get(Self::LENGTH..Self::LENGTH + 2) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            if length <= self.name() || length > rest.len() {
                break;
            }
            let (entry, behind) = rest.split_at(length);
            let this = entry[self.name()..].split(|&byte| byte == 0).next();
            if this != Some(name) {
                kept.extend_from_slice(entry);
            }
            rest = behind;
        }
        kept
    }
}

/// close_range(2).
pub fn close_range(tracer: &Tracer, registers: &mut Registers) -> Result<Outcome, Errno> {
    let Some(door) = tracer.footing.door() else { return Ok(Outcome::Native) };
    let (first, last) = (registers.argument(0) as u32, registers.argument(1) as u32);
    let door = door as u32;
    if !(first..=last).contains(&door) {
        return Ok(Outcome::Native);
    }
    if first == door {
        return Ok(Outcome::Return(0));
    }
    let after = After::restore(registers);
    registers.set_argument(1, u64::from(door - 1));
    Ok(Outcome::Rewritten(after))
}

/// getdents(2) and getdents64(2), of the directories of /proc that list descriptors.
pub fn list(tracer: &mut Tracer, task: &Task, registers: &Registers, form: Entries) -> Result<Outcome, Errno> {
    let Some(door) = tracer.footing.door() else { return Ok(Outcome::Native) };
    let link = format!("/proc/{}/fd/{}", task.id.as_raw_nonzero(), registers.argument(0) as i32);
    let lists_descriptors = rustix::fs::readlink(&*link, Vec::new()).is_ok_and(|path| {
        let path = path.to_bytes();
        path.starts_with(b"/proc/") && (path.ends_with(b"/fd") || path.ends_with(b"/fdinfo"))
    });
    if !lists_descriptors {
        return Ok(Outcome::Native);
    }
    let name = door.to_string();
    let mut given = tracer.run_to_end_of_call(task.id, true)?;
    loop {
        let Ok(length @ 1..) = usize::try_from(given) else { return Ok(Outcome::Return(given)) };
        let mut bytes = vec![0; length];
        memory::read(task.id, registers.argument(1), &mut bytes)?;
        let kept = form.without(&bytes, name.as_bytes());
        if !kept.is_empty() {
            memory::write(task.id, registers.argument(1), &kept)?;
            return Ok(Outcome::Return(kept.len() as i64));
        }
        // Nothing would be the end of the directory.
        let arguments = std::array::from_fn(|index| registers.argument(index));
        given = tracer.inject(task.id, registers, registers.call_instruction(), registers.number(), arguments)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_taken_out_from_between_others() {
        let entry = |name: &str| {
            let mut entry = vec![7; Entries::LENGTH];
            let length = (Entries::New.name() + name.len() + 1).next_multiple_of(8);
            entry.extend_from_slice(&(length as u16).to_ne_bytes());
            entry.push(libc::DT_LNK);
            entry.extend_from_slice(name.as_bytes());
            entry.resize(length, 0);
            entry
        };
        let [one, other, last] = ["10", "1023", "102"].map(entry);
        let all = [one.as_slice(), &other, &last].concat();
        assert_eq!(Entries::New.without(&all, b"1023"), [one, last].concat());
        assert!(Entries::New.without(&other, b"1023").is_empty());
    }
}
