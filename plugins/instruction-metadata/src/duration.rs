//! Durations as Go writes them: `1h2m3.5s`, `300ms`, `0`.

/// Nanoseconds.
///
/// # Errors
/// The text is not a duration, negative, or longer than 2^63 ns (about 292 years).
pub fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end =
            rest.find(|character: char| !character.is_ascii_digit() && character != '.').filter(|end| *end > 0)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        total += value(number, unit_nanoseconds(unit)?)?;
        rest = tail;
        if total > i64::MAX as u128 {
            return None;
        }
    }
    (!text.is_empty()).then_some(total as u64)
}

/// Whether the text is a duration with a minus.
pub fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| nanoseconds(rest).is_some())
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Both letters that look like a Greek mu: U+00B5 and U+03BC.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn value(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()? * u128::from(unit) };
    let mut scale = u128::from(unit);
    for digit in fraction.bytes() {
        scale /= 10;
        total += scale * u128::from(digit - b'0');
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("1h2m3.5s", 3_723_500_000_000),
            ("300ms", 300_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("2us", 2_000),
            ("2µs3ns", 2_003),
            ("+1m", 60_000_000_000),
        ] {
            assert_eq!(nanoseconds(text), Some(expected), "{text}");
        }
        for text in ["", "1", "s", ".s", "1.2.3s", "1x", "-1s", "1 s", "9999999h", "99999999999999999999s"] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
        assert!(is_negative("-1s"));
        assert!(!is_negative("-x"));
    }
}
