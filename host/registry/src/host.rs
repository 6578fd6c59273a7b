//! One registry in one direction: its endpoint, its authentication, and the requests to it.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, StatusCode, header::AUTHORIZATION};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    CredentialSource, RegistryError, RegistryHost, RequestLine,
    auth::{Authorization, Authorizer, Scope},
    error::{Missing, bare},
    http::{Answer, Endpoint, Http, Outgoing},
    retry::Attempts,
};

/// A blob may be redirected to storage, and from there to the storage's region.
const MAX_REDIRECTS: usize = 5;

/// A registry as one client sees it, for pulling or for pushing.
pub(crate) struct Host {
    name: RegistryHost,
    pub(crate) http: Http,
    endpoint: OnceCell<Endpoint>,
    authorizer: Authorizer,
    permits: Arc<Semaphore>,
}

/// A request to the registry's API, with what is needed to tell of its failure.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) scope: Scope,
    /// What does not exist if the answer is 404, and its name.
    pub(crate) missing: (Missing, String),
    pub(crate) outgoing: Outgoing,
    /// Whether a redirect is followed, or handed out as the answer.
    pub(crate) follow: bool,
}

impl Host {
    pub(crate) fn new(name: RegistryHost, http: Http, source: Arc<dyn CredentialSource>) -> Self {
        let authorizer = Authorizer::new(name.to_string(), source, http.options.credential_lifetime);
        let permits = Arc::new(Semaphore::new(http.options.requests_per_host.max(1)));
        Self { name, http, endpoint: OnceCell::new(), authorizer, permits }
    }

    /// Sends a request until it is answered or patience ends. The answer's status is below 400, and below 300 for
    /// calls that follow redirects.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, RegistryError> {
        let mut attempts = Attempts::new(&self.http.options.retries);
        loop {
            match self.send_once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.wait(error).await?,
            }
        }
    }

    /// Sends a request and reads the whole answer, again if need be.
    pub(crate) async fn fetch(&self, call: &Call, limit_bytes: u64) -> Result<(Answer, Bytes), RegistryError> {
        let mut attempts = Attempts::new(&self.http.options.retries);
        loop {
            let result = async {
                let mut answer = self.send_once(call).await?;
                let body = answer.body(limit_bytes).await?;
                Ok((answer, body))
            };
            match result.await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => attempts.wait(error).await?,
            }
        }
    }

    /// Sends a request once, or twice where the registry wants a new token.
    pub(crate) async fn send_once(&self, call: &Call) -> Result<Answer, RegistryError> {
        let endpoint = self.endpoint().await?;
        // Never refused: the semaphore is not closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let mut authorization = self.authorizer.authorize(&call.scope, &self.http, endpoint).await?;
        let mut answer = self.follow(endpoint, call, &authorization).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && endpoint.owns(answer.url()) {
            let refused = Some((&call.scope, &authorization));
            self.authorizer.refused(answer.headers(), refused, endpoint, &self.http, answer.request()).await?;
            answer.finish().await;
            authorization = self.authorizer.authorize(&call.scope, &self.http, endpoint).await?;
            answer = self.follow(endpoint, call, &authorization).await?;
        }
        if let Some(permit) = permit {
            answer.hold(permit);
        }
        let own = endpoint.owns(answer.url());
        self.judge(call, &authorization, answer, own).await
    }

    /// The endpoint, found by the first request to this host.
    pub(crate) async fn endpoint(&self) -> Result<&Endpoint, RegistryError> {
        self.endpoint.get_or_try_init(|| self.find_endpoint()).await
    }

    async fn find_endpoint(&self) -> Result<Endpoint, RegistryError> {
        let mut attempts = Attempts::new(&self.http.options.retries);
        let greeting = loop {
            match self.http.greet(&self.name).await {
                Ok(greeting) => break greeting,
                Err(error) => attempts.wait(error).await?,
            }
        };
        let (endpoint, answer) = (greeting.endpoint, greeting.answer);
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.authorizer.refused(answer.headers(), None, &endpoint, &self.http, answer.request()).await?;
        }
        answer.finish().await;
        Ok(endpoint)
    }

    /// Sends a request, and again where redirects lead. The authorization goes to the registry itself only.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        authorization: &Authorization,
    ) -> Result<Answer, RegistryError> {
        let mut outgoing = call.outgoing.clone();
        for _ in 0..=MAX_REDIRECTS {
            outgoing.headers.remove(AUTHORIZATION);
            if let Some(header) = authorization.header.clone().filter(|_| endpoint.owns(&outgoing.url)) {
                outgoing.headers.insert(AUTHORIZATION, header);
            }
            let profile = self.http.profile_of(&outgoing.url, Some(endpoint));
            let answer = self.http.exchange(profile, outgoing.clone()).await?;
            if !call.follow || !answer.redirects(&outgoing.method) {
                return Ok(answer);
            }
            outgoing.url = endpoint.follow(&answer, "a redirect", &self.http)?;
            answer.finish().await;
        }
        let (request, to) = (call.outgoing.line(), bare(&outgoing.url));
        Err(RegistryError::Redirects { request, hops: MAX_REDIRECTS, to })
    }

    async fn judge(
        &self,
        call: &Call,
        authorization: &Authorization,
        mut answer: Answer,
        own: bool,
    ) -> Result<Answer, RegistryError> {
        let status = answer.status();
        if status.is_success() || (status.is_redirection() && !call.follow) {
            return Ok(answer);
        }
        let request: RequestLine = answer.request().clone();
        let (host, repository) = (self.name.to_string(), call.scope.repository.clone());
        let (action, used) = (call.scope.action(), authorization.kind);
        Err(match status {
            // Elsewhere these say something about a signed URL, not about us.
            StatusCode::UNAUTHORIZED if own => {
                let said = answer.said().await;
                RegistryError::Unauthorized { host, repository, action, used, request, said }
            }
            StatusCode::FORBIDDEN if own => {
                let said = answer.said().await;
                RegistryError::Denied { host, repository, action, used, request, said }
            }
            StatusCode::NOT_FOUND if own => {
                let said = answer.said().await;
                let (what, name) = call.missing.clone();
                match what.said_to_be(&said) {
                    Missing::Repository => {
                        let name = format!("{}/{repository}", self.name);
                        RegistryError::NotFound { what: Missing::Repository, name, request, said }
                    }
                    what => RegistryError::NotFound { what, name, request, said },
                }
            }
            _ => answer.into_error().await,
        })
    }
}

impl Call {
    pub(crate) fn new(scope: Scope, missing: (Missing, String), method: Method, url: url::Url) -> Self {
        Self { scope, missing, outgoing: Outgoing::new(method, url), follow: true }
    }
}
