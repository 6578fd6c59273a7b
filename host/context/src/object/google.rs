//! Google Cloud Storage: who may ask there.

use std::sync::Arc;

use object_store::{client::HttpClient, gcp::GoogleCloudStorageBuilder};
use url::Url;

use super::{
    CloudAccess, Credentials, Learned, Opened,
    access::text_of,
    connector::{Connector, once},
    federation::{External, Federation},
};
use crate::{FetchError, Remote, remote::host_and_port};

const ENDPOINT: &str = "https://storage.googleapis.com";

/// The bucket's store. STORAGE_EMULATOR_HOST is another server, which asks nobody who they are.
pub(super) fn store(bucket: &str, remote: &Remote, learned: &Learned) -> Result<Opened, FetchError> {
    let access = remote.cloud();
    let emulator = access.value("STORAGE_EMULATOR_HOST");
    let text = match emulator {
        Some(text) if text.contains("://") => text.to_owned(),
        Some(host) => format!("http://{host}"),
        None => ENDPOINT.to_owned(),
    };
    let problem = "is not the address of a server (STORAGE_EMULATOR_HOST); write http://HOST:PORT";
    let wrong = || FetchError::Invalid { text: text.clone(), problem: problem.to_owned() };
    let endpoint = Url::parse(&text).map_err(|_| wrong())?;
    if !matches!(endpoint.scheme(), "http" | "https") {
        return Err(wrong());
    }
    let connector = Connector::new(remote, &endpoint);
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_base_url(endpoint.as_str().trim_end_matches('/'))
        .with_retry(once())
        .with_http_connector(connector.clone());
    let metadata = access.value("GCE_METADATA_HOST").unwrap_or("metadata.google.internal");
    if Url::parse(&format!("http://{metadata}/")).is_err() {
        let problem = "is not a server's name (GCE_METADATA_HOST)".to_owned();
        return Err(FetchError::Invalid { text: metadata.to_owned(), problem });
    }
    let given = Credentials::Given("GOOGLE_APPLICATION_CREDENTIALS");
    let (builder, credentials) = match (emulator, file(access)?) {
        (Some(_), _) => (builder.with_skip_signature(true), Credentials::None),
        (None, Some(File::Own(path))) => (builder.with_application_credentials(path), given),
        (None, Some(File::External(file))) => {
            let federation = Federation::new(HttpClient::new(connector), *file);
            (builder.with_credentials(Arc::new(federation)), given)
        }
        (None, None) if learned.no_machine => (builder.with_skip_signature(true), Credentials::None),
        (None, None) => (builder, Credentials::Machine),
    };
    // Its words could quote the key.
    let store = builder.build().map_err(|_| no_credentials("the file of GOOGLE_APPLICATION_CREDENTIALS is damaged"))?;
    let store = Arc::new(store);
    Ok(Opened { host: host_and_port(&endpoint), parts: store.clone(), store, credentials, region: None })
}

/// A file of application default credentials.
enum File {
    /// The key of a service account, or the token of a user: the library reads it.
    Own(String),
    /// Another provider's word.
    External(Box<External>),
}

/// The file of application default credentials, if there is one, and of a kind that is read.
fn file(access: &CloudAccess) -> Result<Option<File>, FetchError> {
    let Some(path) = &access.google_file else { return Ok(None) };
    let shown = path.display();
    match text_of(path)? {
        None if access.value("GOOGLE_APPLICATION_CREDENTIALS").is_some() => {
            Err(no_credentials(&format!("there is no file `{shown}` (GOOGLE_APPLICATION_CREDENTIALS)")))
        }
        None => Ok(None),
        Some(text) if ["\"service_account\"", "\"authorized_user\""].iter().any(|kind| text.contains(kind)) => {
            Ok(Some(File::Own(path.to_string_lossy().into_owned())))
        }
        Some(text) => External::parse(&text).map(|file| Some(File::External(Box::new(file)))).ok_or_else(|| {
            no_credentials(&format!(
                "`{shown}` is neither the key of a service account, nor the token of a user, nor a file of workload identity \
                 federation with a `file` or `url`"
            ))
        }),
    }
}

fn no_credentials(reason: &str) -> FetchError {
    FetchError::CloudCredentials { reason: reason.to_owned(), remedy: REMEDY }
}

/// What gives credentials.
pub(super) const REMEDY: &str =
    "name a service account's key in GOOGLE_APPLICATION_CREDENTIALS, or give the machine or pod a service account";
