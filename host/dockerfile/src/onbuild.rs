//! ONBUILD: the instruction that it holds back.

use crate::forms::{MAX_FAULTS, error};
use crate::{Diagnostic, Instruction};

impl Instruction {
    /// For ONBUILD: the trigger, with its places in this file and the here-documents of the whole instruction.
    ///
    /// # Errors
    /// No trigger, or one that can't be: ONBUILD, FROM, MAINTAINER; flags of ONBUILD itself.
    pub fn trigger(&self) -> Result<Instruction, Vec<Diagnostic>> {
        let mut wrong: Vec<Diagnostic> = (self.flags.iter())
            .take(MAX_FAULTS)
            .map(|flag| {
                let message = format!("unknown flag: --{}", flag.name);
                error("UnknownFlag", message, flag.span, "put the flags behind the trigger's keyword")
            })
            .collect();
        if self.text.as_str().is_empty() {
            wrong.push(self.missing_argument());
            return Err(wrong);
        }
        let trigger = Instruction {
            heredocs: self.heredocs.clone(),
            lines: self.lines.clone(),
            ..Instruction::from_line(&self.text, self.escape)
        };
        let help = "write the instruction that a build on top of this image shall run";
        match trigger.keyword.as_str() {
            "ONBUILD" => {
                let message = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned();
                wrong.push(error("InvalidTrigger", message, trigger.keyword_span, help));
            }
            keyword @ ("FROM" | "MAINTAINER") => {
                let message = format!("{keyword} isn't allowed as an ONBUILD trigger");
                wrong.push(error("InvalidTrigger", message, trigger.keyword_span, help));
            }
            _ => {}
        }
        if wrong.is_empty() { Ok(trigger) } else { Err(wrong) }
    }

    /// For ONBUILD: the trigger as the image's configuration keeps it, here-documents included. [`crate::parse`]
    /// reads it again.
    pub fn trigger_text(&self) -> String {
        let line = self.original.trim_start();
        let mut text = line.get(self.spelling.len()..).unwrap_or_default().trim_start().to_owned();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn a_trigger_survives_the_image_configuration() {
        let parsed = parse(b"FROM x\nONBUILD  run --mount=a <<EOF cat\none\ntwo\nEOF\nRUN last\n");
        let trigger = parsed.instructions[1].trigger().unwrap();
        assert_eq!((trigger.keyword.as_str(), trigger.text.as_str()), ("RUN", "<<EOF cat"));
        assert_eq!((trigger.flags.len(), trigger.heredocs[0].content.as_str()), (1, "one\ntwo\n"));
        assert_eq!(trigger.keyword_span.start.column, 10);

        let kept = parsed.instructions[1].trigger_text();
        assert_eq!(kept, "run --mount=a <<EOF cat\none\ntwo\nEOF");
        let again = parse(kept.as_bytes());
        assert_eq!(again.diagnostics, []);
        assert_eq!(again.instructions[0].heredocs[0].content, "one\ntwo\n");
        assert_eq!(again.instructions[0].text.as_str(), trigger.text.as_str());
    }

    #[test]
    fn some_triggers_are_refused() {
        for (text, code) in [
            ("ONBUILD", "MissingArgument"),
            ("ONBUILD onbuild RUN x", "InvalidTrigger"),
            ("ONBUILD FROM x", "InvalidTrigger"),
            ("ONBUILD MAINTAINER x", "InvalidTrigger"),
            ("ONBUILD --x RUN x", "UnknownFlag"),
        ] {
            let instruction = parse(text.as_bytes()).instructions.remove(0);
            assert_eq!(instruction.trigger().unwrap_err()[0].code, code, "{text}");
        }
    }
}
