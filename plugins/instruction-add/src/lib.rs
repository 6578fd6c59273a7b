//! ADD: what COPY does with the context, and archives unpacked, inside the component.

mod remote;
mod unpack;

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt, InstructionHandler,
    diagnostics::error,
    flags::Flags,
    fs::{Executor, RootFs, Tree},
    instruction::{Error, Planned, Step, refuse},
};
use cofferdam_transfer::{Origin, Source, Transfer, copy, read};

/// The handler.
pub struct Add;

cofferdam_plugin_sdk::export_instruction!(crate::Add);

impl InstructionHandler for Add {
    fn check(step: &Step) -> Vec<Diagnostic> {
        addition(step).1
    }

    fn plan(step: &Step) -> Result<Planned, Error> {
        Ok(checked(step)?.transfer.planned())
    }

    fn apply(
        step: &Step,
        rootfs: &dyn RootFs,
        trees: &[&dyn Tree],
        _executor: Option<&dyn Executor>,
    ) -> Result<Vec<Diagnostic>, Error> {
        let addition = checked(step)?;
        let tree = trees.first().copied();
        match addition.unpack {
            true => copy(&addition.transfer, rootfs, tree, &unpack::unpack),
            false => copy(&addition.transfer, rootfs, tree, &|_| Ok(false)),
        }
    }
}

struct Addition {
    transfer: Transfer,
    unpack: bool,
}

/// Flags that belong to sources which are fetched.
const REMOTE_FLAGS: [&str; 2] = ["checksum", "keep-git-dir"];

fn addition(step: &Step) -> (Option<Addition>, Vec<Diagnostic>) {
    let mut flags = Flags::of(step, &["chown", "chmod", "exclude", "unpack", "link", "checksum", "keep-git-dir"]);
    let unpack = flags.boolean("unpack").unwrap_or(true);
    let transfer = read(step, Origin::Context, &mut flags);
    let mut is_remote = false;
    for source in transfer.iter().flat_map(|transfer| &transfer.sources) {
        if let Source::Pattern { written, .. } = source
            && let Some(kind) = remote::kind(written)
        {
            is_remote = true;
            let message = format!("`{written}` is {kind}, which this version of `ADD` does not fetch");
            flags
                .push(error("UnsupportedSource", message).help("fetch it in a `RUN` step, or put it into the context"));
        }
    }
    for name in REMOTE_FLAGS.into_iter().filter(|_| !is_remote) {
        if flags.get(name).is_some() {
            let message = format!("`--{name}` is for sources that are fetched, and there is none");
            flags.push_about(name, error("FlagWithoutEffect", message));
        }
    }
    (transfer.map(|transfer| Addition { transfer, unpack }), flags.finish())
}

fn checked(step: &Step) -> Result<Addition, Error> {
    let (addition, findings) = addition(step);
    refuse(findings)?;
    Ok(addition.expect("a step without findings was read"))
}

#[cfg(test)]
mod tests;
