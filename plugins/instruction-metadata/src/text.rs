//! ONBUILD, MAINTAINER.

use cofferdam_plugin_sdk::{
    Diagnostic,
    diagnostics::error,
    instruction::{ConfigChange, Step},
};

use crate::{Reading, missing};

pub fn on_build(step: &Step) -> Result<ConfigChange, Diagnostic> {
    let trigger = step.arguments.text.trim();
    let keyword = trigger.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
    match keyword.as_str() {
        "" => Err(missing(step, "an instruction")),
        "ONBUILD" => Err(error("InvalidTrigger", "`ONBUILD` can't trigger another `ONBUILD`")),
        "FROM" | "MAINTAINER" => Err(error("InvalidTrigger", format!("`{keyword}` can't be triggered by `ONBUILD`"))),
        _ => Ok(ConfigChange::OnBuild(trigger.to_owned())),
    }
}

pub fn maintainer(step: &Step, reading: &mut Reading) {
    let author = step.arguments.text.trim();
    if author.is_empty() {
        reading.findings.push(missing(step, "a name"));
        return;
    }
    // That it is deprecated is a matter of the language, and told there.
    reading.changes.push(ConfigChange::Author(author.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metadata, read};
    use cofferdam_plugin_sdk::{InstructionHandler, testing::step};

    #[test]
    fn a_trigger_is_kept_as_written() {
        let step = step("ONBUILD", " RUN  make $X ").build();
        assert_eq!(read(&step).changes, [ConfigChange::OnBuild("RUN  make $X".into())]);
    }

    #[test]
    fn what_can_not_be_triggered_is_refused() {
        for text in ["onbuild RUN x", "FROM x", "maintainer x", ""] {
            assert!(!read(&step("ONBUILD", text).build()).findings.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_maintainer_is_an_author() {
        let step = step("MAINTAINER", "A <a@x>").build();
        assert_eq!(Metadata::plan(&step).unwrap().changes, [ConfigChange::Author("A <a@x>".into())]);
        assert!(Metadata::check(&step).is_empty());
    }
}
