//! What runs, and what came of the rest: the one model that the views and the summary show.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cofferdam_engine::{Digest, Ending, Event, Kind, Transfer, Vertex};

use super::{lines::Tail, text::clean};

/// A build so far.
#[derive(Debug)]
pub struct Board {
    begun: Instant,
    units: Vec<Unit>,
    places: BTreeMap<Vertex, usize>,
}

/// A unit of work.
#[derive(Debug)]
pub struct Unit {
    /// Its number.
    pub vertex: Vertex,
    /// What it is.
    pub kind: Kind,
    /// For people, cleaned.
    pub name: String,
    /// How it ended, and how long it took.
    pub ended: Option<(Ending, Duration)>,
    /// The size of the layer that it made or that the cache had, in bytes.
    pub layer_bytes: Option<u64>,
    /// The layer that is being unpacked for its command.
    pub unpacking: Option<(Digest, Moving)>,
    /// The layer that is being written.
    pub writing: Option<Moving>,
    /// Blobs that move now, the oldest first.
    pub moving: Vec<(Digest, Moving)>,
    /// Blobs that arrived.
    pub moved: Moved,
    /// The end of what its command wrote.
    pub tail: Tail,
    begun: Instant,
    working: bool,
}

/// How far something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moving {
    /// Bytes so far.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Blobs that arrived, by the way they came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Sent.
    pub uploaded: Sum,
    /// Taken by the registry from another repository.
    pub mounted: Sum,
    /// In the repository before.
    pub present: Sum,
    /// Fetched.
    pub downloaded: Sum,
}

/// Blobs and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Sum {
    /// How many.
    pub layers: usize,
    /// All together.
    pub bytes: u64,
}

impl Board {
    /// A build that begins now.
    pub fn new(now: Instant) -> Self {
        Self { begun: now, units: Vec::new(), places: BTreeMap::new() }
    }

    /// Takes note of an event.
    pub fn apply(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Started { vertex, kind, name } => {
                self.places.insert(*vertex, self.units.len());
                self.units.push(Unit {
                    vertex: *vertex,
                    kind: *kind,
                    name: clean(name),
                    ended: None,
                    layer_bytes: None,
                    unpacking: None,
                    writing: None,
                    moving: Vec::new(),
                    moved: Moved::default(),
                    tail: Tail::default(),
                    begun: now,
                    working: *kind != Kind::Step,
                });
            }
            Event::Output { vertex, bytes, .. } => self.change(*vertex, |unit| {
                unit.unpacking = None;
                unit.tail.push(bytes);
            }),
            Event::Unpacking { vertex, digest, done_bytes, total_bytes } => self.change(*vertex, |unit| {
                let moving = Moving { done_bytes: *done_bytes, total_bytes: *total_bytes };
                unit.unpacking = (done_bytes < total_bytes).then_some((*digest, moving));
            }),
            Event::Writing { vertex, done_bytes, total_bytes } => self.change(*vertex, |unit| {
                unit.unpacking = None;
                unit.writing = Some(Moving { done_bytes: *done_bytes, total_bytes: *total_bytes });
            }),
            Event::Layer { vertex, size_bytes, .. } => self.change(*vertex, |unit| {
                unit.writing = None;
                unit.layer_bytes = Some(*size_bytes);
            }),
            Event::Progress { vertex, digest, done_bytes, total_bytes } => self.change(*vertex, |unit| {
                let moving = Moving { done_bytes: *done_bytes, total_bytes: *total_bytes };
                match unit.moving.iter_mut().find(|(known, _)| known == digest) {
                    Some((_, known)) => *known = moving,
                    None => unit.moving.push((*digest, moving)),
                }
            }),
            Event::Transferred { vertex, digest, size_bytes, transfer } => self.change(*vertex, |unit| {
                unit.moving.retain(|(known, _)| known != digest);
                unit.moved.add(*transfer, *size_bytes);
            }),
            Event::Finished { vertex, ending, elapsed } => self.change(*vertex, |unit| {
                unit.ended = Some((ending.clone(), *elapsed));
                (unit.unpacking, unit.writing) = (None, None);
                unit.moving.clear();
                if !matches!(ending, Ending::Failed(_)) {
                    unit.tail.clear();
                }
            }),
            Event::Working { vertex } => self.change(*vertex, |unit| {
                unit.working = true;
                unit.begun = now;
            }),
            Event::Note { .. } | Event::Warnings { .. } | Event::Warning { .. } => {}
        }
    }

    fn change(&mut self, vertex: Vertex, change: impl FnOnce(&mut Unit)) {
        if let Some(unit) = self.places.get(&vertex).and_then(|place| self.units.get_mut(*place)) {
            change(unit);
        }
    }

    /// In the order in which they began.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The unit of a number.
    pub fn unit(&self, vertex: Vertex) -> Option<&Unit> {
        self.units.get(*self.places.get(&vertex)?)
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().filter(|unit| unit.ended.is_none())
    }

    /// The one that failed, if one did.
    pub fn failed(&self) -> Option<&Unit> {
        self.units.iter().find(|unit| matches!(unit.ended, Some((Ending::Failed(_), _))))
    }

    /// How long the build takes so far.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// All that arrived.
    pub fn moved(&self) -> Moved {
        self.units.iter().fold(Moved::default(), |sum, unit| sum.plus(&unit.moved))
    }
}

impl Unit {
    /// How long it took, or takes so far.
    pub fn elapsed(&self, now: Instant) -> Duration {
        match &self.ended {
            Some((_, elapsed)) => *elapsed,
            None => now.saturating_duration_since(self.begun),
        }
    }

    /// Whether it waits for other stages, or looks into the cache.
    pub fn is_waiting(&self) -> bool {
        self.ended.is_none() && !self.working
    }

    /// Whether the cache had it.
    pub fn is_cached(&self) -> bool {
        matches!(self.ended, Some((Ending::Cached, _)))
    }
}

impl Moving {
    /// How much of `whole` corresponds to what is done.
    pub fn part_of(&self, whole: usize) -> usize {
        let part = u128::from(self.done_bytes) * whole as u128 / u128::from(self.total_bytes.max(1));
        usize::try_from(part).unwrap_or(whole).min(whole)
    }
}

impl Moved {
    fn add(&mut self, transfer: Transfer, bytes: u64) {
        let sum = match transfer {
            Transfer::Uploaded => &mut self.uploaded,
            Transfer::Mounted => &mut self.mounted,
            Transfer::Present => &mut self.present,
            Transfer::Downloaded => &mut self.downloaded,
        };
        *sum = sum.plus(Sum { layers: 1, bytes });
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            uploaded: self.uploaded.plus(other.uploaded),
            mounted: self.mounted.plus(other.mounted),
            present: self.present.plus(other.present),
            downloaded: self.downloaded.plus(other.downloaded),
        }
    }
}

impl Sum {
    fn plus(self, other: Self) -> Self {
        Self { layers: self.layers + other.layers, bytes: self.bytes.saturating_add(other.bytes) }
    }
}
