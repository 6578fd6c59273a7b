//! Connections to a git daemon (`git://`, gitprotocol-pack(5)).

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::smart_http::Failure;
use crate::{FetchError, Remote, remote::is_link_local};

/// The port of git's own protocol.
pub(super) const PORT: u16 = 9418;

const CONNECT: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(200);

/// One direction of a connection, with bounds.
pub(super) struct Connection {
    stream: TcpStream,
    remote: Remote,
    url: String,
    received: u64,
    failure: Failure,
}

/// Connects; the first address that answers counts.
pub(super) fn connect(
    remote: &Remote,
    host: &str,
    port: u16,
    url: &str,
    failure: &Failure,
) -> Result<(Connection, Connection), FetchError> {
    let shown = format!("{host}:{port}");
    let connect = |reason: String| FetchError::Connect { host: shown.clone(), reason };
    remote.check_host(if port == PORT { host } else { &shown })?;
    // An IPv6 address stands in brackets in a URL.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (name, port).to_socket_addrs().map_err(|error| connect(error.to_string()))?;
    let (mut reason, mut refused) = ("there is no such name".to_owned(), false);
    for address in addresses {
        if is_link_local(address.ip()) {
            refused = true;
            continue;
        }
        match TcpStream::connect_timeout(&address, CONNECT).and_then(|stream| {
            stream.set_read_timeout(Some(TICK))?;
            stream.set_write_timeout(Some(remote.patience()))?;
            Ok((stream.try_clone()?, stream))
        }) {
            Ok((reading, writing)) => {
                let side = |stream| Connection {
                    stream,
                    remote: remote.clone(),
                    url: url.to_owned(),
                    received: 0,
                    failure: failure.clone(),
                };
                return Ok((side(reading), side(writing)));
            }
            Err(error) => reason = error.to_string(),
        }
    }
    if refused { Err(FetchError::LinkLocal { host: shown }) } else { Err(connect(reason)) }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut waited = Duration::ZERO;
        loop {
            match self.stream.read(buffer) {
                Ok(length) => {
                    self.received += length as u64;
                    let limit = self.remote.limits().download_bytes;
                    if self.received > limit {
                        let error = FetchError::TooLarge { url: self.url.clone(), limit, unit: "bytes" };
                        return Err(self.failure.set(error));
                    }
                    return Ok(length);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    waited += TICK;
                    if self.remote.is_stopped() {
                        return Err(self.failure.set(FetchError::Stopped));
                    }
                    if waited >= self.remote.patience() {
                        let reason = format!("nothing came for {} seconds", self.remote.patience().as_secs());
                        return Err(self.failure.set(FetchError::Broken { url: self.url.clone(), reason }));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let (url, reason) = (self.url.clone(), error.to_string());
                    return Err(self.failure.set(FetchError::Broken { url, reason }));
                }
            }
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
