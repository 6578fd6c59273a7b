//! A run of entries in a few KiB: sorted, and each path without what it shares with the one before.
//!
//! A record is three lengths (shared bytes, other bytes of the path, bytes of the entry), the rest of the path, and the
//! entry. What two neighbours share is always all that they have in common, so that a search compares each byte once: a
//! record that shares more with its neighbour than the neighbour has in common with the path is on the same side of it.

use std::cmp::Ordering;

use super::record::{Input, put_number};
use crate::path::order;

/// The first record shares nothing.
#[derive(Clone, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    len: usize,
}

struct Record<'b> {
    shared: usize,
    rest: &'b [u8],
    entry: &'b [u8],
    /// Where the next one begins.
    end: usize,
}

/// Where a path is in a block, or would be.
pub(super) struct Place {
    at: usize,
    is_here: bool,
    /// Bytes that the path has in common with the one before.
    common_before: usize,
    /// Bytes that it has in common with the one that is there.
    common_after: usize,
}

impl Block {
    /// Checks bytes that [`Block::as_bytes`] gave, and hands each record to `check`: its path and its entry.
    pub(super) fn from_bytes(bytes: Vec<u8>, mut check: impl FnMut(&[u8], &[u8]) -> bool) -> Option<Self> {
        let (mut path, mut at, mut len) = (Vec::new(), 0, 0);
        while at < bytes.len() {
            let record = parse(&bytes, at)?;
            let ordered = match (len, path.get(record.shared), record.rest.first()) {
                (0, ..) => record.shared == 0,
                (_, None, after) => record.shared == path.len() && after.is_some(),
                (_, Some(before), after) => after.is_some_and(|after| rank(*before) < rank(*after)),
            };
            if !ordered {
                return None;
            }
            path.truncate(record.shared);
            path.extend_from_slice(record.rest);
            if !check(&path, record.entry) {
                return None;
            }
            (at, len) = (record.end, len + 1);
        }
        Some(Self { bytes, len })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of records.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn find(&self, path: &[u8]) -> Place {
        let (mut at, mut common) = (0, 0);
        while let Some(record) = self.record(at) {
            let place = |is_here, common_after| Place { at, is_here, common_before: common, common_after };
            match record.shared.cmp(&common) {
                Ordering::Greater => {}
                Ordering::Less => return place(false, record.shared),
                Ordering::Equal => {
                    let rest = &path[common..];
                    let equal = common_bytes(record.rest, rest);
                    match order(record.rest, rest) {
                        Ordering::Less => common += equal,
                        Ordering::Equal => return place(true, common + equal),
                        Ordering::Greater => return place(false, common + equal),
                    }
                }
            }
            at = record.end;
        }
        Place { at, is_here: false, common_before: common, common_after: 0 }
    }

    /// The entry at a place.
    pub(super) fn get(&self, place: &Place) -> Option<&[u8]> {
        place.is_here.then(|| self.record(place.at)).flatten().map(|record| record.entry)
    }

    /// Puts an entry at the place that [`Block::find`] gave for the path.
    pub(super) fn put(&mut self, place: &Place, path: &[u8], entry: &[u8]) {
        let mut new = Vec::with_capacity(entry.len() + path.len() + 8);
        put_record(&mut new, place.common_before, &path[place.common_before..], entry);
        let end = match self.record(place.at) {
            None => place.at,
            Some(old) if place.is_here => old.end,
            Some(after) => {
                let rest = &after.rest[place.common_after - after.shared..];
                put_record(&mut new, place.common_after, rest, after.entry);
                after.end
            }
        };
        self.len += usize::from(!place.is_here);
        // In steps, where a vector would grow to twice its size: most blocks stay as they are.
        let growth = new.len().saturating_sub(end - place.at);
        if self.bytes.capacity() - self.bytes.len() < growth {
            self.bytes.reserve_exact(growth + 256);
        }
        self.bytes.splice(place.at..end, new);
    }

    /// Removes the entry at a place, if it is there.
    pub(super) fn remove(&mut self, place: &Place) {
        let Some(old) = self.record(place.at).filter(|_| place.is_here) else { return };
        let mut new = Vec::new();
        let mut end = old.end;
        if let Some(after) = self.record(old.end) {
            let shared = after.shared.min(old.shared);
            let rest = [&old.rest[..after.shared - shared], after.rest].concat();
            put_record(&mut new, shared, &rest, after.entry);
            end = after.end;
        }
        self.bytes.splice(place.at..end, new);
        self.len -= 1;
    }

    /// Cuts the second half off; its first path comes with it.
    pub(super) fn split(&mut self) -> Option<(Vec<u8>, Self)> {
        let mut cursor = self.cursor();
        for _ in 0..self.len / 2 {
            cursor.next()?;
        }
        let at = cursor.at;
        let (path, entry) = cursor.next()?;
        let path = path.to_vec();
        let mut bytes = Vec::with_capacity(path.len() + self.bytes.len() - at);
        put_record(&mut bytes, 0, &path, entry);
        bytes.extend_from_slice(&self.bytes[self.record(at)?.end..]);
        let half = Self { bytes, len: self.len - self.len / 2 };
        self.bytes.truncate(at);
        self.bytes.shrink_to_fit();
        self.len /= 2;
        Some((path, half))
    }

    /// No more is coming.
    pub(super) fn close(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Everything from the start.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { block: self, at: 0, path: Vec::new() }
    }

    /// Everything from a place on, or what comes after it; `path` is the one that was looked for.
    pub(super) fn cursor_at(&self, place: &Place, path: &[u8], after: bool) -> Cursor<'_> {
        let mut cursor = Cursor { block: self, at: place.at, path: path[..place.common_before].to_vec() };
        if after && place.is_here {
            cursor.next();
        }
        cursor
    }

    fn record(&self, at: usize) -> Option<Record<'_>> {
        parse(&self.bytes, at)
    }
}

/// Goes through a block.
pub(super) struct Cursor<'b> {
    block: &'b Block,
    at: usize,
    path: Vec<u8>,
}

impl<'b> Cursor<'b> {
    /// The next path with its entry.
    pub(super) fn next(&mut self) -> Option<(&[u8], &'b [u8])> {
        let record = self.block.record(self.at)?;
        self.path.truncate(record.shared);
        self.path.extend_from_slice(record.rest);
        self.at = record.end;
        Some((&self.path, record.entry))
    }
}

fn parse(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let mut input = Input(bytes.get(at..)?);
    let (shared, rest, entry) = (input.length()?, input.length()?, input.length()?);
    let (rest, entry) = (input.take(rest)?, input.take(entry)?);
    Some(Record { shared, rest, entry, end: bytes.len() - input.0.len() })
}

fn put_record(out: &mut Vec<u8>, shared: usize, rest: &[u8], entry: &[u8]) {
    for length in [shared, rest.len(), entry.len()] {
        put_number(out, length as u64);
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(entry);
}

fn common_bytes(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

fn rank(byte: u8) -> u16 {
    if byte == b'/' { 0 } else { u16::from(byte) + 1 }
}
