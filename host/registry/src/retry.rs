//! When to try again.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::{RegistryError, RetryPolicy};

/// Mostly a name is misspelt or nobody listens there, which the user wants to know soon.
const MAX_CONNECT_ATTEMPTS: u32 = 3;

/// The attempts of one request or transfer.
pub(crate) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    failed: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, failed: 0 }
    }

    /// From a transfer that has failed some times already.
    pub(crate) fn after(policy: &'a RetryPolicy, failed: u32) -> Self {
        Self { policy, failed }
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// Waits before the next attempt; gives the error back when there is none.
    pub(crate) async fn wait(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.failed += 1;
        let most = match error {
            RegistryError::Connect { .. } => self.policy.attempts.min(MAX_CONNECT_ATTEMPTS),
            _ => self.policy.attempts,
        };
        if self.failed >= most || !error.is_transient() {
            return Err(error);
        }
        let asked = match &error {
            RegistryError::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        };
        if asked.is_some_and(|asked| asked > self.policy.longest_retry_after) {
            return Err(error);
        }
        let wait = backoff(self.policy, self.failed, chance());
        tokio::time::sleep(asked.map_or(wait, |asked| asked.max(wait))).await;
        Ok(())
    }
}

/// The wait after the `failed`th failure; `chance` is from 0 to 1.
fn backoff(policy: &RetryPolicy, failed: u32, chance: f64) -> Duration {
    let doubled = policy.first_wait.saturating_mul(1 << failed.saturating_sub(1).min(16));
    doubled.min(policy.longest_wait).mul_f64(0.5 + 0.5 * chance)
}

/// From 0 to 1, from the keys that the standard library draws for its hash maps: enough to spread builders that
/// failed at the same moment.
fn chance() -> f64 {
    f64::from((RandomState::new().build_hasher().finish() >> 40) as u32) / f64::from(1u32 << 24)
}

/// The wait that an answer asks for: seconds, or a date (RFC 9110 section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(wait.try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_one() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (1..9).map(|failed| backoff(&policy, failed, 1.0).as_millis()).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 4800, 9600, 10_000, 10_000]);
        assert_eq!(backoff(&policy, 1, 0.0).as_millis(), 150);
        assert!((0..1000).all(|_| (0.0..=1.0).contains(&chance())));
    }

    #[test]
    fn reads_seconds_and_dates() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(read("Fri, 31 Dec 2100 23:59:59 GMT").unwrap() > Duration::from_secs(1_000_000_000));
        assert_eq!(read("soon"), None);
    }
}
