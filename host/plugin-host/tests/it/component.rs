//! Components made from the text files in `tests/guests`. The tests of the whole program make theirs here, too.

use std::path::Path;

use cofferdam_plan::step::{Effect, Planned, Read, TreeRead, TreeSource};
use cofferdam_plugin_pack::pack;
use wit_component::StringEncoding;
use wit_parser::Resolve;

pub const PROBE: &str = include_str!("../guests/probe.wat");
pub const WASI: &str = include_str!("../guests/wasi.wat");

/// A manifest that claims PROBE.
pub const MANIFEST: &str = r#"
api = "0.1"
kind = "instruction"
name = "probe"
version = "1"
capabilities = ["context", "rootfs"]
[keywords]
PROBE = { syntax = "text" }
"#;

/// `check` that answers nothing.
pub const NO_FINDINGS: &str = "(i64.store (i32.const 2048) (i64.const 0)) (i32.const 2048)";

/// A component of the world of instruction handlers and, if `imports` says so, more.
pub fn component(wat: &str, check: &str, planned: &Planned, imports: &str, manifest: &str) -> Vec<u8> {
    let text = wat.replace("{CHECK}", check).replace("{PLANNED}", &lowered(planned));
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    // The crate that is compiled lies one or two directories beneath the repository.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    let wit = above.map(|directory| directory.join("wit")).find(|wit| wit.is_dir()).unwrap();
    for package in ["types", "fs", "instruction"] {
        resolve.push_dir(wit.join(package)).unwrap();
    }
    let world = format!(
        "package test:probe;\n{WASI_WIT}\nworld probe {{ include cofferdam:instruction/instruction@0.1.0; {imports} }}"
    );
    let package = resolve.push_str("probe.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("probe")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    pack(&module, manifest).unwrap()
}

/// The shapes of the WASI functions that the guest calls.
const WASI_WIT: &str = r#"
package wasi:io@0.2.0 { interface poll { resource pollable { block: func(); } } }
package wasi:clocks@0.2.0 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
    }
}
package wasi:random@0.2.0 { interface random { get-random-u64: func() -> u64; } }
package wasi:cli@0.2.0 { interface environment { get-environment: func() -> list<tuple<string, string>>; } }
package wasi:http@0.2.0 { interface outgoing-handler { handle: func() -> u64; } }
package wasi:filesystem@0.2.0 {
    interface types {
        enum error-code {
            access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large,
            illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop, too-many-links,
            message-size, name-too-long, no-device, no-entry, no-lock, insufficient-memory, insufficient-space,
            not-directory, not-empty, not-recoverable, unsupported, no-tty, no-such-device, overflow, not-permitted,
            pipe, read-only, invalid-seek, text-file-busy, cross-device,
        }
        flags path-flags { symlink-follow }
        flags open-flags { create, directory, exclusive, truncate }
        flags descriptor-flags {
            read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory,
        }
        resource descriptor {
            open-at: func(path-flags: path-flags, path: string, open-flags: open-flags, %flags: descriptor-flags)
                -> result<descriptor, error-code>;
        }
    }
    interface preopens {
        use types.{descriptor};
        get-directories: func() -> list<tuple<descriptor, string>>;
    }
}
"#;

/// What `plan` answers, laid out at address 1024 as the canonical ABI has it: the result's tag, and at 4 the record.
fn lowered(planned: &Planned) -> String {
    const BASE: usize = 1024;
    let mut memory = vec![0_u8; 24];
    let put = |memory: &mut Vec<u8>, at: usize, value: usize| {
        memory[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
    };
    let reads = memory.len();
    memory.resize(reads + 32 * planned.reads.len(), 0);
    put(&mut memory, 4, BASE + reads);
    put(&mut memory, 8, planned.reads.len());
    memory[20] = u8::from(planned.effect == Effect::RootFileSystem);
    for (index, read) in planned.reads.iter().enumerate() {
        let at = reads + 32 * index;
        match read {
            Read::Tree(TreeRead { source: TreeSource::Context, patterns, exclude }) => {
                let exclude = exclude.iter().map(|pattern| pattern.clone().into_bytes()).collect();
                for (slot, texts) in [(at + 16, patterns.clone()), (at + 24, exclude)] {
                    let list = memory.len();
                    memory.resize(list + 8 * texts.len(), 0);
                    put(&mut memory, slot, BASE + list);
                    put(&mut memory, slot + 4, texts.len());
                    for (number, text) in texts.iter().enumerate() {
                        let place = memory.len();
                        memory.extend_from_slice(text);
                        memory.resize(memory.len().next_multiple_of(4), 0);
                        put(&mut memory, list + 8 * number, BASE + place);
                        put(&mut memory, list + 8 * number + 4, text.len());
                    }
                }
            }
            Read::RootfsPath(path) => {
                memory[at] = 1;
                let place = memory.len();
                memory.extend_from_slice(path);
                memory.resize(memory.len().next_multiple_of(4), 0);
                put(&mut memory, at + 4, BASE + place);
                put(&mut memory, at + 8, path.len());
            }
            Read::WholeRootfs => memory[at] = 2,
            other => panic!("the tests declare no {other:?}"),
        }
    }
    assert!(memory.len() < 1024);
    memory.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

pub fn context_read(patterns: &[&str], exclude: &[&str]) -> Read {
    Read::Tree(TreeRead {
        source: TreeSource::Context,
        patterns: patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect(),
        exclude: exclude.iter().map(|&pattern| pattern.to_owned()).collect(),
    })
}

pub fn changes(reads: Vec<Read>) -> Planned {
    Planned { reads, changes: Vec::new(), effect: Effect::RootFileSystem }
}
