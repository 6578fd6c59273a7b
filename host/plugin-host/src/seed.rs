//! What a plugin's randomness follows from.

use cofferdam_digest::{Digest, Sha256};
use cofferdam_plan::step::{KeyValue, Step};

/// The digest of everything in a step that its cache key covers: not of its place in the file, so that a comment above
/// it changes nothing.
pub(crate) fn of_step(step: &Step) -> Digest {
    let mut frame = Frame(Sha256::new());
    frame.text(&step.keyword);
    frame.list(&step.flags, |frame, flag| {
        frame.text(&flag.name);
        frame.text(flag.value.as_deref().unwrap_or_default());
        frame.count(usize::from(flag.value.is_some()));
    });
    frame.text(&step.arguments.text);
    frame.list(&step.arguments.words, |frame, word| frame.text(word));
    frame.pairs(&step.arguments.pairs);
    frame.count(usize::from(step.arguments.json));
    frame.list(&step.heredocs, |frame, heredoc| {
        frame.text(&heredoc.name);
        frame.text(&heredoc.content);
    });
    frame.pairs(&step.state.environment);
    frame.pairs(&step.state.build_arguments);
    frame.text(&step.state.working_directory);
    frame.text(&step.state.user);
    frame.list(&step.state.shell, |frame, word| frame.text(word));
    frame.text(&step.state.platform);
    frame.0.finish()
}

/// Lengths before contents, so that no two steps run together into the same bytes.
struct Frame(Sha256);

impl Frame {
    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }

    fn pairs(&mut self, pairs: &[KeyValue]) {
        self.list(pairs, |frame, pair| {
            frame.text(&pair.key);
            frame.text(&pair.value);
        });
    }
}
