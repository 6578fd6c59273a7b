//! What was measured so far.

use std::time::Duration;

use crate::{case::Pass, measure::Usage};

/// The runs of one builder in one pass of one case.
pub struct Row {
    /// The case's key.
    pub case: &'static str,
    /// The pass.
    pub pass: Pass,
    /// The builder's name.
    pub builder: &'static str,
    /// One for each repetition.
    pub runs: Vec<Usage>,
}

impl Row {
    /// The least CPU time of the runs.
    pub fn least_cpu(&self) -> Duration {
        self.runs.iter().map(|run| run.cpu).min().unwrap_or_default()
    }

    /// The median of something.
    pub fn median<T: Ord + Copy + Default>(&self, of: impl Fn(&Usage) -> T) -> T {
        median(self.runs.iter().map(of).collect())
    }

    /// The largest of the peaks.
    pub fn peak_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.peak_bytes).max().unwrap_or_default()
    }
}

/// All rows, in the order of the first runs.
#[derive(Default)]
pub struct Results {
    rows: Vec<Row>,
    contexts: Vec<(&'static str, u64)>,
}

impl Results {
    /// Adds a run.
    pub fn add(&mut self, case: &'static str, pass: Pass, builder: &'static str, usage: Usage) {
        let same = |row: &&mut Row| row.case == case && row.pass == pass && row.builder == builder;
        match self.rows.iter_mut().find(same) {
            Some(row) => row.runs.push(usage),
            None => self.rows.push(Row { case, pass, builder, runs: vec![usage] }),
        }
    }

    /// Notes the size of a case's context.
    pub fn context(&mut self, case: &'static str, bytes: u64) {
        self.contexts.push((case, bytes));
    }

    /// Bytes of all files of a case's context.
    pub fn context_bytes(&self, case: &str) -> Option<u64> {
        self.contexts.iter().find(|(key, _)| *key == case).map(|(_, bytes)| *bytes)
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One of them.
    pub fn get(&self, case: &str, pass: Pass, builder: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == case && row.pass == pass && row.builder == builder)
    }
}

/// The middle one, the lower of two.
pub fn median<T: Ord + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3, 1, 2]), 2);
        assert_eq!(median(vec![4, 1, 3, 2]), 2);
        assert_eq!(median(Vec::<u64>::new()), 0);
    }
}
