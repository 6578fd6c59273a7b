//! Commands for other processors: what runs them, found before anything is built.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use cofferdam_exec::{Emulator, Executor, RootForm, has_private_handlers};
use cofferdam_plan::{Base, ImageName, Plan, PlannedStage, Platform};

use crate::{error::BuildError, images::Image};

/// The emulators that the commands of a plan need, each once, from these directories.
///
/// # Errors
/// A command certainly is for another processor, and nothing here runs it.
pub fn emulators(
    plan: &Plan,
    images: &BTreeMap<ImageName, Arc<Image>>,
    executor: &dyn Executor,
    directories: &[PathBuf],
) -> Result<Vec<Emulator>, BuildError> {
    let mut found: Vec<Emulator> = Vec::new();
    for stage in plan.stages.values() {
        let Some(step) = stage.steps.iter().find(|step| step.needs_rootfs()) else { continue };
        let (platform, is_certain) = platform_of(plan, images, stage);
        if is_native(&platform, executor.form()) {
            continue;
        }
        let impossible = |reason: String, remedy: &str| BuildError::Foreign {
            instruction: step.title.clone(),
            platform: platform.clone(),
            reason,
            remedy: remedy.to_owned(),
        };
        let architecture = &platform.architecture;
        let emulator = match Emulator::find(architecture, directories) {
            Some(emulator) => emulator,
            // What is in a directory or in nothing is seen when it is run.
            None if !is_certain => continue,
            None => {
                let reason = match Emulator::program_name(architecture) {
                    Some(program) => format!("there is no static `{program}` on PATH"),
                    None => "QEMU knows no such processor".to_owned(),
                };
                return Err(impossible(reason, "install it (Debian: qemu-user-static; nothing has to be registered)"));
            }
        };
        if executor.form() == RootForm::Overlay {
            if emulator.is_registered() {
                continue;
            }
            if !has_private_handlers() {
                let reason = "only Linux 6.7 and later lets a builder have programs run that way".to_owned();
                return Err(impossible(reason, "`--executor emulated` does without it"));
            }
        }
        if !found.contains(&emulator) {
            found.push(emulator);
        }
    }
    Ok(found)
}

/// What a stage's programs are for, and whether that is known: an image says so itself.
fn platform_of(plan: &Plan, images: &BTreeMap<ImageName, Arc<Image>>, stage: &PlannedStage) -> (Platform, bool) {
    match &stage.base {
        Base::Image(name, _) => match images.get(name) {
            Some(image) if !image.config.architecture.is_empty() => (image.config.platform(), true),
            _ => (stage.platform.clone(), false),
        },
        Base::Stage(number) => platform_of(plan, images, &plan.stages[number]),
        Base::Scratch | Base::Directory(_) => (stage.platform.clone(), false),
    }
}

/// Whether the processor and the executor run programs for a platform as they are.
fn is_native(platform: &Platform, form: RootForm) -> bool {
    let current = Platform::current();
    match (&*current.architecture, &*platform.architecture) {
        (own, theirs) if own == theirs => true,
        // The translator knows one set of system calls only.
        ("amd64", "386") | ("arm64", "arm") => form == RootForm::Overlay,
        _ => false,
    }
}
