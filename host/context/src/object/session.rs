//! Asking a store: with whatever credentials there are, again where it has trouble, and in another region where it says so.

use std::{sync::Arc, time::Duration};

use object_store::ObjectStore;

use super::{
    Learned, Opened, Place,
    connector::Connector,
    failure::{self, Finding},
};
use crate::{
    FetchError, Remote,
    remote::{ATTEMPTS, innermost},
};

/// A place, and what was learned of it so far.
pub(super) struct Session {
    place: Place,
    remote: Remote,
    connector: Connector,
    opened: Opened,
    learned: Learned,
}

impl Session {
    /// Nothing is asked yet.
    pub(super) fn new(place: Place, remote: &Remote) -> Result<Self, FetchError> {
        let (connector, learned) = (Connector::new(remote), Learned::default());
        let opened = place.store(&connector, &learned)?;
        Ok(Self { place, remote: remote.clone(), connector, opened, learned })
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Sends a request. `object` is what messages call it.
    pub(super) fn ask<T, F>(
        &mut self,
        object: &str,
        request: impl Fn(Arc<dyn ObjectStore>) -> F,
    ) -> Result<T, FetchError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut attempt = 1;
        loop {
            let error = match self.remote.wait(object, request(self.opened.store.clone())) {
                Ok(Ok(result)) => return Ok(result),
                Ok(Err(error)) => error,
                Err(silence @ FetchError::Broken { .. }) if attempt >= ATTEMPTS => return Err(silence),
                Err(FetchError::Broken { .. }) => {
                    self.pause(&mut attempt)?;
                    continue;
                }
                Err(other) => return Err(other),
            };
            let (words, seen) = (innermost(&error), self.connector.seen());
            match failure::find(object, &self.place, &self.opened, words, seen, self.connector.access()) {
                Finding::NoMachine if !self.learned.no_machine => self.learned.no_machine = true,
                Finding::OtherRegion(region) if self.learned.region.is_none() => self.learned.region = Some(region),
                Finding::Trouble(_) if attempt < ATTEMPTS => {
                    self.pause(&mut attempt)?;
                    continue;
                }
                Finding::Trouble(error) | Finding::Final(error) => return Err(error),
                Finding::NoMachine | Finding::OtherRegion(_) => return Err(failure::circle(object)),
            }
            self.opened = self.place.store(&self.connector, &self.learned)?;
        }
    }

    fn pause(&self, attempt: &mut u32) -> Result<(), FetchError> {
        self.remote.pause(Duration::from_millis(250 << *attempt))?;
        *attempt += 1;
        Ok(())
    }
}
