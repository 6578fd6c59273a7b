//! Syntax trees as BuildKit's parser prints them.

use std::fmt::Write;

use cofferdam_dockerfile::{Arguments, Instruction, Parsed, RawFlag, Word};

/// The tree of a file, one line for each instruction.
pub fn tree(parsed: &Parsed) -> String {
    let lines: Vec<String> = parsed.instructions.iter().map(|instruction| format!("({})", node(instruction))).collect();
    lines.join("\n")
}

fn node(instruction: &Instruction) -> String {
    let mut text = instruction.keyword.to_lowercase();
    if !instruction.flags.is_empty() {
        let flags: Vec<String> = instruction.flags.iter().map(|flag| quoted(&flag_text(flag))).collect();
        write!(text, " [{}]", flags.join(" ")).unwrap();
    }
    for argument in arguments(instruction) {
        write!(text, " {argument}").unwrap();
    }
    text
}

fn flag_text(flag: &RawFlag) -> String {
    match &flag.value {
        Some(value) => format!("--{}={value}", flag.name),
        None => format!("--{}", flag.name),
    }
}

fn arguments(instruction: &Instruction) -> Vec<String> {
    let texts = |words: Vec<Word>| words.iter().map(|word| quoted(&word.text)).collect::<Vec<_>>();
    let any = |arguments: Arguments| texts(arguments.words);
    let text = instruction.text.as_str();
    match instruction.keyword.as_str() {
        "ADD" | "COPY" | "VOLUME" => any(instruction.list().unwrap()),
        "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => any(instruction.command().unwrap()),
        "FROM" | "EXPOSE" => texts(instruction.blank_separated()),
        "ARG" => texts(instruction.words()),
        "ENV" | "LABEL" => match instruction.pairs() {
            Ok(pairs) => {
                let parts = pairs.iter().flat_map(|pair| {
                    [quoted(&pair.key), quoted(&pair.value), quoted(if pair.legacy { "" } else { "=" })]
                });
                parts.collect()
            }
            Err(wrong) => panic!("{wrong:?}"),
        },
        "HEALTHCHECK" => match instruction.healthcheck().unwrap() {
            Some(check) => [vec![quoted(&check.kind.text)], any(check.command)].concat(),
            None => Vec::new(),
        },
        "ONBUILD" => instruction.trigger().map(|trigger| format!("({})", node(&trigger))).into_iter().collect(),
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" if text.is_empty() => Vec::new(),
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => vec![quoted(text)],
        _ => vec![quoted("")],
    }
}

/// Go's `strconv.Quote`, for what the data holds.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            _ if character.is_ascii_control() => write!(quoted, "\\x{:02x}", character as u32).unwrap(),
            '\u{200b}' | '\u{a0}' | '\u{feff}' => write!(quoted, "\\u{:04x}", character as u32).unwrap(),
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}
