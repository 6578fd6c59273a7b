//! Standard output, which is for data. It may be closed early (`| head`), or full.

use std::io::{self, ErrorKind, Write};

use crate::{exit::Exit, explain};

/// Writes data. A reader that has gone away has had enough; anything else that goes wrong fails the command.
pub fn say(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            explain::failed(&format!("can't write the result to standard output: {error}"))
        }
        _ => Exit::Success,
    }
}
