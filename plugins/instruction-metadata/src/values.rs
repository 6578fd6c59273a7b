//! ENV, LABEL, VOLUME, USER.

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::error,
    instruction::{ConfigChange, Step},
};

use crate::{Reading, missing};

pub fn pairs(step: &Step, reading: &mut Reading) {
    if step.arguments.pairs.is_empty() {
        reading.findings.push(missing(step, "at least one `NAME=VALUE`"));
    }
    for pair in &step.arguments.pairs {
        reading.add(match (pair.key.as_str(), step.keyword.as_str()) {
            ("", _) => {
                let message = format!("a name of `{}` is empty", step.keyword);
                Err(error("EmptyName", message).help("check that the variables in it are set"))
            }
            (_, "ENV") => Ok(ConfigChange::Environment(pair.clone())),
            _ => Ok(ConfigChange::Label(pair.clone())),
        });
    }
}

pub fn volumes(step: &Step, reading: &mut Reading) {
    if step.arguments.words.is_empty() {
        reading.findings.push(missing(step, "at least one directory"));
    }
    for word in &step.arguments.words {
        reading.add(match word.trim() {
            "" => Err(error("EmptyArgument", "a directory of `VOLUME` is empty")),
            directory => Ok(ConfigChange::Volume(directory.to_owned())),
        });
    }
}

pub fn user(step: &Step) -> Result<ConfigChange, Diagnostic> {
    let [user] = step.arguments.words.as_slice() else {
        return Err(match step.arguments.words.is_empty() {
            true => missing(step, "a user"),
            false => several(),
        });
    };
    match user.trim() {
        "" => Err(error("EmptyArgument", "the user of `USER` is empty").help("check that the variables in it are set")),
        user if user.contains(char::is_whitespace) => Err(several()),
        user => Ok(ConfigChange::User(user.to_owned())),
    }
}

fn several() -> Diagnostic {
    error("TooManyArguments", "`USER` takes one user").help("write `USER user`, `USER user:group`, or their ids")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;
    use cofferdam_plugin_sdk::{diagnostics::KeyValue, testing::step};

    #[test]
    fn pairs_become_variables_and_labels() {
        let pair = KeyValue { key: "A".into(), value: "b c".into() };
        let reading = read(&step("ENV", "A=b").pair("A", "b c").build());
        assert_eq!(reading.changes, [ConfigChange::Environment(pair.clone())]);
        let reading = read(&step("LABEL", "A=b").pair("A", "b c").build());
        assert_eq!(reading.changes, [ConfigChange::Label(pair)]);
        assert_eq!(read(&step("ENV", "").pair("", "x").build()).findings[0].code, "EmptyName");
        assert_eq!(read(&step("LABEL", "").build()).findings[0].code, "MissingArgument");
    }

    #[test]
    fn volumes_are_words() {
        let reading = read(&step("VOLUME", "").json(&["/a b", " /c "]).build());
        assert_eq!(reading.changes, [ConfigChange::Volume("/a b".into()), ConfigChange::Volume("/c".into())]);
        assert_eq!(read(&step("VOLUME", "").json(&["", " "]).build()).findings.len(), 2);
    }

    #[test]
    fn a_user_is_exactly_one_word() {
        assert_eq!(read(&step("USER", "1:2").build()).changes, [ConfigChange::User("1:2".into())]);
        assert_eq!(read(&step("USER", "a b").build()).findings[0].code, "TooManyArguments");
        assert_eq!(read(&step("USER", "").json(&["a b"]).build()).findings[0].code, "TooManyArguments");
        assert_eq!(read(&step("USER", "").json(&[""]).build()).findings[0].code, "EmptyArgument");
        assert_eq!(read(&step("USER", "").build()).findings[0].code, "MissingArgument");
    }
}
