//! Whether a registry takes a user's name and password.

use std::sync::Arc;

use cofferdam_registry::{Action, Client, Credential, CredentialError, CredentialSource, RegistryHost, Secret};

use crate::{credentials, error::BuildError, registry_files, request::RegistryAccess};

/// Asks the registry. Blocks; starts threads.
///
/// # Errors
/// It does not take them, or can't be reached.
pub fn log_in(
    registry: &RegistryHost,
    username: &str,
    password: &Secret,
    access: &RegistryAccess,
) -> Result<(), BuildError> {
    let runtime = credentials::runtime(1)?;
    let credential = Credential::Basic { username: username.to_owned(), password: password.clone() };
    let client = Client::new(credentials::options(&registry_files::resolved(access)?)?, Arc::new(Given(credential)));
    let asked = runtime.block_on(client.log_in(registry));
    asked.map_err(|source| BuildError::Login { host: registry.to_string(), source })
}

/// The same for every question: there is one registry.
struct Given(Credential);

impl CredentialSource for Given {
    fn credential(&self, _: &str, _: &str, _: &[Action]) -> Result<Option<Credential>, CredentialError> {
        Ok(Some(self.0.clone()))
    }
}
