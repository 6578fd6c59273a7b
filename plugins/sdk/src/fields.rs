//! Values of flags that are fields, separated by commas (RFC 4180: a field with a comma stands in double quotes, and a
//! double quote in there is doubled).

/// The fields of a value; `None` where a quote is not closed, or stands in the middle of a field.
pub fn split(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let (mut quoted, mut ended) = (false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => (quoted, ended) = (false, true),
            '"' if field.is_empty() && !ended => quoted = true,
            ',' if !quoted => {
                fields.push(std::mem::take(&mut field));
                ended = false;
            }
            '"' => return None,
            _ if ended => return None,
            other => field.push(other),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split() {
        assert_eq!(split("a,,b,").unwrap(), ["a", "", "b", ""]);
        assert_eq!(split("\"target=/a,b\",rw").unwrap(), ["target=/a,b", "rw"]);
        assert_eq!(split("\"say \"\"hi\"\"\"").unwrap(), ["say \"hi\""]);
        for text in ["\"a", "a\"b", "\"a\"b", "\"\"\"\"\"a"] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
