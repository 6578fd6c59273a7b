//! The service account of a machine or a pod ("About VM metadata" of the Compute Engine documentation).

use cofferdam_plugin_sdk::{
    credentials::{Error, Sources, Web},
    diagnostics::Timestamp,
    web::{self, AnswerExt, RequestExt, get},
};

use crate::{Token, token_of};

/// `metadata.google.internal`, without a look-up.
const ADDRESS: &str = "169.254.169.254";

/// The token of the default service account. A machine of somebody else's cloud, or of none, has none.
pub fn token(now: Timestamp, sources: &dyn Sources, web: &dyn Web) -> Result<Option<Token>, Error> {
    let host = sources.value("GCE_METADATA_HOST")?.unwrap_or_else(|| ADDRESS.to_owned());
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    let answer = match web.send(&get(url.clone()).header("Metadata-Flavor", "Google")) {
        Err(web::Error::Failed(_)) => return Ok(None),
        answer => answer?,
    };
    // Other clouds have something at the same address.
    if answer.header("metadata-flavor") != Some("Google") || answer.status == 404 {
        return Ok(None);
    }
    token_of(&answer, &url, now).map(Some)
}
