//! The small part of Go's regular expressions that translated ignore patterns use: characters, classes, `.*`, `x*`
//! behind a class, `(.*/)?`, escapes, and the anchors.
//!
//! A general engine would read some of them otherwise (a `[` inside a class, for one), and matching must take linear
//! time whatever the pattern.

/// A parsed expression, anchored at both ends.
#[derive(Debug, Clone)]
pub(super) struct Regex {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    One(Class),
    Many(Class),
    /// `(.*/)?`
    Directories,
    /// `^` in the middle: matches only at the start of the path.
    Start,
    /// `\z`: matches only at the end of the path.
    End,
    /// `\b`, or `\B` if `false`.
    WordBoundary(bool),
}

#[derive(Debug, Clone)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn one(character: char) -> Self {
        Self { negated: false, ranges: vec![(character, character)] }
    }

    /// `.`: all but a line feed.
    fn any() -> Self {
        Self { negated: true, ranges: vec![('\n', '\n')] }
    }

    fn contains(&self, character: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&character)) != self.negated
    }
}

impl Regex {
    /// Parses `^…$`; `None` if Go would refuse the expression, or if it uses what no sensible pattern means: Unicode
    /// classes, numbers of characters, and literal text between `\Q` and `\E`.
    pub fn parse(expression: &str) -> Option<Self> {
        let mut rest = expression.strip_prefix('^')?.strip_suffix('$')?;
        let mut nodes = Vec::new();
        while let Some(next) = rest.chars().next() {
            if let Some(behind) = rest.strip_prefix("(.*/)?") {
                nodes.push(Node::Directories);
                rest = behind;
                continue;
            }
            rest = &rest[next.len_utf8()..];
            let class = match next {
                '.' => Class::any(),
                '[' => class(&mut rest)?,
                '^' => {
                    nodes.push(Node::Start);
                    continue;
                }
                '\\' => match anchor(rest) {
                    Some(node) => {
                        nodes.push(node);
                        rest = &rest[1..];
                        continue;
                    }
                    None => escaped(&mut rest)?,
                },
                '*' | '?' | '(' | ')' => return None,
                other => Class::one(other),
            };
            nodes.push(match rest.strip_prefix('*') {
                Some(behind) => {
                    rest = behind;
                    Node::Many(class)
                }
                None => Node::One(class),
            });
        }
        Some(Self { nodes })
    }

    /// Whether the whole path matches. A byte that is no UTF-8 is read as U+FFFD, as Go reads it.
    pub fn matches(&self, path: &[u8]) -> bool {
        let characters: Vec<char> = characters(path);
        let mut states = vec![false; self.nodes.len() + 1];
        let mut inside = vec![false; self.nodes.len()];
        self.enter(&mut states, &mut inside, 0, &characters, 0);
        for (position, &next) in characters.iter().enumerate() {
            let mut following = vec![false; states.len()];
            let mut following_inside = vec![false; inside.len()];
            let mut enter = |state| self.enter(&mut following, &mut following_inside, state, &characters, position + 1);
            for (state, node) in self.nodes.iter().enumerate() {
                match node {
                    Node::One(class) if states[state] && class.contains(next) => enter(state + 1),
                    Node::Many(class) if states[state] && class.contains(next) => enter(state),
                    _ => {}
                }
            }
            for (state, _) in inside.iter().enumerate().filter(|(_, inside)| **inside) {
                if next == '/' {
                    self.enter(&mut following, &mut following_inside, state + 1, &characters, position + 1);
                }
                if next != '\n' {
                    following_inside[state] = true;
                }
            }
            (states, inside) = (following, following_inside);
        }
        states[self.nodes.len()]
    }

    /// Adds a state and what follows from it without a character. `inside` are the groups that have begun.
    fn enter(&self, states: &mut [bool], inside: &mut [bool], mut state: usize, characters: &[char], position: usize) {
        let word = |character: Option<&char>| character.is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_');
        while !std::mem::replace(&mut states[state], true) {
            match self.nodes.get(state) {
                Some(Node::Many(_)) => {}
                Some(Node::Directories) => inside[state] = true,
                Some(Node::Start) if position == 0 => {}
                Some(Node::End) if position == characters.len() => {}
                Some(Node::WordBoundary(wanted)) => {
                    let before = position.checked_sub(1).and_then(|index| characters.get(index));
                    if (word(before) != word(characters.get(position))) != *wanted {
                        return;
                    }
                }
                _ => return,
            }
            state += 1;
        }
    }
}

fn characters(path: &[u8]) -> Vec<char> {
    let mut characters = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        characters.extend(chunk.valid().chars());
        characters.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    characters
}

/// Escapes that match no character.
fn anchor(rest: &str) -> Option<Node> {
    match rest.chars().next()? {
        'A' => Some(Node::Start),
        'z' => Some(Node::End),
        'b' => Some(Node::WordBoundary(true)),
        'B' => Some(Node::WordBoundary(false)),
        _ => None,
    }
}

/// What stands behind a backslash.
fn escaped(rest: &mut &str) -> Option<Class> {
    let next = rest.chars().next()?;
    *rest = &rest[next.len_utf8()..];
    let ranges = match next.to_ascii_lowercase() {
        'd' => vec![('0', '9')],
        's' => vec![('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        'w' => vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => {
            return Some(Class::one(match next {
                'a' => '\x07',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\x0b',
                _ if next.is_ascii() && !next.is_ascii_alphanumeric() => next,
                // Go escapes no letters of other alphabets either.
                _ => return None,
            }));
        }
    };
    Some(Class { negated: next.is_ascii_uppercase(), ranges })
}

/// What stands behind an opening bracket, up to the closing one. A bracket inside is a character.
fn class(rest: &mut &str) -> Option<Class> {
    let negated = rest.starts_with('^');
    *rest = &rest[usize::from(negated)..];
    let mut ranges = Vec::new();
    loop {
        if let Some(behind) = rest.strip_prefix(']')
            && !ranges.is_empty()
        {
            *rest = behind;
            return Some(Class { negated, ranges });
        }
        if rest.starts_with("[:") {
            return None;
        }
        let low = match class_character(rest)? {
            Ok(low) => low,
            Err(several) => {
                ranges.extend(several);
                continue;
            }
        };
        let high = match rest.strip_prefix('-') {
            Some(behind) if !behind.starts_with(']') => {
                *rest = behind;
                class_character(rest)?.ok().filter(|high| low <= *high)?
            }
            _ => low,
        };
        ranges.push((low, high));
    }
}

/// A character of a class, or the ranges that an escape stands for.
fn class_character(rest: &mut &str) -> Option<Result<char, Vec<(char, char)>>> {
    let next = rest.chars().next()?;
    *rest = &rest[next.len_utf8()..];
    if next != '\\' {
        return Some(Ok(next));
    }
    let class = escaped(rest)?;
    match class.ranges.as_slice() {
        _ if class.negated => None,
        [(low, high)] if low == high => Some(Ok(*low)),
        _ => Some(Err(class.ranges)),
    }
}
