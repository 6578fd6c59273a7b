//! The first cause of a fetch that failed.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::FetchError;

/// What went wrong, kept as it was: gix passes errors on as texts.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<FetchError>>>);

impl Failure {
    pub(super) fn set(&self, error: FetchError) -> io::Error {
        let text = error.to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        io::Error::other(text)
    }

    pub(super) fn take(&self) -> Option<FetchError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
