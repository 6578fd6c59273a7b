//! The part of a terminal that is drawn again and again, below lines that stay.
//!
//! Nothing outlasts a frame: each hides the cursor, draws over the last one line by line, and shows the cursor again below, in
//! one write. So a build that is killed leaves a terminal that works.

use super::frame::{Line, Size, Style};

/// Begin: as one update (ignored where unknown), cursor hidden, no wrapping if the terminal takes a character for wider than
/// we do.
const BEGIN: &str = "\x1b[?2026h\x1b[?25l\x1b[?7l\r";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?2026l";

/// What was drawn last.
#[derive(Debug)]
pub struct Screen {
    colours: bool,
    /// The columns of its lines.
    drawn: Vec<usize>,
    last: String,
}

impl Screen {
    /// Nothing is drawn.
    pub fn new(colours: bool) -> Self {
        Self { colours, drawn: Vec::new(), last: String::new() }
    }

    /// What to write to show these lines instead of the last ones, and `above` for good above them; `None` if it is there.
    pub fn draw(&mut self, above: &[String], lines: &[Line], size: Size) -> Option<String> {
        let mut text = String::new();
        above.iter().for_each(|line| text.extend([line.as_str(), "\x1b[K\r\n"]));
        for line in lines {
            let colour = self.colours.then(|| sgr(line.style)).filter(|sgr| !sgr.is_empty());
            match colour {
                Some(sgr) => text.extend(["\x1b[", sgr, "m", &line.text, "\x1b[m"]),
                None => text.push_str(&line.text),
            }
            text.push_str("\x1b[K\r\n");
        }
        let columns: Vec<usize> = lines.iter().map(|line| super::text::columns(&line.text)).collect();
        if above.is_empty() && text == self.last && columns == self.drawn {
            return None;
        }
        let whole = format!("{BEGIN}{}{text}\x1b[J{END}", self.up(size));
        self.drawn = columns;
        self.last = if above.is_empty() { text } else { String::new() };
        Some(whole)
    }

    /// What to write to remove what is drawn.
    pub fn erase(&mut self, size: Size) -> String {
        if self.drawn.is_empty() {
            return String::new();
        }
        // Line by line: tmux keeps what is removed by one sequence from the top of the screen among the lines that scrolled
        // away. Down without a newline, which would scroll.
        let lines = "\x1b[2K\x1b[B".repeat(self.rows(size));
        let whole = format!("{BEGIN}{up}{lines}\x1b[2K{up}{END}", up = self.up(size));
        self.forget();
        whole
    }

    /// Somebody else wrote to the terminal meanwhile: what is drawn stays where it is.
    pub fn forget(&mut self) {
        self.drawn.clear();
        self.last.clear();
    }

    /// How high the last frame is. A terminal that was made narrower has wrapped its lines.
    fn rows(&self, size: Size) -> usize {
        let width = size.columns.max(1);
        self.drawn.iter().map(|columns| columns.div_ceil(width).max(1)).sum()
    }

    /// From below the last frame to its first line.
    fn up(&self, size: Size) -> String {
        match self.rows(size) {
            0 => String::new(),
            rows => format!("\x1b[{rows}A"),
        }
    }
}

fn sgr(style: Style) -> &'static str {
    match style {
        Style::Title => "1",
        Style::Running => "",
        Style::Detail => "2",
        Style::Done => "36",
        Style::Failed => "1;31",
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::progress::frame::{frame, tests::board};
    use std::time::{Duration, Instant};

    const SIZE: Size = Size { columns: 80, rows: 24 };

    fn plain(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line { text: (*text).to_owned(), style: Style::Running }).collect()
    }

    /// An emulator as the judge of what is seen.
    pub fn terminal(size: Size) -> vt100::Parser {
        let number = |number: usize| u16::try_from(number).unwrap().try_into().unwrap();
        vt100::Parser::new(number(size.rows), number(size.columns), 1000)
    }

    fn shown(terminal: &vt100::Parser) -> Vec<String> {
        let text = terminal.screen().contents();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_frame_is_drawn_over_the_last_one() {
        let (mut screen, mut terminal) = (Screen::new(true), terminal(SIZE));
        terminal.process(b"$ cofferdam build .\r\n");
        for lines in [&["one", "two", "three"][..], &["1", "2", "3", "4"], &["last"]] {
            terminal.process(screen.draw(&[], &plain(lines), SIZE).unwrap().as_bytes());
            assert_eq!(shown(&terminal), [&["$ cofferdam build ."], lines].concat());
        }
        terminal.process(screen.draw(&["warning: x".to_owned()], &plain(&["below"]), SIZE).unwrap().as_bytes());
        assert_eq!(shown(&terminal), ["$ cofferdam build .", "warning: x", "below"]);
        terminal.process(screen.erase(SIZE).as_bytes());
        assert_eq!(shown(&terminal), ["$ cofferdam build .", "warning: x"]);
        assert_eq!(terminal.screen().cursor_position(), (2, 0));
        assert_eq!(screen.erase(SIZE), "", "nothing is left to be removed");
    }

    #[test]
    fn the_same_frame_is_not_written_again() {
        let mut screen = Screen::new(false);
        let lines = plain(&["x"]);
        assert!(screen.draw(&[], &lines, SIZE).is_some());
        assert_eq!(screen.draw(&[], &lines, SIZE), None);
        assert!(screen.draw(&["above".to_owned()], &lines, SIZE).is_some());
        assert!(screen.draw(&[], &plain(&["y"]), SIZE).is_some());
    }

    #[test]
    fn the_cursor_is_seen_after_every_frame_and_lines_wrap_again() {
        let (mut screen, mut terminal) = (Screen::new(true), terminal(SIZE));
        terminal.process(screen.draw(&[], &plain(&["x"]), SIZE).unwrap().as_bytes());
        assert!(!terminal.screen().hide_cursor());
        assert!(END.contains("\x1b[?7h"));
    }

    #[test]
    fn real_frames_at_the_bottom_of_a_small_terminal_scroll_nothing() {
        for size in [SIZE, Size { columns: 40, rows: 10 }, Size { columns: 20, rows: 4 }] {
            let (mut screen, mut terminal) = (Screen::new(true), terminal(size));
            (0..size.rows).for_each(|row| terminal.process(format!("before {row}\r\n").as_bytes()));
            let begun = Instant::now();
            for tenths in 0..50 {
                let lines = frame(&board(begun), size, begun + Duration::from_millis(100 * tenths));
                terminal.process(screen.draw(&[], &lines, size).unwrap_or_default().as_bytes());
                let expected: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
                let seen = shown(&terminal);
                assert_eq!(seen[seen.len() - expected.len()..], expected);
            }
            terminal.process(screen.erase(size).as_bytes());
            assert!(shown(&terminal).iter().all(|line| line.starts_with("before ")), "{:#?}", shown(&terminal));
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        let lines = plain(&["x"]);
        let line = |style| vec![Line { style, ..lines[0].clone() }];
        for style in [Style::Title, Style::Detail, Style::Done, Style::Failed] {
            let text = Screen::new(false).draw(&[], &line(style), SIZE).unwrap();
            assert!(
                !text
                    .split("\x1b[")
                    .any(|part| part.trim_start_matches(|c: char| c == ';' || c.is_ascii_digit()).starts_with('m')),
                "{text:?}"
            );
            assert!(Screen::new(true).draw(&[], &line(style), SIZE).unwrap().contains("\x1b[m"));
        }
    }

    #[test]
    fn a_narrower_terminal_has_wrapped_what_was_drawn() {
        let mut screen = Screen::new(false);
        screen.draw(&[], &plain(&["x", &"y".repeat(79), ""]), SIZE);
        let text = screen.draw(&[], &plain(&["z"]), Size { columns: 40, rows: 24 }).unwrap();
        assert!(text.contains("\x1b[4A"), "{text:?}");
    }
}
