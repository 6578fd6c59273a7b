//! What the builder and the stage process say to each other over a socket: frames of JSON, each after its length.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    ExecError, Exit, RunRequest,
    error::{CommandProblem, IdKind},
    executor::Note,
    stage::Namespaces,
};

/// A request carries whole files and the command's input as JSON.
const REQUEST_LIMIT_BYTES: u32 = 256 << 20;
/// Messages name paths.
const REPORT_LIMIT_BYTES: u32 = 4 << 20;

/// The first and only thing that the builder says.
#[derive(Serialize, Deserialize)]
pub struct Start {
    /// What to do.
    pub request: RunRequest,
    /// The subdirectory of the scratch directory that belongs to this command.
    pub private: std::path::PathBuf,
    /// What the command gets of its own.
    pub namespaces: Namespaces,
    /// Whether a flat tree becomes the command's root for real (chroot(2)), and not by its translator alone.
    pub real_root: bool,
    /// The process id of the builder.
    pub builder: u32,
    /// See [`crate::TranslatorExecutor::without_checks`].
    pub without_checks: bool,
}

/// What the stage process says, the last one being `Ended` or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Something to tell the user.
    Note(Note),
    /// The command ended.
    Ended {
        /// How.
        exit: Exit,
        /// See [`crate::Changes::Upper`].
        leave_out: Vec<Vec<u8>>,
    },
    /// The command was not run.
    Failed(Failure),
}

/// The errors that a stage process meets.
#[derive(Debug, Serialize, Deserialize)]
pub enum Failure {
    /// See [`ExecError::Setup`].
    Setup { step: String, errno: i32, hint: Option<String> },
    /// See [`ExecError::Command`].
    Command { program: String, problem: CommandProblem },
    /// See [`ExecError::ForeignId`].
    ForeignId { kind: IdKind, id: u32, mapped: String },
    /// See [`ExecError::Request`].
    Request(String),
}

impl Failure {
    /// A failed step.
    pub fn setup(step: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let errno = error.into().raw_os_error().unwrap_or(libc::EIO);
        Self::Setup { step: step.into(), errno, hint: None }
    }
}

impl From<Failure> for ExecError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Setup { step, errno, hint } => {
                Self::Setup { step, source: io::Error::from_raw_os_error(errno), hint }
            }
            Failure::Command { program, problem } => Self::Command { program, problem },
            Failure::ForeignId { kind, id, mapped } => Self::ForeignId { kind, id, mapped },
            Failure::Request(problem) => Self::Request(problem),
        }
    }
}

/// One end of the conversation.
pub struct Channel(std::fs::File);

impl Channel {
    /// Over a connected stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket.into())
    }

    /// Sends a message.
    pub fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len()).map_err(|_| io::Error::other("the message is too long"))?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(&body)
    }

    /// Waits for the request.
    pub fn receive_start(&mut self) -> io::Result<Start> {
        self.receive(REQUEST_LIMIT_BYTES)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn receive<T: DeserializeOwned>(&mut self, limit: u32) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = u32::from_le_bytes(length);
        if length > limit {
            return Err(io::Error::other("the message is too long"));
        }
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body)?;
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Collects the bytes of reports as they come, and cuts them into messages.
#[derive(Default)]
pub struct Reports {
    bytes: Vec<u8>,
}

impl Reports {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > REPORT_LIMIT_BYTES as usize {
            return Err(io::Error::other("the stage process says too much"));
        }
        Ok(())
    }

    /// The next whole message.
    pub fn next(&mut self) -> io::Result<Option<Report>> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > REPORT_LIMIT_BYTES as usize {
            return Err(io::Error::other("the stage process says too much"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let report = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_that_arrive_in_pieces_are_put_together() {
        let mut bytes = Vec::new();
        for exit in [Exit::Code(3), Exit::Signal(9)] {
            let body = serde_json::to_vec(&Report::Ended { exit, leave_out: vec![b"etc/\xff".to_vec()] }).unwrap();
            bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&body);
        }
        let mut reports = Reports::default();
        let mut seen = Vec::new();
        for byte in bytes {
            reports.push(&[byte]).unwrap();
            while let Some(Report::Ended { exit, leave_out }) = reports.next().unwrap() {
                assert_eq!(leave_out, [b"etc/\xff"]);
                seen.push(exit);
            }
        }
        assert_eq!(seen, [Exit::Code(3), Exit::Signal(9)]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_kept() {
        let mut reports = Reports::default();
        reports.push(&u32::MAX.to_le_bytes()).unwrap();
        assert!(reports.next().is_err());
    }
}
