//! Programs for other processors: QEMU's user mode emulation runs them, if it is installed. It is handed to each command, and
//! nobody else on the machine sees a difference.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::elf;

/// What of a program's header says for which processor it is (System V ABI, "ELF Header": EI_CLASS, EI_DATA, e_machine).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    class: u8,
    data: u8,
    number: u16,
}

const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const BIG_ENDIAN: u8 = 2;

/// Go's words for processors, QEMU's, and how programs for them begin (elf.h).
const PROCESSORS: [(&str, &str, Machine); 13] = {
    const fn machine(class: u8, data: u8, number: u16) -> Machine {
        Machine { class, data, number }
    }
    [
        ("386", "i386", machine(CLASS_32, LITTLE_ENDIAN, 3)),
        ("amd64", "x86_64", machine(CLASS_64, LITTLE_ENDIAN, 62)),
        ("arm", "arm", machine(CLASS_32, LITTLE_ENDIAN, 40)),
        ("arm64", "aarch64", machine(CLASS_64, LITTLE_ENDIAN, 183)),
        ("loong64", "loongarch64", machine(CLASS_64, LITTLE_ENDIAN, 258)),
        ("mips", "mips", machine(CLASS_32, BIG_ENDIAN, 8)),
        ("mips64", "mips64", machine(CLASS_64, BIG_ENDIAN, 8)),
        ("mips64le", "mips64el", machine(CLASS_64, LITTLE_ENDIAN, 8)),
        ("mipsle", "mipsel", machine(CLASS_32, LITTLE_ENDIAN, 8)),
        ("ppc64", "ppc64", machine(CLASS_64, BIG_ENDIAN, 21)),
        ("ppc64le", "ppc64le", machine(CLASS_64, LITTLE_ENDIAN, 21)),
        ("riscv64", "riscv64", machine(CLASS_64, LITTLE_ENDIAN, 243)),
        ("s390x", "s390x", machine(CLASS_64, BIG_ENDIAN, 22)),
    ]
};

/// Where the machine's own handlers for programs are listed (Linux, admin-guide/binfmt-misc.rst).
const MACHINES_HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// The first Linux in which a user namespace may have handlers of its own.
const PRIVATE_HANDLERS: (u32, u32) = (6, 7);

/// A program that runs those for another processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// The processor, in QEMU's words.
    pub processor: String,
    /// The program: static, absolute, without symbolic links.
    pub program: PathBuf,
    machine: Machine,
}

impl Emulator {
    /// What the program is called that runs programs for an architecture (Go's word); `None` for one that is not known.
    pub fn program_name(architecture: &str) -> Option<String> {
        let (_, processor, _) = PROCESSORS.iter().find(|(known, ..)| *known == architecture)?;
        Some(format!("qemu-{processor}-static"))
    }

    /// The one for an architecture (Go's word) in the first of these directories that has one. It has to be static: there is
    /// nothing of this machine where it will run.
    pub fn find(architecture: &str, directories: &[PathBuf]) -> Option<Self> {
        let (_, processor, machine) = PROCESSORS.iter().find(|(known, ..)| *known == architecture)?;
        let names = [format!("qemu-{processor}-static"), format!("qemu-{processor}")];
        let places = directories.iter().flat_map(|directory| names.iter().map(move |name| directory.join(name)));
        let program = places.filter_map(|place| fs::canonicalize(place).ok()).find(|program| is_static(program))?;
        Some(Self { processor: (*processor).to_owned(), program, machine: *machine })
    }

    /// The architectures (Go's words) for which there is one in these directories.
    pub fn all(directories: &[PathBuf]) -> Vec<(&'static str, Self)> {
        let architectures = PROCESSORS.iter().map(|(architecture, ..)| *architecture);
        architectures.filter_map(|architecture| Some((architecture, Self::find(architecture, directories)?))).collect()
    }

    /// Whether a program that begins with these bytes is one for it.
    pub fn runs(&self, header: &[u8]) -> bool {
        let Machine { class, data, number } = self.machine;
        let number = if data == BIG_ENDIAN { number.to_be_bytes() } else { number.to_le_bytes() };
        header.starts_with(b"\x7fELF")
            && header.get(4..6) == Some(&[class, data][..])
            && header.get(18..20) == Some(&number[..])
    }

    /// Whether the machine itself has such programs run, by a program that is open already and so reaches into every root.
    pub fn is_registered(&self) -> bool {
        let Ok(handlers) = fs::read_dir(MACHINES_HANDLERS) else { return false };
        handlers.flatten().filter_map(|handler| fs::read_to_string(handler.path()).ok()).any(|text| {
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            let magic = field("magic ").and_then(from_hex).unwrap_or_default();
            text.starts_with("enabled")
                && field("flags: ").is_some_and(|flags| flags.contains('F'))
                && self.runs(&magic)
        })
    }

    /// The handler as the kernel takes it: program files are told by their header, whatever system they are for, and whether
    /// or not they can be put anywhere. `P` hands over the name by which a program was called, `C` and `O` keep the rights of
    /// its file, `F` opens the emulator now, where it can be found.
    pub(crate) fn handler(&self) -> Vec<u8> {
        let Machine { class, data, number } = self.machine;
        let word = |value: u16| if data == BIG_ENDIAN { value.to_be_bytes() } else { value.to_le_bytes() };
        // ET_EXEC is 2, ET_DYN 3.
        let (kind, kinds) = (word(2), word(0xfffe));
        let number = word(number);
        let mut magic = vec![0x7f, b'E', b'L', b'F', class, data, 1];
        let mut mask = vec![0xff; 7];
        magic.resize(16, 0);
        mask.push(0);
        mask.resize(16, 0xff);
        magic.extend([kind, number].concat());
        mask.extend([kinds, [0xff, 0xff]].concat());
        let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let line = format!(
            ":cofferdam-{}:M::{}:{}:{}:POCF",
            self.processor,
            escaped(&magic),
            escaped(&mask),
            self.program.display()
        );
        line.into_bytes()
    }
}

/// Whether this kernel lets a user namespace have handlers of its own.
pub fn has_private_handlers() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= PRIVATE_HANDLERS)
}

fn is_static(program: &Path) -> bool {
    let is_runnable = fs::metadata(program).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    // The kernel's list of handlers has a colon between its fields.
    is_runnable
        && program.to_str().is_some_and(|path| !path.contains(':'))
        && header_of(program)
            .and_then(|header| elf::parse(&header).ok())
            .is_some_and(|parsed| parsed.interpreter.is_none())
}

/// The beginning of a program file.
pub(crate) fn header_of(program: &Path) -> Option<Vec<u8>> {
    let mut header = Vec::new();
    fs::File::open(program).ok()?.take(elf::HEADER_BYTES as u64).read_to_end(&mut header).ok()?;
    Some(header)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulator(architecture: &str) -> Emulator {
        let (_, processor, machine) = PROCESSORS.iter().find(|(known, ..)| *known == architecture).unwrap();
        Emulator { processor: (*processor).to_owned(), program: "/usr/bin/qemu".into(), machine: *machine }
    }

    #[test]
    fn handlers_are_those_that_distributions_register() {
        let text = |architecture: &str| String::from_utf8(emulator(architecture).handler()).unwrap();
        assert_eq!(
            text("arm64"),
            ":cofferdam-aarch64:M::\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00\
             :\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:/usr/bin/qemu:POCF"
        );
        let big = text("s390x");
        assert!(big.contains("\\x02\\x02\\x01") && big.contains("\\x00\\x02\\x00\\x16:"), "{big}");
        assert!(big.contains("\\xff\\xfe\\xff\\xff:/usr"), "{big}");
    }

    #[test]
    fn programs_are_told_apart_by_their_headers() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut foreign = own.clone();
        foreign[18..20].copy_from_slice(&[183, 0]);
        assert!(emulator("arm64").runs(&foreign) && !emulator("arm64").runs(&own));
        for short in [&b""[..], b"\x7fELF", b"#!/bin/sh"] {
            assert!(!emulator("arm64").runs(short));
        }
        assert_eq!(from_hex("7f454c46"), Some(b"\x7fELF".to_vec()));
    }

    #[test]
    fn only_static_programs_are_taken() {
        let directory = std::env::temp_dir().join(format!("cofferdam-emulator-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let place = directory.join("qemu-aarch64");
        // This very program needs a loader.
        fs::copy(std::env::current_exe().unwrap(), &place).unwrap();
        assert_eq!(Emulator::find("arm64", std::slice::from_ref(&directory)), None);
        assert_eq!(Emulator::find("nonsense", std::slice::from_ref(&directory)), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
