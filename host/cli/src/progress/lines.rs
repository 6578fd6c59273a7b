//! Lines out of pieces: what a command wrote arrives cut anywhere.

use std::collections::VecDeque;

/// The longest line that waits for its end, in bytes; the rest of it becomes a line of its own.
const LINE_LIMIT_BYTES: usize = 16 << 10;

/// What was written after the last newline.
#[derive(Debug, Default)]
pub struct LineBuffer {
    held: Vec<u8>,
}

impl LineBuffer {
    /// Takes a piece, and hands every line that it completes to `line`, without the newline.
    pub fn push(&mut self, piece: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            match self.held.is_empty() {
                true => complete(&rest[..end], &mut line),
                false => {
                    self.held.extend_from_slice(&rest[..end]);
                    complete(&self.held, &mut line);
                    self.held.clear();
                }
            }
            rest = &rest[end + 1..];
        }
        self.held.extend_from_slice(rest);
        self.held.drain(..last_state(&self.held));
        while self.held.len() > LINE_LIMIT_BYTES {
            let cut = character_start(&self.held, LINE_LIMIT_BYTES);
            line(&self.held[..cut]);
            self.held.drain(..cut);
        }
    }

    /// What has no newline yet.
    pub fn rest(&self) -> &[u8] {
        &self.held
    }

    /// What had no newline when the command ended.
    pub fn take_rest(&mut self) -> Option<Vec<u8>> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held))
    }
}

/// Hands on a whole line, in pieces if it is too long.
fn complete(whole: &[u8], line: &mut impl FnMut(&[u8])) {
    let mut rest = &whole[last_state(whole)..];
    while rest.len() > LINE_LIMIT_BYTES {
        let cut = character_start(rest, LINE_LIMIT_BYTES);
        line(&rest[..cut]);
        rest = &rest[cut..];
    }
    line(rest);
}

/// Where the last state begins of a line that overwrites itself: only that will be shown.
fn last_state(line: &[u8]) -> usize {
    let overwritten = line.len().saturating_sub(1);
    line[..overwritten].iter().rposition(|byte| *byte == b'\r').map_or(0, |end| end + 1)
}

/// The last place up to `at` that is not inside a UTF-8 character.
fn character_start(bytes: &[u8], at: usize) -> usize {
    let is_inside = |place: usize| bytes[place] & 0b1100_0000 == 0b1000_0000;
    (at.saturating_sub(3)..=at).rev().find(|place| !is_inside(*place)).unwrap_or(at)
}

/// The last lines that a command wrote.
#[derive(Debug, Default)]
pub struct Tail {
    buffer: LineBuffer,
    lines: VecDeque<Vec<u8>>,
}

impl Tail {
    /// As many as a person looks at after a failure.
    pub const LINES: usize = 20;

    /// Takes a piece of output.
    pub fn push(&mut self, piece: &[u8]) {
        let lines = &mut self.lines;
        self.buffer.push(piece, |line| {
            let mut kept = if lines.len() == Self::LINES { lines.pop_front().unwrap_or_default() } else { Vec::new() };
            kept.clear();
            kept.extend_from_slice(line);
            lines.push_back(kept);
        });
    }

    /// Up to `count` last lines, the one without an end included, the oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let rest = Some(self.buffer.rest()).filter(|rest| !rest.is_empty());
        let lines = self.lines.len() + usize::from(rest.is_some());
        self.lines.iter().map(Vec::as_slice).chain(rest).skip(lines.saturating_sub(count))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, LineBuffer) {
        let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
        for piece in pieces {
            buffer.push(piece, |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        (lines, buffer)
    }

    #[test]
    fn lines_end_at_newlines_wherever_pieces_end() {
        let (lines, mut buffer) = lines(&[b"one\ntw", b"o\n\nthr", b"ee"]);
        assert_eq!(lines, ["one", "two", ""]);
        assert_eq!(buffer.take_rest(), Some(b"three".to_vec()));
        assert_eq!(buffer.take_rest(), None);
    }

    #[test]
    fn a_huge_line_is_cut_between_characters() {
        let huge = "ä".repeat(LINE_LIMIT_BYTES) + "\nend\n";
        let (lines, _) = lines(&[b"x", huge.as_bytes()]);
        assert_eq!(lines.last().map(String::as_str), Some("end"));
        assert!(lines.iter().all(|line| !line.contains('\u{fffd}')));
        let piece = vec![b'x'; LINE_LIMIT_BYTES * 2 - 1];
        let (cut, _) = super::tests::lines(&[&piece, &piece, b"\n", &[&piece, &b"\n"[..]].concat()]);
        assert!(cut.iter().all(|line| line.len() <= LINE_LIMIT_BYTES), "wherever its newline comes");
        let (lines, buffer) = super::tests::lines(&[&vec![b'x'; LINE_LIMIT_BYTES * 3 + 5]]);
        assert_eq!((lines.len(), buffer.rest().len()), (3, 5));
    }

    #[test]
    fn a_progress_bar_of_hours_takes_no_memory() {
        let mut buffer = LineBuffer::default();
        for number in 0..100_000 {
            buffer.push(format!("\r{number} %").as_bytes(), |line| panic!("no line ended: {line:?}"));
        }
        assert_eq!(buffer.rest(), b"99999 %");
    }

    #[test]
    fn the_tail_holds_the_last_lines_and_the_one_being_written() {
        let mut tail = Tail::default();
        (0..100).for_each(|number| tail.push(format!("{number}\n").as_bytes()));
        tail.push(b"last");
        assert_eq!(tail.last(3).collect::<Vec<_>>(), [&b"98"[..], b"99", b"last"]);
        assert_eq!(tail.last(1000).count(), Tail::LINES + 1);
    }
}
