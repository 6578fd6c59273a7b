//! HEALTHCHECK.

use cofferdam_plugin_sdk::{
    DiagnosticExt,
    diagnostics::{error, warning},
    flags::Flags,
    instruction::{ConfigChange, Healthcheck, Step},
    json,
};

use crate::{Reading, duration};

/// Docker refuses shorter times, other than 0, which means "not set".
const SHORTEST_NS: u64 = 1_000_000;

const FLAGS: [&str; 5] = ["interval", "timeout", "start-period", "start-interval", "retries"];

pub fn read(step: &Step, reading: &mut Reading) {
    let text = step.arguments.text.trim();
    let (form, command) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let command = command.trim();
    let mut flags = Flags::of(step, &FLAGS);
    let mut check = Healthcheck {
        interval: time(&mut flags, "interval"),
        timeout: time(&mut flags, "timeout"),
        start_period: time(&mut flags, "start-period"),
        start_interval: time(&mut flags, "start-interval"),
        retries: retries(&mut flags),
        test: Vec::new(),
    };
    reading.findings.extend(flags.finish());
    match form.to_ascii_uppercase().as_str() {
        "NONE" => {
            if !command.is_empty() {
                reading.findings.push(error("TooManyArguments", "`HEALTHCHECK NONE` takes no arguments"));
            }
            if !step.flags.is_empty() {
                reading.findings.push(warning("FlagWithoutEffect", "`HEALTHCHECK NONE` has no use for flags"));
            }
            check = Healthcheck { test: vec!["NONE".to_owned()], ..nothing() };
        }
        "CMD" => match json::string_array(command) {
            Some(words) if words.is_empty() => reading.findings.push(missing_command()),
            Some(words) => check.test = [String::from("CMD")].into_iter().chain(words).collect(),
            None if command.is_empty() => reading.findings.push(missing_command()),
            None => check.test = vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        other => {
            let message = match other {
                "" => "`HEALTHCHECK` needs `CMD` or `NONE`".to_owned(),
                _ => format!("`HEALTHCHECK {form}` is neither `CMD` nor `NONE`"),
            };
            reading.findings.push(error("InvalidHealthcheck", message).help("write `HEALTHCHECK CMD command`"));
        }
    }
    if !check.test.is_empty() {
        reading.changes.push(ConfigChange::Healthcheck(check));
    }
}

fn time(flags: &mut Flags, name: &str) -> u64 {
    let Some(text) = flags.value(name) else { return 0 };
    match duration::nanoseconds(text) {
        Some(time) if time == 0 || time >= SHORTEST_NS => return time,
        None if !duration::is_negative(text) => {
            let message = format!("`{text}` of `--{name}` is not a duration");
            flags.push_about(
                name,
                error("InvalidDuration", message).help("write for example `30s`, `1m30s` or `500ms`"),
            );
        }
        _ => flags.push_about(name, error("InvalidDuration", format!("`--{name}` can't be shorter than `1ms`"))),
    }
    0
}

fn retries(flags: &mut Flags) -> u32 {
    let Some(text) = flags.value("retries") else { return 0 };
    match text.parse::<i32>().ok().and_then(|retries| u32::try_from(retries).ok()) {
        Some(retries) => retries,
        None => {
            let message = format!("`--retries` is a number, and not negative; `{text}` is not");
            flags.push_about("retries", error("InvalidFlagValue", message));
            0
        }
    }
}

fn missing_command() -> cofferdam_plugin_sdk::Diagnostic {
    error("MissingArgument", "`HEALTHCHECK CMD` needs a command")
}

fn nothing() -> Healthcheck {
    Healthcheck { test: Vec::new(), interval: 0, timeout: 0, start_period: 0, start_interval: 0, retries: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;
    use cofferdam_plugin_sdk::testing::{StepBuilder, step};

    fn check(step: StepBuilder) -> Healthcheck {
        let reading = read(&step.build());
        assert!(reading.findings.is_empty());
        match reading.changes.into_iter().next() {
            Some(ConfigChange::Healthcheck(check)) => check,
            _ => panic!(),
        }
    }

    fn code(step: StepBuilder) -> String {
        read(&step.build()).findings.remove(0).code
    }

    #[test]
    fn both_forms_of_the_command() {
        assert_eq!(check(step("HEALTHCHECK", "CMD curl -f x || exit 1")).test, ["CMD-SHELL", "curl -f x || exit 1"]);
        assert_eq!(check(step("HEALTHCHECK", "cmd [\"a\", \"b c\"]")).test, ["CMD", "a", "b c"]);
        assert_eq!(check(step("HEALTHCHECK", "none")).test, ["NONE"]);
    }

    #[test]
    fn flags_are_durations_and_a_count() {
        let step = step("HEALTHCHECK", "CMD x")
            .flag("interval", Some("5m"))
            .flag("timeout", Some("1.5s"))
            .flag("start-period", Some("0"))
            .flag("start-interval", Some("1ms"))
            .flag("retries", Some("3"));
        let check = check(step);
        assert_eq!((check.interval, check.timeout), (300_000_000_000, 1_500_000_000));
        assert_eq!((check.start_period, check.start_interval, check.retries), (0, 1_000_000, 3));
    }

    #[test]
    fn mistakes_have_names() {
        assert_eq!(code(step("HEALTHCHECK", "CMD x").flag("interval", Some("5"))), "InvalidDuration");
        assert_eq!(code(step("HEALTHCHECK", "CMD x").flag("interval", Some("999us"))), "InvalidDuration");
        assert_eq!(code(step("HEALTHCHECK", "CMD x").flag("timeout", Some("-1s"))), "InvalidDuration");
        assert_eq!(code(step("HEALTHCHECK", "CMD x").flag("retries", Some("-1"))), "InvalidFlagValue");
        assert_eq!(code(step("HEALTHCHECK", "CMD x").flag("every", Some("1s"))), "UnknownFlag");
        assert_eq!(code(step("HEALTHCHECK", "CMD")), "MissingArgument");
        assert_eq!(code(step("HEALTHCHECK", "CMD []")), "MissingArgument");
        assert_eq!(code(step("HEALTHCHECK", "NONE x")), "TooManyArguments");
        assert_eq!(code(step("HEALTHCHECK", "curl x")), "InvalidHealthcheck");
        assert_eq!(code(step("HEALTHCHECK", "")), "InvalidHealthcheck");
    }
}
