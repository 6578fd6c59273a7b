//! COPY: files of the context, of stages, of images, and here-documents.

use cofferdam_plugin_sdk::{
    Diagnostic, InstructionHandler,
    flags::Flags,
    fs::{Executor, RootFs, Tree},
    instruction::{Error, Planned, Step, refuse},
};
use cofferdam_transfer::{Origin, Transfer, copy, read};

/// The handler.
pub struct Copy;

cofferdam_plugin_sdk::export_instruction!(crate::Copy);

impl InstructionHandler for Copy {
    fn check(step: &Step) -> Vec<Diagnostic> {
        transfer(step).1
    }

    fn plan(step: &Step) -> Result<Planned, Error> {
        Ok(checked(step)?.planned())
    }

    fn apply(
        step: &Step,
        rootfs: &dyn RootFs,
        trees: &[&dyn Tree],
        _executor: Option<&dyn Executor>,
    ) -> Result<Vec<Diagnostic>, Error> {
        copy(&checked(step)?, rootfs, trees, &|_| Ok(false))
    }
}

fn transfer(step: &Step) -> (Option<Transfer>, Vec<Diagnostic>) {
    let mut flags = Flags::of(step, &["from", "chown", "chmod", "exclude", "link", "parents"]);
    let origin = flags.value("from").map_or(Origin::Context, |name| Origin::Named(name.to_owned()));
    let parents = flags.boolean("parents").unwrap_or(false);
    let transfer = read(step, origin, parents, &mut flags);
    (transfer, flags.finish())
}

fn checked(step: &Step) -> Result<Transfer, Error> {
    let (transfer, findings) = transfer(step);
    refuse(findings)?;
    Ok(transfer.expect("a step without findings was read"))
}

#[cfg(test)]
mod tests;
