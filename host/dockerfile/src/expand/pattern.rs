//! The patterns of `${V#…}`, `${V%…}` and `${V/…}`: `*`, `?` and escapes, no brackets (POSIX.1-2017, 2.13).
//!
//! Matching simulates all states at once: its time is the product of both lengths, whatever the pattern.

use super::{ExpandProblem, MAX_EXPANSION_BYTES};

/// Longer patterns are refused, which bounds the time of a match.
pub(super) const MAX_TOKENS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Character(char),
    /// `?`: any character but a line feed.
    Any,
    /// `*`: any number of them.
    Many,
}

pub(super) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    pub fn parse(pattern: &str) -> Result<Self, ExpandProblem> {
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(next) = rest.next() {
            tokens.push(match next {
                '*' => Token::Many,
                '?' => Token::Any,
                // The escape that `}` and `/` need inside `${}` is not part of the pattern.
                '\\' if matches!(rest.peek(), Some('}' | '/')) => continue,
                '\\' => match rest.next() {
                    Some(escaped @ ('*' | '?' | '\\')) => Token::Character(escaped),
                    other => {
                        let escaped = other.map(String::from).unwrap_or_default();
                        return Err(ExpandProblem::InvalidPattern { pattern: pattern.to_owned(), escaped });
                    }
                },
                other => Token::Character(other),
            });
            if tokens.len() > MAX_TOKENS {
                return Err(ExpandProblem::PatternTooLong);
            }
        }
        Ok(Self { tokens })
    }

    /// Without the shortest or the longest match at the start.
    pub fn trim_start(&self, value: &str, longest: bool) -> String {
        let characters: Vec<char> = value.chars().collect();
        let end = self.end(&characters, longest).unwrap_or(0);
        characters[end..].iter().collect()
    }

    /// Without the shortest or the longest match at the end.
    pub fn trim_end(&self, value: &str, longest: bool) -> String {
        let reversed = Self { tokens: self.tokens.iter().rev().copied().collect() };
        let characters: Vec<char> = value.chars().rev().collect();
        let end = reversed.end(&characters, longest).unwrap_or(0);
        characters[end..].iter().rev().collect()
    }

    /// With the leftmost, longest match replaced, or with all of them.
    ///
    /// Where all are replaced, `$0` in the replacement stands for the match, `$$` for a dollar sign, and any other
    /// name for nothing: BuildKit hands the text to Go's `Regexp.ReplaceAllString`.
    pub fn replace(&self, value: &str, replacement: &str, all: bool) -> Result<String, ExpandProblem> {
        let characters: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut copied = 0;
        let mut from = 0;
        while from <= characters.len() {
            let Some((start, end)) = self.find(&characters, from) else { break };
            result.extend(&characters[copied..start]);
            if !all {
                result.push_str(replacement);
                copied = end;
                break;
            }
            // An empty match right behind another one is none.
            if end > copied || start == 0 {
                fill_template(replacement, &characters[start..end], &mut result);
            }
            if result.len() > MAX_EXPANSION_BYTES {
                return Err(ExpandProblem::TooLong);
            }
            copied = end;
            from = end.max(from + 1);
        }
        result.extend(&characters[copied..]);
        if result.len() > MAX_EXPANSION_BYTES { Err(ExpandProblem::TooLong) } else { Ok(result) }
    }

    /// Where the shortest or longest match that begins at the first character ends.
    fn end(&self, characters: &[char], longest: bool) -> Option<usize> {
        let mut found = None;
        let mut states = vec![None; self.tokens.len() + 1];
        self.enter(&mut states, 0, 0);
        for position in 0.. {
            if states[self.tokens.len()].is_some() {
                found = Some(position);
                if !longest {
                    break;
                }
            }
            let Some(&next) = characters.get(position) else { break };
            states = self.step(&states, next);
            if states.iter().all(Option::is_none) {
                break;
            }
        }
        found
    }

    /// The leftmost match at or behind `from`, as long as possible.
    fn find(&self, characters: &[char], from: usize) -> Option<(usize, usize)> {
        let mut best = None;
        let mut states = vec![None; self.tokens.len() + 1];
        for position in from.. {
            if best.is_none() {
                self.enter(&mut states, 0, position);
            }
            if let Some(start) = states[self.tokens.len()] {
                best = Some(best.map_or(start, |best: usize| best.min(start)));
            }
            // Only matches that begin further left could still be better.
            if best.is_some_and(|best| states.iter().flatten().all(|&start| start >= best)) {
                break;
            }
            let Some(&next) = characters.get(position) else { break };
            states = self.step(&states, next);
        }
        let start = best?;
        Some((start, start + self.end(&characters[start..], true)?))
    }

    /// Adds a state and what follows from it without a character; each state keeps its leftmost start.
    fn enter(&self, states: &mut [Option<usize>], mut state: usize, start: usize) {
        loop {
            if states[state].is_some_and(|other| other <= start) {
                return;
            }
            states[state] = Some(start);
            if self.tokens.get(state) != Some(&Token::Many) {
                return;
            }
            state += 1;
        }
    }

    fn step(&self, states: &[Option<usize>], next: char) -> Vec<Option<usize>> {
        let mut following = vec![None; states.len()];
        for (state, token) in self.tokens.iter().enumerate() {
            let Some(start) = states[state] else { continue };
            match *token {
                Token::Character(character) if character == next => self.enter(&mut following, state + 1, start),
                Token::Any if next != '\n' => self.enter(&mut following, state + 1, start),
                Token::Many if next != '\n' => self.enter(&mut following, state, start),
                _ => {}
            }
        }
        following
    }
}

/// Go's `Regexp.Expand` for an expression without groups.
fn fill_template(template: &str, matched: &[char], result: &mut String) {
    let mut rest = template;
    while let Some(index) = rest.find('$') {
        result.push_str(&rest[..index]);
        rest = &rest[index + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            result.push('$');
            rest = behind;
            continue;
        }
        let (inner, braced) = rest.strip_prefix('{').map_or((rest, false), |inner| (inner, true));
        let length = inner.find(|other: char| !(other.is_alphanumeric() || other == '_')).unwrap_or(inner.len());
        let closed = !braced || inner[length..].starts_with('}');
        if length == 0 || !closed {
            result.push('$');
            continue;
        }
        if &inner[..length] == "0" {
            result.extend(matched);
        }
        rest = &inner[length + usize::from(braced)..];
    }
    result.push_str(rest);
}
