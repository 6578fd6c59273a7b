//! A program at a terminal: `script` (util-linux) gives it one, and an emulator says what is seen there.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{Program, run, tool};

/// A terminal with a program that runs in it; the program ends with the handle.
pub struct Terminal {
    process: Child,
    keyboard: Option<ChildStdin>,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
    device: PathBuf,
    process_id: PathBuf,
    _directory: tempfile::TempDir,
}

struct Seen {
    raw: Vec<u8>,
    emulator: vt100::Parser,
}

/// What is there after the program's end.
pub struct Ended {
    /// The exit code; 128 and the signal's number for a signal.
    pub code: i32,
    /// The lines of the screen.
    pub screen: Vec<String>,
    /// Whether the cursor is not to be seen.
    pub is_cursor_hidden: bool,
    /// Everything that was written.
    pub raw: String,
}

impl Terminal {
    /// Starts the program in a terminal of this size. `None` (reported as a skip) where there is no `script`.
    pub fn start(program: Program, columns: u16, rows: u16) -> Option<Self> {
        let script = tool("script")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let command = program.into_command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
        let (device, process_id) = (directory.path().join("device"), directory.path().join("process"));
        let text = format!(
            "tty > {}; echo $$ > {}; stty rows {rows} cols {columns}; exec {}",
            quoted(&device.to_string_lossy()),
            quoted(&process_id.to_string_lossy()),
            words.join(" ")
        );
        let mut starter = Command::new(script);
        starter.args(["--quiet", "--return", "--command", &text, "/dev/null"]).env_clear();
        starter.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        starter.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(place) = command.get_current_dir() {
            starter.current_dir(place);
        }
        let mut process =
            starter.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("script starts");
        let emulator = vt100::Parser::new(size(rows), size(columns), 1000);
        let seen = Arc::new(Mutex::new(Seen { raw: Vec::new(), emulator }));
        let mut from = process.stdout.take().expect("piped");
        let to = seen.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mut seen = to.lock().unwrap_or_else(PoisonError::into_inner);
                seen.raw.extend_from_slice(&buffer[..count]);
                seen.emulator.process(&buffer[..count]);
            }
        });
        let keyboard = process.stdin.take();
        Some(Self { process, keyboard, seen, reader: Some(reader), device, process_id, _directory: directory })
    }

    /// Everything that was written so far.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(PoisonError::into_inner).raw).into_owned()
    }

    /// The lines of the screen.
    pub fn screen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.emulator.screen().contents().lines().map(str::to_owned).collect()
    }

    /// Waits until a text is seen.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let begun = Instant::now();
        while !self.screen().iter().any(|line| line.contains(text)) {
            assert!(begun.elapsed() < Duration::from_secs(30), "no `{text}` in {:#?}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &[u8]) {
        let keyboard = self.keyboard.as_mut().expect("not ended");
        keyboard.write_all(keys).and_then(|()| keyboard.flush()).expect("script reads");
    }

    /// Sends the program a signal.
    pub fn signal(&self, name: &str) {
        let number = std::fs::read_to_string(&self.process_id).expect("written before the program starts");
        run(Command::new("kill").args([&format!("-{name}"), number.trim()])).success();
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let device = std::fs::read_to_string(&self.device).expect("written before the program starts");
        let (columns_text, rows_text) = (columns.to_string(), rows.to_string());
        let mut stty = Command::new("stty");
        run(stty.args(["-F", device.trim(), "rows", &rows_text, "cols", &columns_text])).success();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.emulator.screen_mut().set_size(size(rows), size(columns));
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("our child") {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end: {:#?}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        };
        self.reader.take().map(JoinHandle::join);
        let is_cursor_hidden = self.seen.lock().unwrap_or_else(PoisonError::into_inner).emulator.screen().hide_cursor();
        Ended {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            screen: self.screen(),
            is_cursor_hidden,
            raw: self.raw(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The hang-up of the terminal ends the program in it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn size(number: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(number).expect("a terminal has a size")
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
