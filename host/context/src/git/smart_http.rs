//! Git's smart HTTP protocol over the client that all sources share (gitprotocol-http(5)).
//!
//! gix speaks the protocol; here are the requests. A server that answers 401 is asked once more with the password, which
//! it gets only if it is the host that the password is for.

use std::{
    io::{self, BufRead, BufReader, Cursor, Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

use gix_transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::failure::Failure;
use crate::{
    Basic, FetchError,
    remote::{Answer, Remedies, Remote, Request, refusal},
};

/// The requests of one fetch.
pub(super) struct SmartHttp {
    remote: Remote,
    credential: Option<Basic>,
    /// Whether the server asked for the password.
    wants_credential: bool,
    redirected: Option<String>,
    failure: Failure,
}

/// How a git server's answers are to be taken.
const REMEDIES: Remedies = Remedies {
    credential_given: false,
    password: "set GIT_TOKEN, or GIT_USERNAME and GIT_PASSWORD, for the context; for ADD give `--secret id=GIT_AUTH_TOKEN.HOST`",
    forbidden: "the user or token may not read this repository",
    missing: "check the address; a server may answer like this where a token is needed",
};

impl SmartHttp {
    pub(super) fn new(remote: Remote, credential: Option<Basic>, failure: Failure) -> Self {
        Self { remote, credential, wants_credential: false, redirected: None, failure }
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> io::Result<Request> {
        let invalid = |_| {
            let (text, problem) = (crate::source::redacted(url), "is no URL".to_owned());
            self.failure.set(FetchError::Invalid { text, problem })
        };
        let mut request = Request { method, is_git: true, ..Request::get(Url::parse(url).map_err(invalid)?) };
        for line in headers {
            let Some((name, value)) = line.as_ref().split_once(':') else { continue };
            if let (Ok(name), Ok(value)) = (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim())) {
                request.headers.insert(name, value);
            }
        }
        request.credential = self.credential.clone().filter(|_| self.wants_credential);
        Ok(request)
    }

    fn begin(&mut self, request: Request) -> Result<Answer, FetchError> {
        let mut answer = self.remote.send(&request)?;
        if answer.status == StatusCode::UNAUTHORIZED && !self.wants_credential && self.credential.is_some() {
            self.wants_credential = true;
            answer = self.remote.send(&Request { credential: self.credential.clone(), ..request })?;
        }
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(refusal(&answer, &Remedies { credential_given: self.wants_credential, ..REMEDIES })),
        }
    }
}

/// Headers as lines: all that anybody looks at is the type.
fn lines(answer: &Answer) -> Cursor<Vec<u8>> {
    let kind = answer.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    Cursor::new([b"content-type: ", kind, b"\n"].concat())
}

impl Http for SmartHttp {
    type Headers = Lines;
    type ResponseBody = BufReader<Content>;
    type PostBody = Sent;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Lines, Self::ResponseBody>> {
        let request = self.request(Method::GET, url, headers).map_err(gix::Error::from_error)?;
        let asked = request.url.clone();
        let answer = self.begin(request).map_err(|error| gix::Error::from_error(self.failure.set(error)))?;
        if answer.url != asked {
            // What follows goes where the redirect led, as git does it; the password does not.
            let tail = &url[base_url.len()..];
            if let Some(base) = answer.url.as_str().strip_suffix(tail) {
                if answer.url.origin() != asked.origin() {
                    self.credential = None;
                }
                self.redirected = Some(base.to_owned());
            }
        }
        let (headers, body) = (Lines::There(lines(&answer)), Content::There(Box::new(answer), self.failure.clone()));
        Ok(GetResponse { headers, body: BufReader::new(body) })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Lines, Self::ResponseBody, Sent>> {
        // Requests of a fetch are small, so they are sent whole.
        let request = self.request(Method::POST, url, headers).map_err(gix::Error::from_error)?;
        let exchange = Exchange { remote: self.remote.clone(), request, answer: None, failure: self.failure.clone() };
        let exchange = Arc::new(Mutex::new(exchange));
        Ok(PostResponse {
            post_body: Sent(exchange.clone()),
            headers: Lines::Coming(exchange.clone()),
            body: BufReader::with_capacity(64 << 10, Content::Coming(exchange)),
        })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::Result<()> {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.redirected.clone()
    }
}

/// A request that is sent when its answer is first read.
pub(super) struct Exchange {
    remote: Remote,
    request: Request,
    answer: Option<Answer>,
    failure: Failure,
}

type SharedExchange = Arc<Mutex<Exchange>>;

impl Exchange {
    fn answer(&mut self) -> io::Result<&mut Answer> {
        if self.answer.is_none() {
            let answer = self.remote.send(&self.request).and_then(|answer| match answer.status.is_success() {
                true => Ok(answer),
                false => {
                    Err(refusal(&answer, &Remedies { credential_given: self.request.credential.is_some(), ..REMEDIES }))
                }
            });
            self.answer = Some(answer.map_err(|error| self.failure.set(error))?);
        }
        Ok(self.answer.as_mut().expect("was just put there"))
    }
}

fn lock(exchange: &SharedExchange) -> std::sync::MutexGuard<'_, Exchange> {
    exchange.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of a request.
pub(super) struct Sent(SharedExchange);

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).request.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The headers of an answer.
pub(super) enum Lines {
    There(Cursor<Vec<u8>>),
    Coming(SharedExchange),
}

impl Lines {
    fn there(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        if let Self::Coming(exchange) = self {
            let lines = lines(lock(exchange).answer()?);
            *self = Self::There(lines);
        }
        match self {
            Self::There(lines) => Ok(lines),
            Self::Coming(_) => unreachable!("was just replaced"),
        }
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.there()?.read(buffer)
    }
}

impl BufRead for Lines {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.there()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Self::There(lines) = self {
            lines.consume(amount);
        }
    }
}

/// The body of an answer.
pub(super) enum Content {
    There(Box<Answer>, Failure),
    Coming(SharedExchange),
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let keep = |error: io::Error, failure: &Failure| match error.downcast::<FetchError>() {
            Ok(error) => failure.set(error),
            Err(error) => error,
        };
        match self {
            Self::There(answer, failure) => answer.body.read(buffer).map_err(|error| keep(error, failure)),
            Self::Coming(exchange) => {
                let mut exchange = lock(exchange);
                let failure = exchange.failure.clone();
                exchange.answer()?.body.read(buffer).map_err(|error| keep(error, &failure))
            }
        }
    }
}
