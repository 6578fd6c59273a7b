//! "Did you mean": the nearest known word.

/// How many letters may differ.
const MAX_DISTANCE: usize = 2;

/// The option with the least edit distance to a word, regardless of case; the first of several. `None` if none is near,
/// or if the word is one of them.
pub fn closest<'a>(word: &str, options: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let distances = options.iter().map(|option| {
        let option_lower: Vec<char> = option.to_lowercase().chars().collect();
        (distance(&word, &option_lower), *option)
    });
    let (least, option) = distances.min_by_key(|(distance, _)| *distance)?;
    (least > 0 && least <= MAX_DISTANCE).then_some(option)
}

/// The option with the least edit distance to a word, case included; the first of several. `None` if none is near, or if
/// the word is one of them.
pub fn closest_exactly<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    let distances = options.into_iter().map(|option| (distance(&word, &option.chars().collect::<Vec<_>>()), option));
    let (least, option) = distances.min_by_key(|(distance, _)| *distance)?;
    (least > 0 && least <= MAX_DISTANCE).then_some(option)
}

/// Insertions, deletions and replacements that lead from one word to the other (Levenshtein). Words whose lengths
/// differ by more than counts are not compared.
fn distance(one: &[char], other: &[char]) -> usize {
    if one.len().abs_diff(other.len()) > MAX_DISTANCE {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KEYWORDS;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        for (word, expected) in [("RUNN", "RUN"), ("cpoy", "COPY"), ("ENTRYPIONT", "ENTRYPOINT"), ("WORKDR", "WORKDIR")]
        {
            assert_eq!(closest(word, &KEYWORDS), Some(expected));
        }
        for word in ["RSYNC", "BADCMD", "OTHER", "%s-", "RUN"] {
            assert_eq!(closest(word, &KEYWORDS), None, "{word}");
        }
    }
}
