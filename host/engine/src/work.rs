//! Units of work as whoever watches sees them: numbered, begun, talked about, ended.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::events::{Ending, Event, Kind, Observer, Stream, Vertex};

/// Between two events about the same moving bytes at least this passes: a person sees no more, and a transfer must not
/// spend its time on talk.
const METER_INTERVAL: Duration = Duration::from_millis(100);

/// Who watches, and the numbers that were given out. Clones number together.
#[derive(Clone)]
pub struct Talk {
    observer: Arc<dyn Observer>,
    last: Arc<AtomicU32>,
}

/// A unit of work that is shown. One that is dropped without an end was given up.
pub struct Work {
    talk: Talk,
    /// Its number.
    pub vertex: Vertex,
    begun: Mutex<Instant>,
    ended: bool,
}

/// Decides when moving bytes are worth an event.
pub struct Meter {
    begun: Instant,
    told_ms: AtomicU64,
}

impl Talk {
    /// To somebody who was told nothing yet.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, last: Arc::default() }
    }

    /// Begins a unit of work.
    pub fn begin(&self, kind: Kind, name: String) -> Work {
        let vertex = Vertex(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        self.event(Event::Started { vertex, kind, name });
        Work { talk: self.clone(), vertex, begun: Mutex::new(Instant::now()), ended: false }
    }

    /// Says something that belongs to no unit of work.
    pub fn warn(&self, text: String) {
        self.event(Event::Warning { text });
    }

    /// Passes an event on.
    pub fn event(&self, event: Event) {
        self.observer.event(event);
    }
}

impl Work {
    /// Ends it.
    pub fn end(self, ending: Ending) {
        let elapsed = self.elapsed();
        self.end_after(ending, elapsed);
    }

    /// Ends it, and says that it took this long: nothing happened since.
    pub fn end_after(mut self, ending: Ending, elapsed: Duration) {
        self.finish(ending, elapsed);
    }

    /// Since it began, or began to be carried out.
    pub fn elapsed(&self) -> Duration {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Says that the cache does not have it, and that it is carried out now. Its time counts from here: before, it may have
    /// waited for other stages.
    pub fn carry_out(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.talk.event(Event::Working { vertex: self.vertex });
    }

    /// Says something about it.
    pub fn note(&self, text: String) {
        self.talk.event(Event::Note { vertex: self.vertex, text });
    }

    /// Passes on what a command wrote.
    pub fn output(&self, stream: Stream, bytes: Vec<u8>) {
        self.talk.event(Event::Output { vertex: self.vertex, stream, bytes });
    }

    /// Passes an event about it on.
    pub fn event(&self, event: impl FnOnce(Vertex) -> Event) {
        self.talk.event(event(self.vertex));
    }

    fn finish(&mut self, ending: Ending, elapsed: Duration) {
        self.ended = true;
        self.talk.event(Event::Finished { vertex: self.vertex, ending, elapsed });
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.ended {
            let elapsed = self.elapsed();
            self.finish(Ending::Stopped, elapsed);
        }
    }
}

impl Meter {
    /// Begins now; what is over at once is not worth an event.
    pub fn new() -> Self {
        Self { begun: Instant::now(), told_ms: AtomicU64::new(0) }
    }

    /// Whether it is time to tell how far it came.
    pub fn is_due(&self) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let told = self.told_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(told) >= METER_INTERVAL.as_millis() as u64;
        due && self.told_ms.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether it was time at least once: whoever heard of a beginning is to hear of the end.
    pub fn was_due(&self) -> bool {
        self.told_ms.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<Event>>);

    impl Observer for Log {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[test]
    fn what_is_dropped_was_given_up_and_what_is_ended_ends_once() {
        let log = Arc::new(Log::default());
        let talk = Talk::new(log.clone());
        drop(talk.begin(Kind::Step, "one".to_owned()));
        talk.clone().begin(Kind::Push, "two".to_owned()).end(Ending::Done);
        let endings: Vec<(u32, Ending)> = (log.0.lock().unwrap().iter())
            .filter_map(|event| match event {
                Event::Finished { vertex, ending, .. } => Some((vertex.0, ending.clone())),
                _ => None,
            })
            .collect();
        assert_eq!(endings, [(1, Ending::Stopped), (2, Ending::Done)]);
    }

    #[test]
    fn a_meter_is_due_once_in_a_while() {
        let meter = Meter::new();
        assert!(!meter.is_due() && !meter.was_due(), "nothing has happened for long enough");
        let meter = Meter { begun: Instant::now().checked_sub(Duration::from_secs(1)).unwrap(), ..meter };
        assert!(meter.is_due());
        assert!(!meter.is_due() && meter.was_due(), "just told");
    }
}
