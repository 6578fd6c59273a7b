//! Answers of credential helpers that hold for some time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cofferdam_rootfs::Timestamp;

use crate::CredentialAnswer;

/// For whom and what a helper was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    /// The helper's name.
    pub(crate) plugin: String,
    /// The registry.
    pub(crate) host: String,
    /// The scope: the repository, if one is known,
    pub(crate) repository: Option<String>,
    /// and what is to be done there.
    pub(crate) actions: Vec<String>,
}

/// Answers with an end, and the lack of an answer of helpers that asked servers in vain.
#[derive(Default)]
pub(crate) struct AnswerCache(Mutex<BTreeMap<Question, Kept>>);

struct Kept {
    answer: Option<CredentialAnswer>,
    /// Seconds since 1970.
    until: i64,
}

/// A token must not end on its way: a registry may look at it again after minutes of an upload.
const LONGEST_MARGIN_SECONDS: i64 = 300;

/// How long a helper whose servers have no credential is not asked again. Without it each layer would wait for a metadata
/// address that does not answer.
const NOTHING_FOR: Duration = Duration::from_secs(60);

impl AnswerCache {
    /// What was answered, if it still holds.
    pub(crate) fn get(&self, question: &Question, now: Timestamp) -> Option<Option<CredentialAnswer>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(question).filter(|kept| now.seconds < kept.until).map(|kept| kept.answer.clone())
    }

    /// Keeps an answer until shortly before its end: a tenth of its time, or five minutes.
    pub(crate) fn keep(&self, question: Question, answer: &CredentialAnswer, now: Timestamp) {
        let Some(end) = answer.expires_at else { return };
        let margin = (end.seconds.saturating_sub(now.seconds) / 10).min(LONGEST_MARGIN_SECONDS);
        self.insert(question, Some(answer.clone()), end.seconds.saturating_sub(margin));
    }

    /// Keeps in mind that there is no answer, for a minute.
    pub(crate) fn keep_none(&self, question: Question, now: Timestamp) {
        self.insert(question, None, now.seconds.saturating_add(NOTHING_FOR.as_secs() as i64));
    }

    fn insert(&self, question: Question, answer: Option<CredentialAnswer>, until: i64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(question, Kept { answer, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credential, Secret};

    #[test]
    fn an_answer_is_used_until_shortly_before_its_end() {
        let cache = AnswerCache::default();
        let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
        let question = |repository: &str| Question {
            plugin: "greet".to_owned(),
            host: "r.example".to_owned(),
            repository: Some(repository.to_owned()),
            actions: vec!["pull".to_owned()],
        };
        let answer = |end| CredentialAnswer {
            credential: Credential::Bearer(Secret::new("t".to_owned())),
            expires_at: end,
            plugin: "greet".to_owned(),
        };
        // Twelve hours, as ECR gives: five minutes less.
        cache.keep(question("a"), &answer(Some(at(1000 + 43_200))), at(1000));
        assert!(cache.get(&question("a"), at(1000 + 43_200 - 301)).is_some());
        assert!(cache.get(&question("a"), at(1000 + 43_200 - 300)).is_none());
        assert!(cache.get(&question("b"), at(1000)).is_none(), "another scope");
        // A minute: six seconds less.
        cache.keep(question("b"), &answer(Some(at(1060))), at(1000));
        assert!(cache.get(&question("b"), at(1053)).is_some() && cache.get(&question("b"), at(1054)).is_none());
        // Over already, and without an end.
        cache.keep(question("c"), &answer(Some(at(900))), at(1000));
        cache.keep(question("d"), &answer(None), at(1000));
        assert!(cache.get(&question("c"), at(1000)).is_none() && cache.get(&question("d"), at(1000)).is_none());
        cache.keep_none(question("e"), at(1000));
        assert_eq!(cache.get(&question("e"), at(1059)), Some(None));
        assert_eq!(cache.get(&question("e"), at(1060)), None);
    }
}
