//! Git over SSH: the server's `git-upload-pack` as a command, its input and output as a connection (gitprotocol-pack(5), "SSH
//! Transport").

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use gix_transport::{
    Protocol,
    client::git::{ConnectMode, blocking_io::Connection},
};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};

use super::failure::Failure;
use crate::{
    FetchError, GitSource, Remote,
    ssh::{self, Login, Session},
};

/// What is kept of the server's words, in bytes.
const WORDS_LIMIT_BYTES: usize = 4096;

/// Logs in and starts the command.
pub(super) fn connect(
    remote: &Remote,
    source: &GitSource,
    failure: &Failure,
) -> Result<Connection<Output, Input>, FetchError> {
    let url = source.shown();
    let login = Login {
        user: source.url.username().to_owned(),
        // An IPv6 address stands in brackets in a URL.
        host: source.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port: source.url.port(),
        url: url.clone(),
    };
    let session = Arc::new(ssh::log_in(remote, &login)?);
    let path = source.ssh_path();
    let command = format!("git-upload-pack {}", quoted(&path));
    let started = remote.wait(&url, async {
        let channel = session.channel_open_session().await?;
        // Servers that do not take the variable speak the protocol's first version.
        channel.set_env(false, "GIT_PROTOCOL", "version=2").await?;
        channel.exec(true, command).await?;
        Ok(channel.split())
    })?;
    let (reading, writing) =
        started.map_err(|error: russh::Error| FetchError::Broken { url: url.clone(), reason: error.to_string() })?;
    let output = Output {
        channel: reading,
        session: session.clone(),
        remote: remote.clone(),
        url: url.clone(),
        pending: Bytes::new(),
        received: 0,
        words: Vec::new(),
        status: None,
        has_ended: false,
        failure: failure.clone(),
    };
    let input = Input { channel: writing, _session: session, remote: remote.clone(), url, failure: failure.clone() };
    let connection =
        Connection::new(output, input, Protocol::V2, path, None::<(String, _)>, ConnectMode::Process, false);
    // Else gix makes one of the path, which need not begin with a slash here.
    Ok(connection.custom_url(Some(source.url.as_str().into())))
}

/// One word for the server's shell, as git quotes it.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''").replace('!', r"'\!'"))
}

/// What the command writes, with bounds.
pub(super) struct Output {
    channel: ChannelReadHalf,
    session: Arc<Session>,
    remote: Remote,
    url: String,
    pending: Bytes,
    received: u64,
    /// What it wrote to its standard error.
    words: Vec<u8>,
    status: Option<u32>,
    has_ended: bool,
    failure: Failure,
}

impl Output {
    fn take(&mut self, message: Option<ChannelMsg>) -> Result<(), FetchError> {
        match message {
            Some(ChannelMsg::Data { data }) => {
                self.received += data.len() as u64;
                let limit = self.remote.limits().download_bytes;
                if self.received > limit {
                    return Err(FetchError::TooLarge { url: self.url.clone(), limit, unit: "bytes" });
                }
                self.pending = data;
            }
            Some(ChannelMsg::ExtendedData { data, .. }) => {
                let room = WORDS_LIMIT_BYTES.saturating_sub(self.words.len());
                self.words.extend_from_slice(&data[..data.len().min(room)]);
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => self.status = Some(exit_status),
            Some(ChannelMsg::Failure) => return Err(self.refused("it runs no commands for this user")),
            Some(ChannelMsg::Close) | None => {
                self.has_ended = true;
                match (self.status, self.session.is_closed()) {
                    (Some(0), _) => {}
                    (None, true) => {
                        let reason = "the server ended the connection".to_owned();
                        return Err(FetchError::Broken { url: self.url.clone(), reason });
                    }
                    _ => return Err(self.refused("git-upload-pack failed")),
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// In the server's own words, where it had some.
    fn refused(&self, otherwise: &str) -> FetchError {
        let words = String::from_utf8_lossy(&self.words);
        let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let words = if lines.is_empty() { otherwise.to_owned() } else { lines.join(" ") };
        let reason = format!("the server says: {words}; check the path, and whether this key may read it");
        FetchError::Git { url: self.url.clone(), reason }
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pending.is_empty() && !self.has_ended {
            let message = self.remote.wait(&self.url, self.channel.wait());
            message.and_then(|message| self.take(message)).map_err(|error| self.failure.set(error))?;
        }
        let length = buffer.len().min(self.pending.len());
        buffer[..length].copy_from_slice(&self.pending[..length]);
        self.pending.advance(length);
        Ok(length)
    }
}

/// What the command reads.
pub(super) struct Input {
    channel: ChannelWriteHalf<Msg>,
    /// The connection stays as long as somebody has it.
    _session: Arc<Session>,
    remote: Remote,
    url: String,
    failure: Failure,
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.remote.wait(&self.url, self.channel.data_bytes(Bytes::copy_from_slice(bytes)));
        match sent.map_err(|error| self.failure.set(error))? {
            Ok(()) => Ok(bytes.len()),
            // The reading side has the reason.
            Err(error) => Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(quoted("a b/c"), "'a b/c'");
        assert_eq!(quoted("it's; rm -rf /!"), r"'it'\''s; rm -rf /'\!''");
    }
}
