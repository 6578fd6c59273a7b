//! What `--progress json` wrote, read as its readers do: one object a line.

use serde_json::Value;

use crate::Finished;

/// The events of a build, in their order.
pub struct Events(Vec<Value>);

impl Events {
    /// Takes them from standard error, where other lines stand too.
    pub fn of(finished: &Finished) -> Self {
        Self(finished.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The position of the first event that fits.
    #[track_caller]
    pub fn position(&self, what: &str, fits: impl Fn(&Value) -> bool) -> usize {
        let found = self.0.iter().position(fits);
        found.unwrap_or_else(|| panic!("no event: {what}\n{}", self.text()))
    }

    /// The position at which the step began whose name contains `text`.
    #[track_caller]
    pub fn started(&self, text: &str) -> usize {
        let fits = |event: &Value| {
            event["event"] == "started" && event["name"].as_str().is_some_and(|name| name.contains(text))
        };
        self.position(&format!("`{text}` started"), fits)
    }

    /// The position at which the step ended whose name contains `text`.
    #[track_caller]
    pub fn finished(&self, text: &str) -> usize {
        let vertex = &self.0[self.started(text)]["vertex"];
        self.position(&format!("`{text}` finished"), |event| event["event"] == "finished" && event["vertex"] == *vertex)
    }

    /// How the step ended whose name contains `text`.
    #[track_caller]
    pub fn ending(&self, text: &str) -> &Value {
        &self.0[self.finished(text)]["ending"]
    }

    /// The position at which a pushed blob had arrived.
    #[track_caller]
    pub fn transferred(&self, digest: &str) -> usize {
        self.position(&format!("{digest} transferred"), |event| {
            event["event"] == "transferred" && event["digest"] == digest && event["transfer"] != "downloaded"
        })
    }

    /// Pushed blobs and what became of them (`uploaded`, `mounted`, `present`), in the order of the events.
    pub fn transfers(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let is_push = |event: &&Value| event["event"] == "transferred" && event["transfer"] != "downloaded";
        let transfers = self.0.iter().filter(is_push);
        transfers.map(|event| (text(&event["digest"]), text(&event["transfer"]))).collect()
    }

    /// The layer that the step wrote whose name contains `text`.
    #[track_caller]
    pub fn layer(&self, text: &str) -> String {
        let vertex = &self.0[self.started(text)]["vertex"];
        let place = self
            .position(&format!("layer of `{text}`"), |event| event["event"] == "layer" && event["vertex"] == *vertex);
        self.0[place]["digest"].as_str().expect("a digest").to_owned()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    /// All of them, for messages.
    pub fn text(&self) -> String {
        self.0.iter().map(|event| format!("{event}\n")).collect()
    }
}
