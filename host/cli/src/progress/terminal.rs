//! What the view for terminals is drawn on.

use std::io::Write;

use super::frame::Size;

/// A terminal.
pub trait Terminal: Send + 'static {
    /// Its size now.
    fn size(&self) -> Size;
    /// Writes everything at once. One that has gone away is no error: the build goes on.
    fn write(&mut self, text: &str);
}

/// Standard error as a terminal.
pub struct StandardError;

/// What a terminal that does not know its own size is taken for.
pub const USUAL: Size = Size { columns: 80, rows: 24 };

impl Terminal for StandardError {
    fn size(&self) -> Size {
        match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
            Ok(size) => {
                let known = |number: u16, usual| if number == 0 { usual } else { usize::from(number) };
                Size { columns: known(size.ws_col, USUAL.columns), rows: known(size.ws_row, USUAL.rows) }
            }
            Err(_) => USUAL,
        }
    }

    fn write(&mut self, text: &str) {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes());
    }
}
