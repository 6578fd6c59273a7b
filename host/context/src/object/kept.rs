//! Credentials that are asked for, and kept for a while.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Method};
use object_store::{
    Error, Result,
    client::{HttpClient, HttpRequest, HttpRequestBody},
};
use url::Url;

/// How long credentials are used before they are asked for again: whoever gives them renews them minutes before their end.
const KEPT: Duration = Duration::from_secs(60);

/// Credentials, and since when they are known.
pub(super) struct Kept<T>(Mutex<Option<(Arc<T>, Instant)>>);

impl<T> Kept<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Those that are known, or new ones.
    pub(super) async fn get(&self, fetch: impl Future<Output = Result<T>>) -> Result<Arc<T>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((credentials, since)) = kept
            && since.elapsed() < KEPT
        {
            return Ok(credentials);
        }
        let credentials = Arc::new(fetch.await?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((credentials.clone(), Instant::now()));
        Ok(credentials)
    }
}

/// Sends a request to whoever gives credentials; the answer, if it is a success.
pub(super) async fn ask(
    client: &HttpClient,
    method: Method,
    url: &Url,
    headers: &[(HeaderName, &str)],
    body: String,
) -> Result<String> {
    let mut request = HttpRequest::new(HttpRequestBody::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = url.as_str().parse().map_err(failed)?;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|_| failed("a token has characters that none has"))?;
        request.headers_mut().insert(name, value);
    }
    let answer = client.execute(request).await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(failed(format!("it answers {}", answer.status())));
    }
    let bytes = answer.into_body().bytes().await.map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As the library words a failure.
pub(super) fn failed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "credentials", source: why.into() }
}
