//! The view of a person at a terminal: drawn ten times a second at most, by a thread that sleeps otherwise.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cofferdam_engine::{Event, Observer};

use super::{
    Outcome, View,
    board::Board,
    frame::frame,
    problem::Problem,
    screen::Screen,
    summary,
    terminal::Terminal,
    text::{clean, clean_line, fit},
};

/// Between two frames. The first one waits as long: a build that is over by then shows its summary alone.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Draws on a terminal.
pub struct TtyView<T> {
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<T> {
    state: Mutex<State>,
    wake: Condvar,
    /// Locked before `state`, never while `state` is held: a terminal may be slow, and events must not wait for it.
    canvas: Mutex<Canvas<T>>,
}

struct State {
    board: Board,
    /// Lines to be put above the frame.
    above: Vec<String>,
    /// Whether something changed since the last frame.
    changed: bool,
    /// Whether the thread waits for a change.
    idle: bool,
    ended: bool,
}

struct Canvas<T> {
    terminal: T,
    screen: Screen,
}

impl<T: Terminal> TtyView<T> {
    /// Draws nothing before something happens.
    pub fn new(terminal: T, colours: bool) -> Self {
        let board = Board::new(Instant::now());
        let state = State { board, above: Vec::new(), changed: false, idle: false, ended: false };
        let canvas = Canvas { terminal, screen: Screen::new(colours) };
        let shared = Shared { state: Mutex::new(state), wake: Condvar::new(), canvas: Mutex::new(canvas) };
        Self { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.shared.state();
        change(&mut state);
        state.changed = true;
        if state.idle {
            self.shared.wake.notify_all();
        }
        let ended = state.ended;
        drop(state);
        if !ended {
            self.start();
        }
    }

    fn start(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = self.shared.clone();
            // Without a thread there is no picture, but still a build.
            *thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || shared.draw()).ok();
        }
    }
}

impl<T: Terminal> Observer for TtyView<T> {
    fn event(&self, event: Event) {
        self.change(|state| {
            state.board.apply(&event, Instant::now());
            match event {
                Event::Warning { text } => state.above.push(format!("warning: {}", clean(&text))),
                Event::Warnings { file, diagnostics } => {
                    let lines = diagnostics.iter().flat_map(|finding| Problem::of(finding, &file).lines());
                    state.above.extend(lines);
                }
                _ => {}
            }
        });
    }
}

impl<T: Terminal> View for TtyView<T> {
    fn say(&self, text: &str) {
        self.change(|state| state.above.push(clean_line(text)));
    }

    fn finish(&self, outcome: Outcome) {
        let mut state = self.shared.state();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        self.shared.wake.notify_all();
        drop(state);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the drawing thread was told by itself.
            let _ = thread.join();
        }
        let mut canvas = self.shared.canvas();
        let Canvas { terminal, screen } = &mut *canvas;
        let size = terminal.size();
        let mut text = screen.erase(size);
        let mut state = self.shared.state();
        let mut lines = std::mem::take(&mut state.above);
        lines.extend(summary::lines(&state.board, outcome, Instant::now()));
        for line in lines {
            text.extend([fit(&line, size.columns.max(1)).as_str(), "\r\n"]);
        }
        terminal.write(&text);
    }

    fn leave(&self) {
        self.shared.state().ended = true;
        // Whoever holds it is stuck in a write to a terminal that takes nothing.
        if let Ok(mut canvas) = self.shared.canvas.try_lock() {
            let size = canvas.terminal.size();
            let text = canvas.screen.erase(size);
            canvas.terminal.write(&text);
        }
    }

    fn resume(&self) {
        if let Ok(mut canvas) = self.shared.canvas.try_lock() {
            canvas.screen.forget();
        }
        self.change(|_| ());
    }
}

impl<T: Terminal> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn canvas(&self) -> MutexGuard<'_, Canvas<T>> {
        self.canvas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self) {
        let mut next = Instant::now() + FRAME_INTERVAL;
        while self.wait(next) {
            let mut canvas = self.canvas();
            let Canvas { terminal, screen } = &mut *canvas;
            let size = terminal.size();
            let mut state = self.state();
            if state.ended {
                return;
            }
            state.changed = false;
            let above: Vec<String> =
                std::mem::take(&mut state.above).iter().map(|line| fit(line, size.columns.max(1))).collect();
            let lines = frame(&state.board, size, Instant::now());
            drop(state);
            if let Some(text) = screen.draw(&above, &lines, size) {
                terminal.write(&text);
            }
            next = Instant::now() + FRAME_INTERVAL;
        }
    }

    /// Waits until it is time for the next frame and there is something new: a change, or a clock of something that runs.
    /// `false` when the build is over.
    fn wait(&self, next: Instant) -> bool {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            if state.ended {
                return false;
            }
            let is_new = state.changed || state.board.running().next().is_some();
            state = if now < next {
                self.wake.wait_timeout(state, next - now).unwrap_or_else(PoisonError::into_inner).0
            } else if is_new {
                return true;
            } else {
                state.idle = true;
                let mut state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle = false;
                state
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{
        frame::Size,
        log::tests::{finished, output, started, working},
        screen::tests::terminal,
        terminal::USUAL,
    };
    use cofferdam_engine::{Ending, Kind};

    /// What is written reaches an emulator; the writes are counted.
    #[derive(Clone)]
    struct Emulator(Arc<Mutex<(vt100::Parser, usize)>>);

    impl Emulator {
        fn new() -> Self {
            Self(Arc::new(Mutex::new((terminal(USUAL), 0))))
        }

        fn contents(&self) -> String {
            self.0.lock().unwrap().0.screen().contents()
        }

        fn writes(&self) -> usize {
            self.0.lock().unwrap().1
        }
    }

    impl Terminal for Emulator {
        fn size(&self) -> Size {
            USUAL
        }

        fn write(&mut self, text: &str) {
            let mut inner = self.0.lock().unwrap();
            inner.0.process(text.as_bytes());
            inner.1 += usize::from(!text.is_empty());
        }
    }

    fn eventually(emulator: &Emulator, text: &str) {
        let begun = Instant::now();
        while !emulator.contents().contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(10), "no `{text}` in\n{}", emulator.contents());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_build_is_seen_while_it_runs_and_its_summary_remains() {
        let emulator = Emulator::new();
        let view = TtyView::new(emulator.clone(), true);
        view.event(started(1, Kind::Step, "[1/1] RUN make"));
        view.event(working(1));
        view.event(output(1, "\x1b[2J\x1b[1;1Hhostile\nlast"));
        eventually(&emulator, "    | last");
        view.say("stopping");
        eventually(&emulator, "stopping");
        view.event(finished(1, Ending::Done));
        view.finish(Outcome::Done);
        let lines: Vec<String> = emulator.contents().lines().map(str::to_owned).collect();
        assert_eq!(lines[..2], ["stopping", ""], "{lines:#?}");
        assert!(lines[2].starts_with("done in ") && lines[3].ends_with("[1/1] RUN make"), "{lines:#?}");
        assert_eq!(lines.len(), 4, "{lines:#?}");
    }

    #[test]
    fn a_build_that_is_over_at_once_writes_once() {
        let emulator = Emulator::new();
        let view = TtyView::new(emulator.clone(), true);
        for number in 1..100 {
            view.event(started(number, Kind::Step, "[1/1] RUN make"));
            view.event(finished(number, Ending::Cached));
        }
        view.finish(Outcome::Done);
        assert_eq!(emulator.writes(), 1);
    }

    #[test]
    fn much_output_makes_no_more_frames_and_none_when_nothing_runs() {
        let emulator = Emulator::new();
        let view = TtyView::new(emulator.clone(), true);
        view.event(started(1, Kind::Step, "[1/1] RUN yes"));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            view.event(output(1, &"y\n".repeat(1000)));
        }
        let frames = emulator.writes();
        assert!((1..=6).contains(&frames), "{frames} frames in half a second");
        view.event(finished(1, Ending::Done));
        std::thread::sleep(FRAME_INTERVAL * 3);
        let frames = emulator.writes();
        std::thread::sleep(FRAME_INTERVAL * 3);
        assert_eq!(emulator.writes(), frames, "nothing changed");
        view.leave();
        assert_eq!(emulator.contents().trim(), "");
    }
}
