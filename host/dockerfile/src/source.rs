//! The file as a sequence of physical lines.

use std::borrow::Cow;

/// No Dockerfile is larger; what is, is refused before it is parsed.
pub const MAX_FILE_BYTES: usize = 16 << 20;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The file's bytes as text; bytes that are not UTF-8 become U+FFFD, and all columns count the text after that.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A physical line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub number: u32,
    /// With its line ending.
    pub raw: &'a str,
    /// Bytes of `raw` in front of the content: a byte order mark.
    skipped: usize,
}

impl<'a> Line<'a> {
    /// Without the line ending and a byte order mark.
    pub fn content(&self) -> &'a str {
        self.raw[self.skipped..].trim_end_matches(['\r', '\n'])
    }

    /// The column of the byte at `offset` of [`Line::content`].
    pub fn column(&self, offset: usize) -> u32 {
        (self.skipped + offset) as u32 + 1
    }

    /// Whether the first character that is not blank is a `#`.
    pub fn is_comment(&self) -> bool {
        self.content().trim_start().starts_with('#')
    }
}

/// Walks over the lines of a text. Copies are cheap, for looking ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    rest: &'a str,
    number: u32,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text, number: 0 }
    }

    /// The number of the line that was returned last; 0 at the start.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The number of the first line behind the current one that fits; nothing is consumed.
    pub fn find_ahead(&self, fits: impl Fn(&Line<'a>) -> bool) -> Option<u32> {
        let mut ahead = *self;
        ahead.find(fits).map(|line| line.number)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let length = self.rest.find('\n').map_or(self.rest.len(), |index| index + 1);
        let (raw, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.number += 1;
        let marked = self.number == 1 && raw.starts_with(BYTE_ORDER_MARK);
        Some(Line { number: self.number, raw, skipped: if marked { BYTE_ORDER_MARK.len() } else { 0 } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_order_mark_is_no_content_but_counts_for_columns() {
        let mut lines = Lines::new("\u{feff}FROM x\r\nRUN y");
        let first = lines.next().unwrap();
        assert_eq!((first.content(), first.column(0)), ("FROM x", 4));
        let second = lines.next().unwrap();
        assert_eq!((second.content(), second.column(0), second.number), ("RUN y", 1, 2));
        assert!(lines.next().is_none());
    }
}
