//! Connections to a git daemon (`git://`, gitprotocol-pack(5)).

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::failure::Failure;
use crate::{FetchError, Remote};

/// The port of git's own protocol.
pub(super) const PORT: u16 = 9418;

const TICK: Duration = Duration::from_millis(200);

/// One direction of a connection, with bounds.
pub(super) struct Connection {
    stream: TcpStream,
    remote: Remote,
    url: String,
    received: u64,
    failure: Failure,
}

/// Connects.
pub(super) fn connect(
    remote: &Remote,
    host: &str,
    port: u16,
    url: &str,
    failure: &Failure,
) -> Result<(Connection, Connection), FetchError> {
    let stream = remote.connect(host, port, PORT)?;
    let prepared = stream.set_read_timeout(Some(TICK)).and_then(|()| {
        stream.set_write_timeout(Some(remote.patience()))?;
        stream.try_clone()
    });
    let other = prepared.map_err(|source| FetchError::Storage { action: "set up a connection".to_owned(), source })?;
    let side = |stream| Connection {
        stream,
        remote: remote.clone(),
        url: url.to_owned(),
        received: 0,
        failure: failure.clone(),
    };
    Ok((side(other), side(stream)))
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
