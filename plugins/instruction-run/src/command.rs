//! What is executed: the exec form, the shell form, here-documents.

use cofferdam_plugin_sdk::{Diagnostic, DiagnosticExt, diagnostics::error, fs::FileMount, instruction::Step, paths};

/// The program and its arguments.
///
/// # Errors
/// There is nothing to execute.
pub fn arguments(step: &Step) -> Result<Vec<String>, Diagnostic> {
    if step.arguments.json && step.heredocs.is_empty() {
        return match step.arguments.words.first() {
            Some(program) if !program.is_empty() => Ok(step.arguments.words.clone()),
            _ => Err(error("MissingArgument", "`RUN` needs a command").help("write `RUN [\"program\", \"argument\"]`")),
        };
    }
    let script = script(step)?;
    if script.trim().is_empty() {
        return Err(error("MissingArgument", "`RUN` needs a command"));
    }
    Ok(step.state.shell.iter().cloned().chain([script]).collect())
}

/// What the shell is given.
fn script(step: &Step) -> Result<String, Diagnostic> {
    let text = step.arguments.text.trim();
    let [first, ..] = step.heredocs.as_slice() else { return Ok(text.to_owned()) };
    // Only a here-document: its lines are the script itself, so that shells without here-documents can run it.
    if step.heredocs.len() == 1 && is_operator(text, &first.name) {
        return Ok(match interpreted(step) {
            Some(FileMount { target, .. }) => String::from_utf8_lossy(&target).into_owned(),
            None => first.content.clone(),
        });
    }
    // A command with here-documents: the shell reads them as they were written. Tabs that `<<-` strips are gone already,
    // which the shell does not mind.
    let mut script = text.to_owned();
    for heredoc in &step.heredocs {
        script.push('\n');
        script.push_str(&heredoc.content);
        if !heredoc.content.is_empty() && !heredoc.content.ends_with('\n') {
            script.push('\n');
        }
        script.push_str(&heredoc.name);
    }
    Ok(script)
}

/// A here-document that names its own interpreter: a file that the shell is told to run.
pub fn interpreted(step: &Step) -> Option<FileMount> {
    let [only] = step.heredocs.as_slice() else { return None };
    let is_script = is_operator(step.arguments.text.trim(), &only.name) && only.content.starts_with("#!");
    let target = paths::join(b"/dev/pipes", paths::base_name(only.name.as_bytes()));
    is_script.then(|| FileMount { target, content: only.content.clone().into_bytes(), mode: 0o755 })
}

/// Whether a text is one here-document operator and nothing else: `<<EOF`, `<<-EOF`, `3<<'EOF'`.
fn is_operator(text: &str, name: &str) -> bool {
    let text = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let Some(word) = text.strip_prefix("<<") else { return false };
    let word = word.strip_prefix('-').unwrap_or(word);
    let unquoted = ['"', '\''].iter().find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(word);
    unquoted == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::step;

    #[test]
    fn the_shell_form_goes_to_the_shell_in_force() {
        let step = step("RUN", "echo  $X | cat").state(|state| state.shell = vec!["/bin/bash".into(), "-ec".into()]);
        assert_eq!(arguments(&step.build()).unwrap(), ["/bin/bash", "-ec", "echo  $X | cat"]);
    }

    #[test]
    fn the_exec_form_is_taken_as_it_is() {
        assert_eq!(arguments(&step("RUN", "").json(&["ls", "$X"]).build()).unwrap(), ["ls", "$X"]);
        assert!(arguments(&step("RUN", "[]").json(&[]).build()).is_err());
    }

    #[test]
    fn a_lone_heredoc_is_the_script() {
        for text in ["<<EOF", "<<-EOF", "<<'EOF'", "<<-\"EOF\""] {
            let step = step("RUN", text).heredoc("EOF", "a\nb\n").build();
            assert_eq!(arguments(&step).unwrap()[2], "a\nb\n", "{text}");
        }
    }

    #[test]
    fn a_command_with_heredocs_is_put_together_again() {
        let step = step("RUN", "cat <<A - <<B > /x").heredoc("A", "one\n").heredoc("B", "").build();
        assert_eq!(arguments(&step).unwrap()[2], "cat <<A - <<B > /x\none\nA\nB");
    }

    #[test]
    fn a_script_with_an_interpreter_of_its_own_is_a_file() {
        let step = step("RUN", "<<EOF").heredoc("EOF", "#!/usr/bin/env python3\n").build();
        assert_eq!(arguments(&step).unwrap(), ["/bin/sh", "-c", "/dev/pipes/EOF"]);
        let file = interpreted(&step).unwrap();
        assert_eq!((file.target.as_slice(), file.mode), (b"/dev/pipes/EOF".as_slice(), 0o755));
        assert_eq!(file.content, b"#!/usr/bin/env python3\n");
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        assert!(arguments(&step("RUN", "  ").build()).is_err());
        assert!(arguments(&step("RUN", "<<EOF").heredoc("EOF", "\n").build()).is_err());
    }
}
