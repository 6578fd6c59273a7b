//! Connections to servers that do not speak HTTP.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::{FetchError, Remote, http::is_link_local};

const CONNECT: Duration = Duration::from_secs(20);

impl Remote {
    /// Connects; the first address that answers counts. The policy is asked for `HOST`, or `HOST:PORT` where that is not
    /// `usual_port`.
    ///
    /// # Errors
    /// The host is forbidden, is none that sources are fetched from, or nobody answers.
    pub(crate) fn connect(&self, host: &str, port: u16, usual_port: u16) -> Result<TcpStream, FetchError> {
        let shown = format!("{host}:{port}");
        let failed = |reason: String| FetchError::Connect { host: shown.clone(), reason };
        self.check_host(if port == usual_port { host } else { &shown })?;
        // An IPv6 address stands in brackets in a URL.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (name, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        let (mut reason, mut refused) = ("there is no such name".to_owned(), false);
        for address in addresses {
            if is_link_local(address.ip()) {
                refused = true;
                continue;
            }
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => return Ok(stream),
                Err(error) => reason = error.to_string(),
            }
        }
        if refused { Err(FetchError::LinkLocal { host: shown }) } else { Err(failed(reason)) }
    }
}
