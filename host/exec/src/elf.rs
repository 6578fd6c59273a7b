//! What of a program's header decides how it is started (System V ABI, "Object Files"; elf(5)).

use rustix::io::Errno;

/// e_machine of programs for this processor (elf.h).
const ELF_MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Enough for the header and all program headers that linkers make.
pub const HEADER_BYTES: usize = 4096;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PROGRAM_HEADER_BYTES: usize = 56;

/// A part that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Where in memory, before the bias.
    pub address: u64,
    /// How much of the file.
    pub file_bytes: u64,
    /// How much of memory; what is beyond the file is zero.
    pub memory_bytes: u64,
    /// PF_R (4), PF_W (2), PF_X (1).
    pub flags: u32,
    /// A power of two.
    pub alignment: u64,
}

/// A program for this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it begins, before the bias.
    pub entry: u64,
    /// Whether it can be put anywhere.
    pub relocatable: bool,
    /// The parts, by address.
    pub segments: Vec<Segment>,
    /// Where in the file the path of its loader is, and how long that is.
    pub interpreter: Option<(u64, u64)>,
    /// Where in memory the program headers are, before the bias.
    pub headers_address: u64,
    /// How many there are.
    pub headers: u64,
}

/// Size of one program header, for the auxiliary vector.
pub const HEADER_ENTRY_BYTES: u64 = PROGRAM_HEADER_BYTES as u64;

/// The processor that a program is for, if that is another one; `None` for what is no program.
pub fn other_processor(bytes: &[u8]) -> Option<String> {
    let machine = bytes.get(18..20).filter(|_| bytes.starts_with(b"\x7fELF"))?;
    let machine = if bytes[5] == 2 {
        u16::from_be_bytes([machine[0], machine[1]])
    } else {
        u16::from_le_bytes([machine[0], machine[1]])
    };
    // e_machine of elf.h.
    let name = match (machine, bytes[4]) {
        (ELF_MACHINE, 2) => return None,
        (ELF_MACHINE, _) => "the x32 form of x86-64",
        (3, _) => "32-bit x86",
        (40, _) => "32-bit ARM",
        (183, _) => "arm64",
        (243, _) => "RISC-V",
        (21, _) => "64-bit PowerPC",
        (22, _) => "S/390",
        (number, _) => return Some(format!("another processor (ELF machine {number})")),
    };
    Some(name.to_owned())
}

/// Reads the beginning of a file.
///
/// # Errors
/// ENOEXEC: it is no program, or none for this machine.
pub fn parse(bytes: &[u8]) -> Result<Program, Errno> {
    let field = |at: usize, length: usize| bytes.get(at..at + length).ok_or(Errno::NOEXEC);
    let u16_at = |at: usize| field(at, 2).map(|bytes| u16::from_le_bytes(bytes.try_into().expect("two bytes")));
    let u32_at = |at: usize| field(at, 4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
    let u64_at = |at: usize| field(at, 8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    // 64 bits, little-endian.
    if field(0, 6)? != b"\x7fELF\x02\x01" || u16_at(18)? != ELF_MACHINE {
        return Err(Errno::NOEXEC);
    }
    let relocatable = match u16_at(16)? {
        ET_EXEC => false,
        ET_DYN => true,
        _ => return Err(Errno::NOEXEC),
    };
    let (headers_offset, count) = (u64_at(32)?, usize::from(u16_at(56)?));
    if usize::from(u16_at(54)?) != PROGRAM_HEADER_BYTES || count == 0 {
        return Err(Errno::NOEXEC);
    }
    let first = usize::try_from(headers_offset).map_err(|_| Errno::NOEXEC)?;
    let (mut segments, mut interpreter, mut headers_address) = (Vec::new(), None, None);
    for index in 0..count {
        let at = index.checked_mul(PROGRAM_HEADER_BYTES).and_then(|at| at.checked_add(first)).ok_or(Errno::NOEXEC)?;
        if at > HEADER_BYTES {
            return Err(Errno::NOEXEC);
        }
        let segment = Segment {
            offset: u64_at(at + 8)?,
            address: u64_at(at + 16)?,
            file_bytes: u64_at(at + 32)?,
            memory_bytes: u64_at(at + 40)?,
            flags: u32_at(at + 4)?,
            alignment: u64_at(at + 48)?,
        };
        let end = segment.address.checked_add(segment.memory_bytes.max(segment.file_bytes)).ok_or(Errno::NOEXEC)?;
        if end > 1 << 47 || segment.offset.checked_add(segment.file_bytes).is_none() {
            return Err(Errno::NOEXEC);
        }
        match u32_at(at)? {
            PT_LOAD => {
                // Page and file offset have to agree, or nothing could be mapped.
                if (segment.address ^ segment.offset) & 4095 != 0 || segment.file_bytes > segment.memory_bytes {
                    return Err(Errno::NOEXEC);
                }
                segments.push(segment);
            }
            PT_INTERP => interpreter = Some((segment.offset, segment.file_bytes)),
            PT_PHDR => headers_address = Some(segment.address),
            _ => {}
        }
    }
    if segments.is_empty() || !segments.is_sorted_by_key(|segment| segment.address) {
        return Err(Errno::NOEXEC);
    }
    let in_segment = segments
        .iter()
        .find(|segment| (segment.offset..segment.offset + segment.file_bytes).contains(&headers_offset))
        .map(|segment| headers_offset - segment.offset + segment.address);
    let headers_address = headers_address.or(in_segment).unwrap_or(0);
    let entry = u64_at(24)?;
    Ok(Program { entry, relocatable, segments, interpreter, headers_address, headers: count as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_is_understood() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = parse(&bytes[..HEADER_BYTES]).unwrap();
        let (offset, length) = program.interpreter.expect("it is dynamic");
        let path = &bytes[offset as usize..(offset + length) as usize];
        assert!(path.ends_with(b"\0") && path.starts_with(b"/lib"), "{path:?}");
        assert!(program.segments.len() > 1);
    }

    #[test]
    fn damaged_headers_are_no_programs() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let whole = &bytes[..HEADER_BYTES];
        for length in [0, 3, 16, 63, 64, 100] {
            assert_eq!(parse(&whole[..length]), Err(Errno::NOEXEC), "{length}");
        }
        // Every byte of the headers, turned over: a program or none, never a panic.
        for at in 0..1024 {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0xff;
            let _ = parse(&damaged);
        }
    }
}
