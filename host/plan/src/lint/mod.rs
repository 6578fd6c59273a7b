//! Lint rules that need variables, an ignore file or a base image. What is not known (a check asks no registry) is not
//! guessed: a variable that the base may set is a note, not a warning.

mod copy;
mod expose;
mod from;
mod image_name;
mod json_args;
mod undefined;
mod walk;
mod workdir;

pub use cofferdam_dockerfile::lint::{Reach, Rule};

use cofferdam_dockerfile::{Diagnostic, Parsed, Severity, closest};

pub(crate) use walk::{Surroundings, check};

/// The rules of this crate.
pub static RULES: [&Rule; 11] = [
    &json_args::JSON_ARGS_RECOMMENDED,
    &from::UNDEFINED_ARG_IN_FROM,
    &workdir::WORKDIR_RELATIVE_PATH,
    &undefined::UNDEFINED_VAR,
    &from::REDUNDANT_TARGET_PLATFORM,
    &from::INVALID_DEFAULT_ARG_IN_FROM,
    &from::FROM_PLATFORM_FLAG_CONST_DISALLOWED,
    &copy::COPY_IGNORED_FILE,
    &expose::EXPOSE_PROTO_CASING,
    &expose::EXPOSE_INVALID_FORMAT,
    &from::INVALID_BASE_IMAGE_PLATFORM,
];

/// Every rule, by name.
pub fn rules() -> Vec<&'static Rule> {
    let mut rules: Vec<_> = cofferdam_dockerfile::lint::RULES.into_iter().chain(RULES).collect();
    rules.sort_unstable_by_key(|rule| rule.name);
    rules
}

/// The rule of a name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    rules().into_iter().find(|rule| rule.name == name)
}

/// Names in `# check=…` that no rule has: a slip there leaves the finding where it is, and nobody is told why.
pub(crate) fn unknown_rules(parsed: &Parsed) -> Vec<Diagnostic> {
    let names: Vec<&str> = rules().into_iter().map(|rule| rule.name).collect();
    let options = &parsed.directives.check;
    let unknown = options.skip.iter().chain(&options.experimental).filter(|name| !names.contains(&name.as_str()));
    let finding = |name: &String| Diagnostic {
        severity: Severity::Note,
        code: "UnknownRule".to_owned(),
        message: match closest(name, &names) {
            Some(meant) => format!("there is no check {name:?} (did you mean {meant}?)"),
            None => format!("there is no check {name:?}"),
        },
        span: None,
        help: Some("names are written as the warnings have them; another builder may know more of them".to_owned()),
    };
    unknown.map(finding).collect()
}
