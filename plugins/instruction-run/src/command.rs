//! What is executed: the exec form, the shell form, here-documents.

use cofferdam_plugin_sdk::{Diagnostic, DiagnosticExt, diagnostics::error, instruction::Step};

/// The program and its arguments.
///
/// # Errors
/// There is nothing to execute, or a here-document that this handler can't execute.
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
        if first.content.starts_with("#!") {
            return Err(error(
                "UnsupportedHeredoc",
                "a here-document with its own interpreter (`#!`) is not supported yet",
            )
            .help("write `RUN interpreter <<EOF` instead"));
        }
        return Ok(first.content.clone());
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
    fn an_interpreter_of_its_own_is_refused_by_name() {
        let step = step("RUN", "<<EOF").heredoc("EOF", "#!/usr/bin/env python3\n").build();
        assert_eq!(arguments(&step).unwrap_err().code, "UnsupportedHeredoc");
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        assert!(arguments(&step("RUN", "  ").build()).is_err());
        assert!(arguments(&step("RUN", "<<EOF").heredoc("EOF", "\n").build()).is_err());
    }
}
