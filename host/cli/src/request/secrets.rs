//! `--secret`, the same through both doors.

use std::{collections::BTreeMap, path::PathBuf};

use cofferdam_engine::SecretSource;

use super::{Result, UsageError, form};
use crate::environment::Environment;

/// `id=NAME` with a file, a variable, or neither: then it is the variable of that name, else the file.
pub fn secrets(texts: &[String], environment: &Environment) -> Result<BTreeMap<String, SecretSource>> {
    texts.iter().map(|text| secret(text, environment)).collect()
}

fn secret(text: &str, environment: &Environment) -> Result<(String, SecretSource)> {
    let wrong = || form("--secret", text, "id=NAME[,src=FILE|,env=VARIABLE][,type=file|env]");
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in cofferdam_engine::split_fields(text).ok_or_else(wrong)? {
        let (key, value) = field.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(wrong)?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            _ => return Err(wrong()),
        }
    }
    let id = id.ok_or_else(wrong)?;
    let (file, variable) = match (kind.as_deref(), file, variable) {
        (Some("env"), Some(name), None) => (None, Some(name)),
        (Some("env"), None, None) => (None, Some(id.clone())),
        (Some("file"), _, Some(_)) | (_, Some(_), Some(_)) => return Err(wrong()),
        (Some("file"), None, None) => (Some(id.clone()), None),
        (_, None, None) if environment.variable(&id).is_some() => (None, Some(id.clone())),
        (_, None, None) => (Some(id.clone()), None),
        (_, file, variable) => (file, variable),
    };
    let source =
        match (file, variable) {
            (_, Some(name)) => SecretSource::Value(environment.variable(&name).ok_or_else(|| {
                UsageError::Combination(format!("`--secret {text}`: the variable `{name}` is not set"))
            })?),
            (file, None) => SecretSource::File(PathBuf::from(file.ok_or_else(wrong)?)),
        };
    Ok((id, source))
}
