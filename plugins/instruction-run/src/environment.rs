//! The whole environment of a command.

use cofferdam_plugin_sdk::{diagnostics::KeyValue, instruction::State};

/// Where programs are looked up if the image does not say (BuildKit's default for Linux).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Build arguments first, then the image's ENV, then a PATH if there is none. The planner left among the build
/// arguments only those that count, so one of an ENV's name replaces it (the ARG was declared after the ENV).
pub fn of(state: &State) -> Vec<KeyValue> {
    let is_argument = |name: &str| state.build_arguments.iter().any(|argument| argument.key == name);
    let mut environment = state.build_arguments.clone();
    environment.extend(state.environment.iter().filter(|variable| !is_argument(&variable.key)).cloned());
    if !environment.iter().any(|variable| variable.key == "PATH") {
        environment.push(KeyValue { key: "PATH".to_owned(), value: DEFAULT_PATH.to_owned() });
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::step;

    fn pairs(arguments: &[(&str, &str)], variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(key, value): &(&str, &str)| KeyValue { key: (*key).to_owned(), value: (*value).to_owned() };
        let step = step("RUN", "x").state(|state| {
            state.build_arguments = arguments.iter().map(pair).collect();
            state.environment = variables.iter().map(pair).collect();
        });
        of(&step.build().state).into_iter().map(|variable| (variable.key, variable.value)).collect()
    }

    #[test]
    fn an_argument_that_the_planner_left_wins() {
        let environment = pairs(&[("A", "arg")], &[("A", "env"), ("PATH", "/bin")]);
        assert_eq!(environment, [("A".into(), "arg".into()), ("PATH".into(), "/bin".into())]);
    }

    #[test]
    fn there_is_always_a_path() {
        assert_eq!(pairs(&[], &[("PATH", "")]), [("PATH".into(), String::new())]);
        assert_eq!(pairs(&[], &[]), [("PATH".into(), DEFAULT_PATH.into())]);
    }
}
