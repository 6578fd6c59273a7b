//! Loading plugins: first-party ones, those of the user's directories, and the operator's word on both.

use std::{path::PathBuf, sync::Arc};

use cofferdam_plugin_host::{AuditLog, HostOptions, PluginHost, Policy};
use cofferdam_registry::RegistryHost;

use crate::{error::BuildError, request::PluginAccess, stop::Stop};

/// The host with all plugins.
///
/// # Errors
/// The policy can't be read, or plugins are refused: all reasons.
pub fn load(access: &PluginAccess) -> Result<PluginHost, BuildError> {
    load_for(access, access.scratch.clone(), &Stop::new())
}

/// The host with all plugins, for a build that may be stopped.
///
/// `scratch` is where private temporary directories are made.
pub(crate) fn load_for(access: &PluginAccess, scratch: Option<PathBuf>, stop: &Stop) -> Result<PluginHost, BuildError> {
    let mut policy = match (&access.policy_file, access.sole_policy) {
        (Some(file), true) => Policy::read(file)?,
        (file, _) => Policy::load(file.as_deref())?,
    };
    for allowance in &access.allow {
        policy.allow(allowance.clone());
    }
    let audit = access.audit_log.as_deref().map(AuditLog::open).transpose().map_err(|source| BuildError::Output {
        path: access.audit_log.clone().unwrap_or_default(),
        source: source.into(),
    })?;
    PluginHost::load(HostOptions {
        plugin_directories: access.directories.clone(),
        policy,
        audit: audit.map(Arc::new),
        compile_cache: access.compile_cache.clone().filter(|_| !access.directories.is_empty()),
        scratch,
        interrupt: Some(Arc::new({
            let stop = stop.clone();
            move || stop.is_stopped()
        })),
        ..HostOptions::default()
    })
    .map_err(BuildError::Plugins)
}

/// Whether the operator allows to push to a registry.
///
/// # Errors
/// It is not allowed.
pub(crate) fn check_push(plugins: &PluginHost, host: &RegistryHost) -> Result<(), BuildError> {
    let host = host.to_string();
    if plugins.policy().may_push(&host) { Ok(()) } else { Err(BuildError::PushForbidden(host)) }
}
