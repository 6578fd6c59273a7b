//! What the program says: data on standard output, which may be closed early (`| head`) or full, and talk on standard error.

use std::io::{self, ErrorKind, Write};

use crate::{exit::Exit, explain, progress::clean_line};

/// Says something to a person, on standard error. Whatever strangers have put into it (a registry's answer, a plugin's
/// message) steers neither a terminal nor a continuous integration system.
pub fn tell(text: &str) {
    let lines: String = text.lines().map(|line| clean_line(line) + "\n").collect();
    // Nobody may be there to read it; what the program does counts.
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

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
