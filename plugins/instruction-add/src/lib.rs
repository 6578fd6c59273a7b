//! ADD: what COPY does with the context, archives unpacked, inside the component, and what the host fetches.

mod remote;
mod unpack;

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt, InstructionHandler,
    diagnostics::error,
    flags::Flags,
    fs::{Executor, RootFs, Tree},
    instruction::{Error, Planned, Step, refuse},
};
use cofferdam_transfer::{Origin, Source, Transfer, copy, nameless, read};
use remote::Checksum;

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
        if let (Some(checksum), [source]) = (&addition.checksum, addition.transfer.sources.as_slice())
            && let (Source::Url { url: written, .. } | Source::Git { written, .. }, Some(tree)) =
                (source, trees.first())
        {
            checksum.verify(written, *tree)?;
        }
        copy(&addition.transfer, rootfs, trees, &|arrival| {
            // What is fetched is unpacked only if that is asked for, what lies in the context unless it is not.
            match addition.unpack.unwrap_or(!arrival.is_fetched) {
                true => unpack::unpack(arrival),
                false => Ok(false),
            }
        })
    }
}

struct Addition {
    transfer: Transfer,
    unpack: Option<bool>,
    checksum: Option<Checksum>,
}

fn addition(step: &Step) -> (Option<Addition>, Vec<Diagnostic>) {
    let mut flags = Flags::of(step, &["chown", "chmod", "exclude", "unpack", "link", "checksum", "keep-git-dir"]);
    let unpack = flags.boolean("unpack");
    let checksum = flags.value("checksum");
    let keep_git_directory = flags.boolean("keep-git-dir").unwrap_or(false);
    let Some(mut transfer) = read(step, Origin::Context, false, &mut flags) else { return (None, flags.finish()) };
    for source in &mut transfer.sources {
        if let Source::Pattern { written, .. } = source
            && let Some(remote) = remote::source(written, keep_git_directory)
        {
            *source = remote;
        }
    }
    let is_git = |source: &Source| matches!(source, Source::Git { .. });
    if flags.get("keep-git-dir").is_some() && !transfer.sources.iter().any(is_git) {
        let message = "`--keep-git-dir` is for git repositories, and there is none".to_owned();
        flags.push_about("keep-git-dir", error("FlagWithoutEffect", message));
    }
    let checksum = checksum.and_then(|text| {
        let checksum = match transfer.sources.as_slice() {
            [source @ (Source::Url { .. } | Source::Git { .. })] => Checksum::read(text, source),
            [_] => Err(error("FlagWithoutEffect", "`--checksum` is for a source that is fetched, and there is none")),
            _ => Err(error("FlagWithoutEffect", "`--checksum` is for one source, and there are several")
                .help("give each source an `ADD` of its own")),
        };
        checksum.map_err(|finding| flags.push_about("checksum", finding)).ok()
    });
    let needs_names = transfer.destination.is_directory || transfer.sources.len() > 1;
    for source in transfer.sources.iter().filter(|_| needs_names && unpack != Some(true)) {
        if let Source::Url { url, name: None } = source {
            flags.push(nameless(url));
        }
    }
    (Some(Addition { transfer, unpack, checksum }), flags.finish())
}

fn checked(step: &Step) -> Result<Addition, Error> {
    let (addition, findings) = addition(step);
    refuse(findings)?;
    Ok(addition.expect("a step without findings was read"))
}

#[cfg(test)]
mod tests;
