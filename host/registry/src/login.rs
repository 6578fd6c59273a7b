//! Whether a registry takes our credentials.

use reqwest::Method;

use crate::{Client, RegistryError, RegistryHost, auth::Scope, error::Missing, host::Call, options::Direction};

impl Client {
    /// Asks for the API's root with the credentials that the source has (distribution specification, "Determining Support").
    /// A registry that lets everybody in takes any.
    pub async fn log_in(&self, registry: &RegistryHost) -> Result<(), RegistryError> {
        let host = self.host(registry, Direction::Pull);
        let url = host.endpoint().await?.url("");
        let call = Call::new(Scope::none(), (Missing::Repository, registry.to_string()), Method::GET, url);
        match host.send(&call).await {
            Ok(answer) => {
                answer.finish().await;
                Ok(())
            }
            Err(
                RegistryError::Unauthorized { host, request, said, .. }
                | RegistryError::Denied { host, request, said, .. },
            ) => Err(RegistryError::WrongCredentials { host, request, said }),
            Err(error) => Err(error),
        }
    }
}
