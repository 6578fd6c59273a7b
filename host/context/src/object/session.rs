//! Asking a store: with whatever credentials there are, again where it has trouble, and in another region where it says so.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Learned, Opened, Place,
    connector::witnessed,
    failure::{self, Finding},
};
use crate::{
    FetchError, Remote,
    remote::{ATTEMPTS, innermost},
};

/// A place, and what was learned of it so far. Clones learn together.
#[derive(Clone)]
pub(super) struct Session {
    place: Place,
    remote: Remote,
    state: Arc<Mutex<State>>,
}

struct State {
    opened: Opened,
    learned: Learned,
}

impl Session {
    /// Nothing is asked yet.
    pub(super) fn new(place: Place, remote: &Remote) -> Result<Self, FetchError> {
        let learned = Learned::default();
        let opened = place.store(remote, &learned)?;
        Ok(Self { place, remote: remote.clone(), state: Arc::new(Mutex::new(State { opened, learned })) })
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The server that is asked: `HOST` or `HOST:PORT`.
    pub(super) fn host(&self) -> String {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).opened.host.clone()
    }

    /// What a request answers. `object` is what messages call it.
    pub(super) fn ask<T, F>(&self, object: &str, request: impl Fn(Opened) -> F) -> Result<T, FetchError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut attempt = 1;
        loop {
            let opened = self.state.lock().unwrap_or_else(PoisonError::into_inner).opened.clone();
            let trouble = match self.remote.wait(object, witnessed(request(opened.clone()))) {
                Ok((Ok(result), _)) => return Ok(result),
                Ok((Err(error), seen)) => {
                    let (words, access) = (innermost(&error), self.remote.cloud());
                    match failure::find(object, &self.place, &opened, words, seen, access) {
                        Finding::Trouble(error) => error,
                        Finding::Final(error) => return Err(error),
                        other => {
                            self.learn(other, &opened, object)?;
                            continue;
                        }
                    }
                }
                Err(silence @ FetchError::Broken { .. }) => silence,
                Err(other) => return Err(other),
            };
            if attempt >= ATTEMPTS {
                return Err(trouble);
            }
            self.remote.pause(Duration::from_millis(250 << attempt))?;
            attempt += 1;
        }
    }

    /// Opens the store anew with what an answer said to a request of `asked`.
    fn learn(&self, finding: Finding, asked: &Opened, object: &str) -> Result<(), FetchError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match finding {
            Finding::OtherRegion(region) if state.learned.region.is_none() => state.learned.region = Some(region),
            // Somebody else has learned it meanwhile.
            Finding::OtherRegion(_) if state.opened.region != asked.region => return Ok(()),
            Finding::NoMachine => state.learned.no_machine = true,
            _ => return Err(failure::circle(object)),
        }
        state.opened = self.place.store(&self.remote, &state.learned)?;
        Ok(())
    }
}
