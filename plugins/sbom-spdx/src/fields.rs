//! Stanzas of fields, as databases of packages have them: `KEY: VALUE` lines, blank lines between stanzas.

use std::borrow::Cow;

/// More fields than any stanza has before those that are asked for: after them Alpine's database lists a package's files.
const MAX_FIELDS: usize = 1000;

/// Nothing that is asked for is longer.
const MAX_LINE_BYTES: usize = 4096;

/// The stanzas of a text. Each is the list of its fields in order; lines that continue one (they begin with a blank) are left
/// out, as nothing that is asked for here goes over several lines. What is no UTF-8 is replaced in single lines: of the whole
/// text it would take three times the memory.
pub fn stanzas(text: &[u8]) -> impl Iterator<Item = Stanza<'_>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    std::iter::from_fn(move || {
        let mut fields = Vec::new();
        for line in lines.by_ref() {
            if line.iter().all(u8::is_ascii_whitespace) {
                if fields.is_empty() {
                    continue;
                }
                break;
            }
            if fields.len() < MAX_FIELDS && line.len() <= MAX_LINE_BYTES && !line.starts_with(b" ") {
                fields.extend(field(line));
            }
        }
        (!fields.is_empty()).then_some(Stanza(fields))
    })
}

fn field(line: &[u8]) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let colon = line.iter().position(|byte| *byte == b':').filter(|_| !line.starts_with(b"\t"))?;
    Some((String::from_utf8_lossy(&line[..colon]), String::from_utf8_lossy(line[colon + 1..].trim_ascii())))
}

/// One stanza.
pub struct Stanza<'t>(Vec<(Cow<'t, str>, Cow<'t, str>)>);

impl Stanza<'_> {
    /// The value of the first field of this name that is not empty. Debian's and Python's names have no case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_empty())
            .map(|(_, value)| &**value)
    }

    /// The same where the case of the name counts.
    pub fn exact(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| &**value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_end_a_stanza_and_blanks_continue_a_field() {
        let text = b"\n\nPackage: a\nDescription: b\n more: c\n\td: e\nEmpty:\n\r\nP:x\n\n\xff:y\n";
        let found: Vec<Stanza<'_>> = stanzas(text).collect();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].get("package"), found[0].exact("package")), (Some("a"), None));
        assert_eq!((found[0].get("more"), found[0].get("d"), found[0].get("Empty")), (None, None, None));
        assert_eq!(found[1].exact("P"), Some("x"));
        assert_eq!(found[2].get("\u{fffd}"), Some("y"));
    }
}
