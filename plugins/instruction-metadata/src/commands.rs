//! CMD, ENTRYPOINT, SHELL.

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::error,
    instruction::{ConfigChange, ImageCommand, Step},
};

use crate::missing;

/// The exec form as it is; the shell form with the SHELL in force before it.
pub fn image_command(step: &Step) -> Result<ImageCommand, Diagnostic> {
    if step.arguments.json {
        return Ok(ImageCommand { arguments: step.arguments.words.clone(), shell_form: false });
    }
    match step.arguments.text.trim() {
        "" => Err(missing(step, "a command")),
        text => {
            let arguments = step.state.shell.iter().cloned().chain([text.to_owned()]).collect();
            Ok(ImageCommand { arguments, shell_form: true })
        }
    }
}

pub fn shell(step: &Step) -> Result<ConfigChange, Diagnostic> {
    let help = "write `SHELL [\"/bin/bash\", \"-c\"]`";
    if !step.arguments.json {
        return Err(error("ShellNotJson", "`SHELL` must be a JSON array").help(help));
    }
    match step.arguments.words.first() {
        Some(program) if !program.is_empty() => Ok(ConfigChange::Shell(step.arguments.words.clone())),
        _ => Err(missing(step, "a program").help(help)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;
    use cofferdam_plugin_sdk::testing::step;

    #[test]
    fn the_shell_form_carries_its_shell() {
        let step = step("CMD", "echo $HOME").state(|state| state.shell = vec!["/bin/bash".into(), "-c".into()]).build();
        let arguments = vec!["/bin/bash".into(), "-c".into(), "echo $HOME".into()];
        assert_eq!(read(&step).changes, [ConfigChange::Command(ImageCommand { arguments, shell_form: true })]);
    }

    #[test]
    fn the_exec_form_is_kept() {
        let step = step("ENTRYPOINT", "").json(&["/x", "y z"]).build();
        let arguments = vec!["/x".into(), "y z".into()];
        assert_eq!(read(&step).changes, [ConfigChange::Entrypoint(ImageCommand { arguments, shell_form: false })]);
    }

    #[test]
    fn an_empty_array_resets_and_an_empty_text_is_an_error() {
        assert_eq!(
            read(&step("CMD", "[]").json(&[]).build()).changes,
            [ConfigChange::Command(ImageCommand { arguments: vec![], shell_form: false })]
        );
        assert_eq!(read(&step("CMD", " ").build()).findings[0].code, "MissingArgument");
    }

    #[test]
    fn shell_is_json_with_a_program() {
        assert_eq!(read(&step("SHELL", "/bin/sh -c").build()).findings[0].code, "ShellNotJson");
        assert_eq!(read(&step("SHELL", "[]").json(&[]).build()).findings[0].code, "MissingArgument");
        assert_eq!(read(&step("SHELL", "").json(&["sh"]).build()).changes, [ConfigChange::Shell(vec!["sh".into()])]);
    }
}
