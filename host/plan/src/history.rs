//! The `created_by` texts of an image's history, in the form that Docker's own builder writes, because tools read them.

use crate::step::{ConfigChange, Effect, KeyValue, Planned, Step};

/// What follows the text of an instruction that made a layer.
const LAYER_MARK: &str = " # buildkit";

/// The text for a step, in a stage in which these arguments were declared.
pub fn created_by(step: &Step, planned: &Planned, declared: &[KeyValue]) -> String {
    let mut text = match (step.keyword.as_str(), planned.effect) {
        ("RUN", _) => run(step, declared),
        ("COPY" | "ADD", _) => copy(step),
        (_, Effect::RootFileSystem) => working_directory(planned).unwrap_or_else(|| as_written(step)),
        (_, Effect::Configuration) => configuration(step, planned),
    };
    // WORKDIR makes a layer, and has no mark.
    if planned.effect == Effect::RootFileSystem && working_directory(planned).is_none() {
        text.push_str(LAYER_MARK);
    }
    text
}

/// The part of an ARG's text for one of its names.
pub fn argument(name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!(" {name}={value}"),
        None => format!(" {name}"),
    }
}

fn run(step: &Step, declared: &[KeyValue]) -> String {
    let mut text = "RUN".to_owned();
    if !declared.is_empty() {
        text.push_str(&format!(" |{}", declared.len()));
        for pair in declared {
            text.push_str(&format!(" {}={}", pair.key, pair.value));
        }
    }
    if step.arguments.json {
        text.extend(step.arguments.words.iter().flat_map(|word| [" ", word]));
    } else {
        text.extend(step.state.shell.iter().flat_map(|word| [" ", word.as_str()]));
        text.push(' ');
        text.push_str(&script(step));
    }
    text
}

/// What the shell is given: the text with its here-documents behind it, or the one document that is all of it. One that names
/// its interpreter is a file.
fn script(step: &Step) -> String {
    let text = step.arguments.text.trim();
    match step.heredocs.as_slice() {
        [only] if heredoc_name(text) == Some(&only.name) => match only.content.starts_with("#!") {
            true => format!("/dev/pipes/{}", only.name),
            false => only.content.clone(),
        },
        heredocs => {
            let parts = heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            text.to_owned() + &parts.collect::<String>()
        }
    }
}

/// The name in a here-document's operator, if the word is nothing else: `<<EOF`, `3<<-'EOF'`.
fn heredoc_name(word: &str) -> Option<&str> {
    let word = word.trim_start_matches(|character: char| character.is_ascii_digit()).strip_prefix("<<")?;
    let word = word.strip_prefix('-').unwrap_or(word);
    Some(['"', '\''].iter().find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(word))
}

fn copy(step: &Step) -> String {
    let mut text = step.keyword.clone();
    for name in ["parents", "chown", "chmod"] {
        for flag in step.flags.iter().filter(|flag| flag.name == name && flag.value.as_deref() != Some("false")) {
            text.push_str(&format!(" --{name}"));
            flag.value.iter().for_each(|value| text.push_str(&format!("={value}")));
        }
    }
    let Some((destination, sources)) = step.arguments.words.split_last() else { return text };
    let document =
        |word: &str| step.heredocs.iter().find(|heredoc| heredoc_name(word) == Some(&heredoc.name)).map(|it| &it.name);
    text.extend(sources.iter().filter(|word| document(word).is_none()).flat_map(|word| [" ", word]));
    text.extend(sources.iter().filter_map(|word| document(word)).flat_map(|name| [" <<", name]));
    text.push(' ');
    text.push_str(destination);
    text
}

fn working_directory(planned: &Planned) -> Option<String> {
    planned.changes.iter().find_map(|change| match change {
        ConfigChange::WorkingDirectory(path) => Some(format!("WORKDIR {path}")),
        _ => None,
    })
}

fn configuration(step: &Step, planned: &Planned) -> String {
    let quoted = |words: &[String]| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ");
    let mut parts: Vec<String> = Vec::new();
    for change in &planned.changes {
        parts.push(match change {
            ConfigChange::Environment(pair) | ConfigChange::Label(pair) => format!("{}={}", pair.key, pair.value),
            ConfigChange::Expose(port) => port.clone(),
            ConfigChange::Volume(path) => path.clone(),
            ConfigChange::User(text)
            | ConfigChange::WorkingDirectory(text)
            | ConfigChange::StopSignal(text)
            | ConfigChange::OnBuild(text)
            | ConfigChange::Author(text) => text.clone(),
            ConfigChange::Command(command) | ConfigChange::Entrypoint(command) => {
                format!("[{}]", quoted(&command.arguments))
            }
            ConfigChange::Shell(shell) => format!("[{}]", shell.join(" ")),
            ConfigChange::Healthcheck(check) => format!(
                "&{{[{}] {:?} {:?} {:?} {:?} '{}'}}",
                quoted(&check.test),
                go_duration(check.interval_ns),
                go_duration(check.timeout_ns),
                go_duration(check.start_period_ns),
                go_duration(check.start_interval_ns),
                char::from_u32(check.retries)
                    .filter(|retries| !retries.is_control())
                    .map_or_else(|| format!("\\x{:02x}", check.retries), |retries| retries.to_string())
            ),
        });
    }
    let list = matches!(planned.changes.first(), Some(ConfigChange::Expose(_) | ConfigChange::Volume(_)));
    match (parts.is_empty(), list) {
        (true, _) => as_written(step),
        (false, true) => format!("{} [{}]", step.keyword, parts.join(" ")),
        (false, false) => format!("{} {}", step.keyword, parts.join(" ")),
    }
}

fn as_written(step: &Step) -> String {
    let mut text = step.keyword.clone();
    for flag in &step.flags {
        text.push_str(&format!(" --{}", flag.name));
        flag.value.iter().for_each(|value| text.push_str(&format!("={value}")));
    }
    if !step.arguments.text.is_empty() {
        text.push(' ');
        text.push_str(&step.arguments.text);
    }
    text
}

/// As Go prints a duration.
fn go_duration(nanoseconds: u64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let fraction = |whole: u64, rest: u64, digits: usize| {
        let mut text = format!("{whole}.{rest:0digits$}");
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        text
    };
    if nanoseconds < 1_000 {
        return format!("{nanoseconds}ns");
    }
    if nanoseconds < 1_000_000 {
        return format!("{}µs", fraction(nanoseconds / 1_000, nanoseconds % 1_000, 3));
    }
    if nanoseconds < 1_000_000_000 {
        return format!("{}ms", fraction(nanoseconds / 1_000_000, nanoseconds % 1_000_000, 6));
    }
    let seconds = nanoseconds / 1_000_000_000;
    let below_minute = format!("{}s", fraction(seconds % 60, nanoseconds % 1_000_000_000, 9));
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => below_minute,
        (0, minutes) => format!("{minutes}m{below_minute}"),
        (hours, minutes) => format!("{hours}h{minutes}m{below_minute}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (30_000_000_000, "30s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }
}
