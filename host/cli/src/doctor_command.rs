//! `cofferdam doctor`: what works here, and why not the rest.

use std::path::PathBuf;

use clap::Args;

use crate::{environment::Environment, exit::Exit};

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
    let store = environment.store(arguments.store.clone());
    let report = cofferdam_exec::probe(&store);
    let findings = report.findings();
    let best = report.best();
    if arguments.json {
        let line = |finding: &cofferdam_exec::Finding| {
            serde_json::json!({
                "name": finding.name, "works": finding.works, "why": finding.why, "remedy": finding.remedy,
            })
        };
        let json = serde_json::json!({
            "executor": best.map(cofferdam_exec::Tier::name),
            "store": store,
            "findings": findings.iter().map(line).collect::<Vec<_>>(),
        });
        println!("{json:#}");
        return Exit::Success;
    }
    println!("store: {}", store.display());
    for finding in &findings {
        println!("{:<4} {:<12} {}", if finding.works { "ok" } else { "no" }, finding.name, finding.why);
        if !finding.remedy.is_empty() {
            println!("                  {}", finding.remedy);
        }
    }
    println!("ok   no RUN       Dockerfiles without RUN build everywhere");
    match best {
        Some(tier) => println!("RUN is carried out by `{tier}`"),
        None => println!("RUN can't be carried out here: a build that needs it stops before anything is built"),
    }
    Exit::Success
}
