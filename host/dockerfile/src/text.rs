//! A text joined from several places of the file, and the way back to those places.

use std::ops::Range;

use serde::Serialize;

use crate::{Position, Span};

/// Text with the place of each of its bytes: continuation lines are joined, comments between them are gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Text {
    text: String,
    /// Sorted by offset; the first is at 0 unless the text is empty.
    pieces: Vec<Piece>,
}

/// From `offset` on, the text stands contiguously at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Piece {
    offset: usize,
    at: Position,
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends text that stands at `at` on one line of the file.
    pub(crate) fn push(&mut self, text: &str, at: Position) {
        self.pieces.push(Piece { offset: self.text.len(), at });
        self.text.push_str(text);
    }

    /// The place of the byte at `offset`; for the end of the text, the place after its last byte.
    pub fn position(&self, offset: usize) -> Position {
        if offset > 0 && offset >= self.text.len() {
            return self.after(self.text.len() - 1);
        }
        let index = self.pieces.partition_point(|piece| piece.offset <= offset);
        match index.checked_sub(1).map(|index| self.pieces[index]) {
            Some(Piece { offset: start, at }) => Position { column: at.column + (offset - start) as u32, ..at },
            None => self.pieces.first().map_or(Position { line: 1, column: 1 }, |piece| piece.at),
        }
    }

    /// The place of a range of bytes. A range that was joined from several lines covers all of them.
    pub fn span(&self, range: Range<usize>) -> Span {
        let start = self.position(range.start);
        let end = if range.end > range.start { self.after(range.end - 1) } else { start };
        Span { start, end }
    }

    /// The place of the whole text.
    pub fn whole(&self) -> Span {
        self.span(0..self.text.len())
    }

    /// A part of the text that still knows its places.
    pub(crate) fn slice(&self, range: Range<usize>) -> Text {
        let mut pieces = vec![Piece { offset: 0, at: self.position(range.start) }];
        let inside = self.pieces.iter().filter(|piece| piece.offset > range.start && piece.offset < range.end);
        pieces.extend(inside.map(|piece| Piece { offset: piece.offset - range.start, at: piece.at }));
        Text { text: self.text[range].to_owned(), pieces }
    }

    fn after(&self, offset: usize) -> Position {
        let index = self.pieces.partition_point(|piece| piece.offset <= offset);
        let piece = self.pieces[index.saturating_sub(1)];
        Position { column: piece.at.column + (offset - piece.offset) as u32 + 1, ..piece.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    fn joined() -> Text {
        let mut text = Text::default();
        text.push("abc ", at(3, 5));
        text.push("def", at(5, 1));
        text
    }

    #[test]
    fn offsets_lead_back_to_the_line_that_they_came_from() {
        let text = joined();
        assert_eq!(text.position(0), at(3, 5));
        assert_eq!(text.position(3), at(3, 8));
        assert_eq!(text.position(4), at(5, 1));
        assert_eq!(text.position(7), at(5, 4));
    }

    #[test]
    fn a_range_ends_on_the_line_of_its_last_byte() {
        let text = joined();
        assert_eq!(text.span(0..4), Span { start: at(3, 5), end: at(3, 9) });
        assert_eq!(text.span(2..5), Span { start: at(3, 7), end: at(5, 2) });
    }

    #[test]
    fn a_slice_keeps_its_places() {
        let slice = joined().slice(2..6);
        assert_eq!(slice.as_str(), "c de");
        assert_eq!(slice.position(0), at(3, 7));
        assert_eq!(slice.position(2), at(5, 1));
    }
}
