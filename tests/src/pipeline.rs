//! As much of a GitLab runner and of a cluster as the tutorials need: jobs and arguments out of their texts, and a job's script
//! in a container.

use std::collections::BTreeMap;

use crate::{Container, Finished};

/// A job of a `.gitlab-ci.yml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Its lines.
    pub script: Vec<String>,
    /// The file's `variables`, as they are written.
    pub variables: BTreeMap<String, String>,
}

impl Job {
    /// The job of a name in the first block of YAML of a text: `script` is a list of plain scalars, as in all of the tutorials.
    ///
    /// # Panics
    /// There is none.
    pub fn of(text: &str, name: &str) -> Self {
        let fence =
            |line: &&str| line.trim().strip_prefix("```").is_some_and(|rest| rest.trim_start().starts_with("yaml"));
        let yaml: Vec<&str> =
            text.lines().skip_while(|line| !fence(line)).skip(1).take_while(|line| line.trim() != "```").collect();
        let script = section(&yaml, name);
        let begin = script.iter().position(|line| line.trim() == "script:").expect("a job with a script");
        let items = script[begin + 1..].iter().map_while(|line| line.trim_start().strip_prefix("- "));
        let pair = |line: &&str| {
            let (key, value) = line.trim().split_once(": ").filter(|(key, _)| !key.starts_with('#'))?;
            Some((key.to_owned(), value.trim().to_owned()))
        };
        Self {
            script: items.map(str::to_owned).collect(),
            variables: section(&yaml, "variables").iter().filter_map(pair).collect(),
        }
    }

    /// Replaces names in lines and variables.
    #[must_use]
    pub fn renamed(mut self, names: &[(&str, &str)]) -> Self {
        for text in self.script.iter_mut().chain(self.variables.values_mut()) {
            for (from, to) in names {
                *text = text.replace(from, to);
            }
        }
        self
    }

    /// Runs the script as GitLab's runner does in an image whose entry point is set to nothing: the first shell that is found
    /// reads it from its standard input. `predefined` are the variables that GitLab sets.
    #[track_caller]
    pub fn run(&self, container: Container<'_>, predefined: &[(&str, &str)]) -> Finished {
        const SHELLS: &str = "for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh \
             /busybox/sh; do [ -x $shell ] && exec $shell; done; echo shell not found; exit 1";
        let mut variables: BTreeMap<String, String> =
            predefined.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (name, value) in &self.variables {
            let expanded = expanded(value, &variables);
            variables.insert(name.clone(), expanded);
        }
        let mut text = "set -eo pipefail\nset +o noclobber\ncd \"$CI_PROJECT_DIR\"\n".to_owned();
        self.script.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        let container = variables.iter().fold(container, |container, (name, value)| container.env(name, value));
        container.command(&["sh", "-c", SHELLS], &text)
    }
}

/// The lines beneath a key of the first level.
fn section<'y>(yaml: &[&'y str], name: &str) -> Vec<&'y str> {
    let key = format!("{name}:");
    let rest = yaml.iter().skip_while(|line| line.trim_end() != key).skip(1);
    rest.take_while(|line| line.is_empty() || line.starts_with([' ', '#'])).copied().collect()
}

/// `$NAME` and `${NAME}`, once, as GitLab does with variables in variables.
fn expanded(value: &str, variables: &BTreeMap<String, String>) -> String {
    let mut value = value.to_owned();
    // The longest names first: `$CI_REGISTRY_IMAGE` is not `$CI_REGISTRY` and more.
    let mut names: Vec<&String> = variables.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        value = value.replace(&format!("${{{name}}}"), &variables[name]).replace(&format!("${name}"), &variables[name]);
    }
    value
}

/// The arguments of the container in the description of a pod: the quoted words after `args:` that are flags.
///
/// # Panics
/// There are none.
pub fn pod_arguments(text: &str) -> Vec<String> {
    let (_, rest) = text.split_once("args:").expect("a pod with arguments");
    let end = rest.find("volumeMounts").or_else(|| rest.find("###")).unwrap_or(rest.len());
    let flags = rest[..end].split('"').filter(|word| word.starts_with("--"));
    flags.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_arguments_are_found_in_texts() {
        let text = "Words\n``` yaml\nvariables:\n  # comment\n  IMAGE: $HOST/app\n\nbuild:\n  stage: b\n  script:\n    - one \"a: b\"\n    - two\n\npush:\n  script:\n    - three\n```\n";
        let job = Job::of(text, "build");
        assert_eq!(job.script, ["one \"a: b\"", "two"]);
        assert_eq!(job.variables, BTreeMap::from([("IMAGE".to_owned(), "$HOST/app".to_owned())]));
        assert_eq!(Job::of(text, "push").script, ["three"]);
        let pod = "args: [\"--dockerfile=Dockerfile\",\n  \"--destination=x\"]\n volumeMounts: \"--no\"";
        assert_eq!(pod_arguments(pod), ["--dockerfile=Dockerfile", "--destination=x"]);
    }

    #[test]
    fn the_longest_name_is_meant() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("A_B".to_owned(), "2".to_owned())]);
        assert_eq!(expanded("$A_B:${A}$A", &variables), "2:11");
    }
}
