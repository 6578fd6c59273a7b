//! Strangers' text made fit to be shown: the one place where commands' output, instructions, and messages of registries and
//! plugins lose what would steer a terminal or a continuous integration system.

use unicode_width::UnicodeWidthChar;

/// How many characters without a width may follow one that has some.
const COMBINING_LIMIT: usize = 4;

/// A line of a command's output without what would move a cursor: a log stays a log. Of a line that overwrites itself
/// with carriage returns, the last state is shown.
pub fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
    clean(&String::from_utf8_lossy(last))
}

/// A text on one line, without control characters and escape sequences, and without what continuous integration systems
/// take for a command wherever it stands.
///
/// GitHub's runner looks for `##[command]` anywhere in a line (the old form of `::command::`, which counts at a line's start
/// only); GitLab's markers need control characters.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut rest),
            // The one-character forms of the same introducers (ECMA-48, 5.3).
            '\u{9b}' => skip_control(&mut rest),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut rest),
            '\t' => out.push('\t'),
            '\n' | '\u{2028}' | '\u{2029}' => out.push(' '),
            // Text that runs the other way than it is written hides what it says (CVE-2021-42574).
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => {}
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    if out.contains("##[") { out.replace("##[", "## [") } else { out }
}

/// [`clean`] for a line with nothing of ours in front: a workflow command of GitHub's at its start is none any more.
pub fn clean_line(text: &str) -> String {
    let line = clean(text);
    let start = line.len() - line.trim_start().len();
    match line[start..].strip_prefix("::") {
        Some(rest) => format!("{}: :{rest}", &line[..start]),
        None => line,
    }
}

/// After ESC.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    match ahead.next() {
        Some('[') => {
            *rest = ahead;
            skip_control(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            *rest = ahead;
            skip_string(rest);
        }
        // Intermediate characters, then a final one (ECMA-35, 13.2): `ESC ( B`.
        Some(' '..='/') => {
            *rest = ahead;
            let mut ahead = rest.clone();
            while ahead.next().is_some_and(|next| (' '..='/').contains(&next)) {
                *rest = ahead.clone();
            }
            rest.next();
        }
        Some('0'..='~') => *rest = ahead,
        _ => {}
    }
}

/// A control sequence: parameters, then a final character from `@` to `~` (ECMA-48, 5.4). A broken one ends before what it
/// can't hold.
fn skip_control(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    while let Some(next) = ahead.next() {
        match next {
            ' '..='?' => *rest = ahead.clone(),
            '@'..='~' => {
                *rest = ahead;
                return;
            }
            _ => return,
        }
    }
}

/// A control string, up to BEL or ST (ECMA-48, 5.6). One without an end is text: it must not hide the rest of the line.
fn skip_string(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    while let Some(next) = ahead.next() {
        match next {
            '\u{7}' | '\u{9c}' => {
                *rest = ahead;
                return;
            }
            '\u{1b}' if ahead.as_str().starts_with('\\') => {
                ahead.next();
                *rest = ahead;
                return;
            }
            _ => {}
        }
    }
}

/// The columns of a terminal that a text without control characters takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

/// As much of a text as fits into so many columns, `…` at the end if something is missing; tabs become spaces.
pub fn fit(text: &str, limit: usize) -> String {
    let (mut out, mut used, mut combining) = (String::new(), 0, 0);
    // Where to cut if more comes than fits, and still have a column for `…`.
    let mut cut = (limit > 0).then_some(0);
    for character in text.chars() {
        let width = match character {
            '\t' => 8 - used % 8,
            other => other.width().unwrap_or(0),
        };
        combining = if width == 0 { combining + 1 } else { 0 };
        if combining > COMBINING_LIMIT {
            continue;
        }
        if used + width > limit {
            let Some(cut) = cut else { return String::new() };
            out.truncate(cut);
            out.push('…');
            return out;
        }
        used += width;
        match character {
            '\t' => out.extend(std::iter::repeat_n(' ', width)),
            other => out.push(other),
        }
        if used < limit {
            cut = Some(out.len());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_carriage_returns_do_not_reach_the_log() {
        for (raw, shown) in [
            (&b"\x1b[31mred\x1b[0m x"[..], "red x"),
            (b"10%\r20%\r", "20%"),
            (b"\x1b]0;title\x07text", "text"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bPq#0~\x1b\\after", "after"),
            (b"\x1b]no end", "no end"),
            (b"\x1b(Btext\x1b=\x1b>\x1b7\x1b8\x1bc", "text"),
            (b"\x1b[?1049h\x1b[2J\x1b[999;1Hx", "x"),
            (b"\x1b[12\xc3\xa4", "\u{e4}"),
            ("\u{9b}31mred\u{9d}0;t\u{9c}".as_bytes(), "red"),
            (b"bell\x07 back\x08\x08 nul\x00 del\x7f", "bell back nul del"),
            (b"ends with \x1b", "ends with "),
            (b"ends with \x1b[", "ends with "),
            (b"\xff\xfe not text", "\u{fffd}\u{fffd} not text"),
            ("a\u{202e}b\u{2028}c\u{feff}".as_bytes(), "a\u{fffd}b c"),
        ] {
            assert_eq!(printable(raw), shown, "{raw:?}");
        }
    }

    #[test]
    fn commands_of_ci_systems_are_none_any_more() {
        assert_eq!(clean("x ##[add-mask]y"), "x ## [add-mask]y");
        assert_eq!(clean("#\u{1b}[m#[add-mask]y"), "## [add-mask]y", "made by taking something out");
        assert_eq!(clean_line("  ::set-env name=X::y"), "  : :set-env name=X::y");
        assert_eq!(clean_line("\u{1b}[m::error::y"), ": :error::y");
        assert_eq!(clean_line("error: ::x"), "error: ::x");
        let marker = printable(b"\x1b[0Ksection_start:1:name\r\x1b[0Kheader");
        assert!(!marker.contains(['\r', '\u{1b}']), "{marker}");
    }

    #[test]
    fn texts_are_cut_to_columns_not_to_characters() {
        for (text, limit, shown) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcd…"),
            ("abcdef", 1, "…"),
            ("abcdef", 0, ""),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("日本語", 1, "…"),
            ("a\tb", 9, "a       b"),
            ("a\tb", 8, "a…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
        ] {
            let cut = fit(text, limit);
            assert!(columns(&cut) <= limit, "{text} in {limit}: {cut}");
            assert_eq!(cut, shown, "{text} in {limit}");
        }
        let stacked = format!("e{}", "\u{301}".repeat(10_000));
        assert_eq!(fit(&stacked, 10).chars().count(), 1 + COMBINING_LIMIT);
    }
}
