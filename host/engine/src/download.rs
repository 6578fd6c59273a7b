//! Fetching an image's layers, as one unit of work for whoever watches. Nothing is fetched before something needs it, so it
//! begins with the first layer's first byte, and ends with the last layer that was missing.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cofferdam_digest::Digest;
use cofferdam_image::{LayerBlob, Store};

use crate::{
    events::{Ending, Event, Kind, Transfer},
    work::{Meter, Talk, Work},
};

/// The layers of one image on their way into the store.
pub struct Download {
    talk: Talk,
    image: String,
    store: Store,
    layers: Vec<(Digest, u64)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    work: Option<Work>,
    missing: BTreeSet<Digest>,
    /// When the last layer had come, since the beginning.
    last: Duration,
}

impl Download {
    /// Nothing is fetched yet. `image` is its name for people; `layers` are digests and sizes in bytes.
    pub fn new(talk: Talk, image: String, store: Store, layers: Vec<(Digest, u64)>) -> Self {
        Self { talk, image, store, layers, state: Mutex::default() }
    }

    /// Watches a layer that is read from where the image is.
    pub fn watch<R: Read>(self: &Arc<Self>, blob: &LayerBlob, from: R) -> Watched<R> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.work.is_none() {
            let missing = self.layers.iter().filter(|(digest, size)| !self.store.has_blob(digest, Some(*size)));
            state.missing = missing.map(|(digest, _)| *digest).collect();
            state.work = Some(self.talk.begin(Kind::Pull, format!("pulling {}", self.image)));
        }
        drop(state);
        Watched { from, blob: *blob, done_bytes: 0, failed: false, meter: Meter::new(), download: self.clone() }
    }

    /// Ends it, if it was begun and still waits for layers that nothing needed.
    pub fn end(&self, ending: Ending) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let last = state.last;
        match (state.work.take(), ending) {
            // The layers that are missing were never asked for.
            (Some(work), Ending::Done) => work.end_after(Ending::Done, last),
            (Some(work), ending) => work.end(ending),
            (None, _) => {}
        }
    }

    fn tell(&self, event: impl FnOnce(&Work)) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = &state.work {
            event(work);
        }
    }

    fn arrived(&self, blob: &LayerBlob) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.missing.remove(&blob.digest);
        let Some(work) = &state.work else { return };
        work.event(|vertex| Event::Transferred {
            vertex,
            digest: blob.digest,
            size_bytes: blob.size,
            transfer: Transfer::Downloaded,
        });
        state.last = work.elapsed();
        if state.missing.is_empty()
            && let Some(work) = state.work.take()
        {
            work.end(Ending::Done);
        }
    }
}

/// Tells how far reading came.
pub struct Watched<R> {
    from: R,
    blob: LayerBlob,
    done_bytes: u64,
    failed: bool,
    meter: Meter,
    download: Arc<Download>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer);
        match &read {
            Ok(count) => self.done_bytes += *count as u64,
            Err(error) => self.failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        if self.meter.is_due() {
            let (digest, done_bytes, total_bytes) = (self.blob.digest, self.done_bytes, self.blob.size);
            self.download.tell(|work| work.event(|vertex| Event::Progress { vertex, digest, done_bytes, total_bytes }));
        }
        read
    }
}

impl<R> Drop for Watched<R> {
    fn drop(&mut self) {
        // Whoever reads less than everything, or was told that the bytes are wrong, has no layer.
        if self.done_bytes == self.blob.size && !self.failed {
            self.download.arrived(&self.blob);
        }
    }
}
