//! What a command may do: its capabilities, its Landlock domain, its user.

use landlock::{
    AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    Scope,
};
use rustix::{
    io::Errno,
    process::{Gid, Uid},
    thread::{CapabilitySet, CapabilitySets},
};

use crate::{Network, ResolvedUser, sys, wire::Failure};

/// Docker's default set: what builds are used to, without what reaches beyond the container.
const ALLOWED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Enters a Landlock domain that takes no right inside away, and out of which neither ptrace leads nor, where the kernel
/// can do it, signals or connections to abstract unix sockets. These belong to the network namespace, which the command
/// shares with the builder.
pub fn enter_domain() -> Result<(), Failure> {
    let abi = sys::landlock_abi();
    let result = match abi {
        6.. => scoped(),
        2..6 => tracing_only(),
        // The first version would forbid renames between directories.
        _ => Ok(()),
    };
    result.map_err(|_| Failure::setup("enter a Landlock domain", Errno::PERM))
}

fn scoped() -> Result<(), RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        // Setuid programs (su, sudo) have to work.
        .no_new_privs(false)
        .restrict_self()
        .map(drop)
}

/// A domain has to handle something: renames between directories, allowed everywhere.
fn tracing_only() -> Result<(), RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .create()?
        .no_new_privs(false);
    let ruleset = match PathFd::new("/") {
        Ok(root) => ruleset.add_rule(PathBeneath::new(root, AccessFs::Refer))?,
        // Without a root there is nothing to rename either.
        Err(_) => ruleset,
    };
    ruleset.restrict_self().map(drop)
}

/// The capabilities that a command may have. Raw sockets on the builder's own network would show it the builder's
/// traffic, and with it what goes to a registry without TLS.
fn allowed(network: Network) -> CapabilitySet {
    match network {
        Network::Host => ALLOWED.difference(CapabilitySet::NET_RAW),
        Network::None => ALLOWED,
    }
}

/// Takes every other capability away for good, also from setuid programs and root shells.
pub fn limit_capabilities(network: Network) -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if allowed(network).contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel has no more of them.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    match rustix::thread::clear_ambient_capability_set() {
        Err(Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the user's ids, and for a user other than root gives all capabilities up.
pub fn become_user(user: &ResolvedUser, network: Network) -> Result<(), Failure> {
    let step = |step: String| move |error: Errno| Failure::setup(step, error);
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A map of a single id forbids it, and there is no group to give up that could be named here.
        Err(Errno::PERM) if groups.is_empty() => {}
        result => result.map_err(step("set the supplementary groups".into()))?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step(format!("become group {}", user.gid)))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step(format!("become user {}", user.uid)))?;

    let now = rustix::thread::capabilities(None).map_err(step("read the capabilities".into()))?;
    let kept = if user.uid == 0 { now.permitted & allowed(network) } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(step("limit the capabilities".into()))
}
