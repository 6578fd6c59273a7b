//! Values of flags that are fields, separated by commas, as one line of comma-separated values (RFC 4180): a field with a
//! comma in it stands in double quotes, and a double quote in there is doubled.

/// The fields of a value; `None` where a quote is not closed, or stands in the middle of a field.
pub fn split_fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let field = &rest[..end];
                if field.contains('"') {
                    return None;
                }
                (field.to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        if after.is_empty() {
            return Some(fields);
        }
        rest = after.strip_prefix(',')?;
    }
}

fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, rest)),
        }
    }
}

/// The value that has these fields.
pub fn join_fields<S: AsRef<str>>(fields: &[S]) -> String {
    let written = |field: &S| match field.as_ref() {
        field if field.contains([',', '"']) => format!("\"{}\"", field.replace('"', "\"\"")),
        field => field.to_owned(),
    };
    fields.iter().map(written).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_and_joined() {
        for (text, fields) in [
            ("type=bind", vec!["type=bind"]),
            ("a,,b,", vec!["a", "", "b", ""]),
            ("\"target=/a,b\",rw", vec!["target=/a,b", "rw"]),
            ("\"say \"\"hi\"\"\"", vec!["say \"hi\""]),
        ] {
            assert_eq!(split_fields(text).unwrap(), fields, "{text}");
            assert_eq!(join_fields(&fields), text);
        }
        for text in ["\"a", "a\"b", "\"a\"b"] {
            assert_eq!(split_fields(text), None, "{text}");
        }
    }
}
