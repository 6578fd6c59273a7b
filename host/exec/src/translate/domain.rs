//! The Landlock domain around a translated command: what holds when the translator is deceived.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};

use crate::sys;

/// The newest rights that are asked for; a kernel gives those that it knows. The last one is to connect to unix sockets with
/// names in the file system (ABI 9).
const RIGHTS: ABI = ABI::V9;

/// What a command may reach.
#[derive(Default)]
pub struct Reach {
    /// Everything may be done beneath these, but making devices.
    pub writable: Vec<PathBuf>,
    /// These may be read and executed.
    pub runnable: Vec<PathBuf>,
    /// These may be read.
    pub readable: Vec<PathBuf>,
    /// These are files that may be read and written.
    pub devices: Vec<PathBuf>,
}

/// Enters a domain in which nothing but `reach` exists; out of it lead neither ptrace nor, where the kernel can do it,
/// signals and connections to abstract unix sockets. Answers whether there is one: ABI 1 would forbid renames.
///
/// # Errors
/// The kernel refuses.
pub fn enter(reach: &Reach) -> Result<bool, RulesetError> {
    let abi = sys::landlock_abi();
    if abi < 2 {
        return Ok(false);
    }
    let all = AccessFs::from_all(RIGHTS) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    for path in &reach.writable {
        ruleset = allow(ruleset, path, if path.is_dir() { all } else { all & AccessFs::from_file(RIGHTS) })?;
    }
    for path in &reach.runnable {
        let access = if path.is_dir() { read | AccessFs::Execute } else { AccessFs::ReadFile | AccessFs::Execute };
        ruleset = allow(ruleset, path, access | AccessFs::ResolveUnix)?;
    }
    for path in &reach.readable {
        ruleset = allow(ruleset, path, if path.is_dir() { read } else { AccessFs::ReadFile.into() })?;
    }
    for path in &reach.devices {
        ruleset =
            allow(ruleset, path, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::Truncate)?;
    }
    ruleset.restrict_self()?;
    Ok(true)
}

fn allow(
    ruleset: landlock::RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(file) => ruleset.add_rule(PathBeneath::new(file, access)),
        // What is not there can't be reached.
        Err(_) => Ok(ruleset),
    }
}
