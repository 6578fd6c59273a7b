//! `cofferdam doctor`: what works here, and why not the rest.

use std::path::PathBuf;

use clap::Args;

use crate::{environment::Environment, exit::Exit, explain, say};

/// What is looked at.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Directory that keeps layers between builds; overlayfs is tried there [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "COFFERDAM_STORE")]
    store: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Prints the findings, strongest executor first.
pub fn run(arguments: &DoctorArguments, environment: &Environment) -> Exit {
    let store = match environment.store(arguments.store.clone()) {
        Ok(store) => store,
        Err(error) => return explain::failed(&error),
    };
    let report = cofferdam_exec::probe(&store);
    let findings = report.findings();
    let best = report.best();
    let mut emulators = cofferdam_exec::Emulator::all(&environment.program_directories());
    // QEMU stands in for this very processor too, which nobody needs.
    emulators.retain(|(architecture, _)| *architecture != cofferdam_engine::Platform::current().architecture);
    let mut text = String::new();
    if arguments.json {
        let line = |finding: &cofferdam_exec::Finding| {
            serde_json::json!({
                "name": finding.name, "works": finding.works, "why": finding.why, "remedy": finding.remedy,
            })
        };
        let json = serde_json::json!({
            "executor": best.map(cofferdam_exec::Tier::name),
            "store": store,
            "emulators": emulators
                .iter()
                .map(|(architecture, emulator)| ((*architecture).to_owned(), emulator.program.display().to_string().into()))
                .collect::<serde_json::Map<String, serde_json::Value>>(),
            "findings": findings.iter().map(line).collect::<Vec<_>>(),
        });
        return say(&format!("{json:#}\n"));
    }
    text.push_str(&format!("store: {}\n", store.display()));
    for finding in &findings {
        let word = if finding.works { "ok" } else { "no" };
        text.push_str(&format!("{word:<4} {:<12} {}\n", finding.name, finding.why));
        if !finding.remedy.is_empty() {
            text.push_str(&format!("                  {}\n", finding.remedy));
        }
    }
    let architectures: Vec<&str> = emulators.iter().map(|(architecture, _)| *architecture).collect();
    text.push_str(&match architectures[..] {
        [] => "no   foreign RUN  there is no static `qemu-*` on PATH that runs programs of other processors\n                  \
               install it (Debian: qemu-user-static) if a RUN is to be for another platform than this machine's\n"
            .to_owned(),
        _ => format!("ok   foreign RUN  programs for {} run by QEMU\n", architectures.join(", ")),
    });
    text.push_str("ok   no RUN       Dockerfiles without RUN build everywhere\n");
    text.push_str(&match best {
        Some(tier) => format!("RUN is carried out by `{tier}`\n"),
        None => "RUN can't be carried out here: a build that needs it stops before anything is built\n".to_owned(),
    });
    say(&text)
}
