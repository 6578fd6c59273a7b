//! Steps, as the planner would make them.

use crate::{
    diagnostics::{KeyValue, Position, Span},
    instruction::{Arguments, Flag, Heredoc, State, Step},
};

/// Starts a step of a keyword with its arguments as written; the words are split at blanks.
pub fn step(keyword: &str, text: &str) -> StepBuilder {
    let arguments = Arguments {
        text: text.to_owned(),
        words: text.split_whitespace().map(str::to_owned).collect(),
        pairs: Vec::new(),
        json: false,
    };
    let state = State {
        environment: Vec::new(),
        build_arguments: Vec::new(),
        working_directory: "/".to_owned(),
        user: String::new(),
        shell: vec!["/bin/sh".to_owned(), "-c".to_owned()],
        platform: "linux/amd64".to_owned(),
    };
    let step =
        Step { keyword: keyword.to_owned(), flags: Vec::new(), arguments, heredocs: Vec::new(), state, span: SPAN };
    StepBuilder { step }
}

/// A step being put together.
pub struct StepBuilder {
    step: Step,
}

impl StepBuilder {
    /// Adds a flag.
    #[must_use]
    pub fn flag(mut self, name: &str, value: Option<&str>) -> Self {
        self.step.flags.push(Flag { name: name.to_owned(), value: value.map(str::to_owned), span: SPAN });
        self
    }

    /// Replaces the words by the elements of a JSON array.
    #[must_use]
    pub fn json(mut self, words: &[&str]) -> Self {
        self.step.arguments.words = words.iter().map(|word| (*word).to_owned()).collect();
        self.step.arguments.json = true;
        self
    }

    /// Adds a pair.
    #[must_use]
    pub fn pair(mut self, key: &str, value: &str) -> Self {
        self.step.arguments.pairs.push(KeyValue { key: key.to_owned(), value: value.to_owned() });
        self
    }

    /// Adds a here-document.
    #[must_use]
    pub fn heredoc(mut self, name: &str, content: &str) -> Self {
        self.step.heredocs.push(Heredoc { name: name.to_owned(), content: content.to_owned(), expand: true });
        self
    }

    /// Changes the stage's state.
    #[must_use]
    pub fn state(mut self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.step.state);
        self
    }

    /// The step.
    pub fn build(self) -> Step {
        self.step
    }
}

const SPAN: Span = Span { start: Position { line: 1, column: 1 }, end: Position { line: 1, column: 2 } };
