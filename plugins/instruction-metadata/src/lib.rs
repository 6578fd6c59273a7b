//! The instructions that change the image's configuration and nothing else.

mod commands;
mod duration;
mod expose;
mod healthcheck;
mod signal;
mod text;
mod values;

use cofferdam_plugin_sdk::{
    Diagnostic, InstructionHandler,
    diagnostics::error,
    flags::Flags,
    fs::{Executor, RootFs, Tree},
    instruction::{ConfigChange, Error, Planned, Step, refuse},
};

/// The handler.
pub struct Metadata;

cofferdam_plugin_sdk::export_instruction!(crate::Metadata);

impl InstructionHandler for Metadata {
    fn check(step: &Step) -> Vec<Diagnostic> {
        read(step).findings
    }

    fn plan(step: &Step) -> Result<Planned, Error> {
        let reading = read(step);
        refuse(reading.findings)?;
        Ok(Planned::configuration(reading.changes))
    }

    fn apply(
        _step: &Step,
        _rootfs: &dyn RootFs,
        _trees: &[&dyn Tree],
        _executor: Option<&dyn Executor>,
    ) -> Result<Vec<Diagnostic>, Error> {
        Ok(Vec::new())
    }
}

/// What an instruction says and what is wrong with it.
#[derive(Default)]
struct Reading {
    changes: Vec<ConfigChange>,
    findings: Vec<Diagnostic>,
}

impl Reading {
    fn add(&mut self, change: Result<ConfigChange, Diagnostic>) {
        match change {
            Ok(change) => self.changes.push(change),
            Err(finding) => self.findings.push(finding),
        }
    }
}

fn read(step: &Step) -> Reading {
    let mut reading = Reading::default();
    if step.keyword != "HEALTHCHECK" {
        reading.findings = Flags::of(step, &[]).finish();
    }
    match step.keyword.as_str() {
        "ENV" | "LABEL" => values::pairs(step, &mut reading),
        "EXPOSE" => expose::read(step, &mut reading),
        "VOLUME" => values::volumes(step, &mut reading),
        "USER" => reading.add(values::user(step)),
        "CMD" => reading.add(commands::image_command(step).map(ConfigChange::Command)),
        "ENTRYPOINT" => reading.add(commands::image_command(step).map(ConfigChange::Entrypoint)),
        "SHELL" => reading.add(commands::shell(step)),
        "STOPSIGNAL" => reading.add(signal::read(step)),
        "HEALTHCHECK" => healthcheck::read(step, &mut reading),
        "ONBUILD" => reading.add(text::on_build(step)),
        "MAINTAINER" => text::maintainer(step, &mut reading),
        other => {
            let message = format!("`{other}` is not an instruction of this plugin");
            reading.findings.push(error("UnsupportedKeyword", message));
        }
    }
    reading
}

fn missing(step: &Step, what: &str) -> Diagnostic {
    error("MissingArgument", format!("`{}` needs {what}", step.keyword))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::step;

    #[test]
    fn flags_belong_to_healthcheck_alone() {
        for keyword in [
            "ENV",
            "LABEL",
            "EXPOSE",
            "VOLUME",
            "USER",
            "CMD",
            "ENTRYPOINT",
            "SHELL",
            "STOPSIGNAL",
            "ONBUILD",
            "MAINTAINER",
        ] {
            let findings = Metadata::check(&step(keyword, "x").flag("from", Some("y")).build());
            assert_eq!(findings[0].code, "UnknownFlag", "{keyword}");
        }
    }

    #[test]
    fn all_problems_of_a_step_are_reported() {
        let findings = Metadata::check(&step("EXPOSE", "80/icmp x 70000").flag("y", None).build());
        assert_eq!(findings.len(), 4);
    }

    #[test]
    fn the_configuration_is_all_that_changes() {
        let planned = Metadata::plan(&step("USER", "web").build()).unwrap();
        assert_eq!(planned, Planned::configuration(vec![ConfigChange::User("web".into())]));
    }

    #[test]
    fn a_keyword_of_somebody_else_is_not_answered() {
        assert!(matches!(Metadata::plan(&step("COPY", "a b").build()), Err(Error::Unsupported(_))));
    }
}
