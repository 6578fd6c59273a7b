//! `key=value` fields between commas, as CSV: quotes hold commas together.

use cofferdam_plugin_sdk::Diagnostic;

use crate::invalid;

/// The fields of a line: a key in lower case (none for a bare word) and a value.
///
/// # Errors
/// A quote is not closed.
pub fn fields(line: &str) -> Result<Vec<(Option<String>, String)>, Diagnostic> {
    let fields = split(line)?.into_iter().map(|field| match field.split_once('=') {
        Some((key, value)) => (Some(key.trim().to_lowercase()), value.trim().to_owned()),
        None => (None, field.trim().to_owned()),
    });
    Ok(fields.collect())
}

fn split(line: &str) -> Result<Vec<String>, Diagnostic> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.trim().is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(invalid(format!("a quote is not closed in `{line}`")));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas_together() {
        let pair = |key: &str, value: &str| (Some(key.to_owned()), value.to_owned());
        assert_eq!(fields("type=raw, Value=a=b").unwrap(), [pair("type", "raw"), pair("value", "a=b")]);
        assert_eq!(fields(r#"type=match,"pattern=\d{1,3}""#).unwrap()[1], pair("pattern", r"\d{1,3}"));
        assert_eq!(fields(r#""a""b""#).unwrap(), [(None, "a\"b".to_owned())]);
        assert!(fields("\"open").is_err());
    }
}
