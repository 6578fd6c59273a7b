//! WORKDIR: sets the working directory, and makes it if it is missing.

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt, InstructionHandler,
    accounts::Account,
    diagnostics::error,
    flags::Flags,
    fs::{Attributes, Executor, ROOT, RootFs, Tree},
    instruction::{ConfigChange, Effect, Error, Planned, Read, Step, refuse},
    paths,
};

/// The handler.
pub struct Workdir;

cofferdam_plugin_sdk::export_instruction!(crate::Workdir);

impl InstructionHandler for Workdir {
    fn check(step: &Step) -> Vec<Diagnostic> {
        let mut findings = Flags::of(step, &[]).finish();
        match step.arguments.words.as_slice() {
            [] => findings.push(error("MissingArgument", "`WORKDIR` needs a directory")),
            [directory] if directory.is_empty() => {
                findings.push(
                    error("EmptyArgument", "the directory of `WORKDIR` is empty")
                        .help("check that the variables in it are set"),
                );
            }
            [_] => {}
            more => {
                let message = format!("`WORKDIR` takes one directory, not {}", more.len());
                findings.push(error("TooManyArguments", message).help("put a name with blanks in quotes"));
            }
        }
        findings
    }

    fn plan(step: &Step) -> Result<Planned, Error> {
        refuse(Self::check(step))?;
        let mut reads = Vec::new();
        if let Some(user) = user(step)? {
            reads.extend(user.reads().into_iter().map(|path| Read::RootfsPath(path.to_vec())));
        }
        let directory = directory(step);
        // The root is there whatever the image: nothing to be made, and as in BuildKit no layer.
        let effect = if directory == "/" { Effect::Configuration } else { Effect::RootFileSystem };
        if effect == Effect::Configuration {
            reads.clear();
        }
        Ok(Planned { reads, changes: vec![ConfigChange::WorkingDirectory(directory)], effect })
    }

    fn apply(
        step: &Step,
        rootfs: &dyn RootFs,
        _trees: &[&dyn Tree],
        _executor: Option<&dyn Executor>,
    ) -> Result<Vec<Diagnostic>, Error> {
        let directory = directory(step);
        let mut warnings = Vec::new();
        if directory != "/" {
            // Missing directories belong to the USER in force, as BuildKit makes them. RUN will refuse a name that the image does
            // not know.
            let owner = match user(step)? {
                Some(user) => {
                    let (owner, unknown) = user.resolve_or_root(rootfs)?;
                    warnings.extend(unknown);
                    owner
                }
                None => ROOT,
            };
            rootfs.create_directories(directory.as_bytes(), Attributes { mode: 0o755, owner, mtime: None })?;
        }
        Ok(warnings)
    }
}

fn directory(step: &Step) -> String {
    let written = step.arguments.words.first().map_or("", String::as_str);
    let path = paths::resolve(step.state.working_directory.as_bytes(), written.as_bytes());
    // Both parts are UTF-8 and are taken apart at slashes only.
    String::from_utf8_lossy(&path).into_owned()
}

/// The user in force, unless it is root.
fn user(step: &Step) -> Result<Option<Account>, Error> {
    match step.state.user.as_str() {
        "" => Ok(None),
        user => Ok(Some(Account::parse(user)?).filter(|account| !account.is_root())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::{
        accounts::{PASSWD, UNKNOWN},
        fs::Owner,
        testing::{MemoryRoot, step},
    };

    #[test]
    fn a_relative_directory_is_beneath_the_current_one() {
        let step = step("WORKDIR", "../lib/./x").state(|state| state.working_directory = "/usr/bin".into()).build();
        let planned = Workdir::plan(&step).unwrap();
        assert_eq!(planned.changes, [ConfigChange::WorkingDirectory("/usr/lib/x".into())]);
        assert!(planned.reads.is_empty());
        let root = MemoryRoot::default();
        Workdir::apply(&step, &root, &[], None).unwrap();
        assert_eq!(root.paths(), ["/usr", "/usr/lib", "/usr/lib/x"]);
        assert_eq!(root.entry(b"/usr/lib/x").unwrap().mode, 0o755);
    }

    #[test]
    fn the_root_is_never_made() {
        let root = MemoryRoot::default();
        let step = step("WORKDIR", "/a/..").build();
        assert_eq!(Workdir::plan(&step).unwrap().effect, Effect::Configuration);
        Workdir::apply(&step, &root, &[], None).unwrap();
        assert!(root.paths().is_empty());
    }

    #[test]
    fn a_user_that_the_image_does_not_know_is_a_warning() {
        let step = step("WORKDIR", "/srv").state(|state| state.user = "ghost".into()).build();
        let root = MemoryRoot::default();
        let warnings = Workdir::apply(&step, &root, &[], None).unwrap();
        assert_eq!(warnings[0].code, UNKNOWN);
        assert_eq!(root.entry(b"/srv").unwrap().owner, ROOT);
    }

    #[test]
    fn missing_directories_belong_to_the_user() {
        let step = step("WORKDIR", "/srv/web").state(|state| state.user = "web".into()).build();
        assert_eq!(Workdir::plan(&step).unwrap().reads, [Read::RootfsPath(PASSWD.to_vec())]);
        let root = MemoryRoot::default();
        root.add_file(PASSWD, b"web:x:33:44::/:\n");
        Workdir::apply(&step, &root, &[], None).unwrap();
        assert_eq!(root.entry(b"/srv/web").unwrap().owner, Owner { uid: 33, gid: 44 });
    }

    #[test]
    fn ids_and_root_read_nothing() {
        for user in ["1000:1000", "root", "0", "root:root"] {
            let step = step("WORKDIR", "/x").state(|state| state.user = user.into()).build();
            assert!(Workdir::plan(&step).unwrap().reads.is_empty(), "{user}");
        }
    }

    #[test]
    fn mistakes_are_all_reported() {
        let step = step("WORKDIR", "a b").flag("x", None).build();
        let codes: Vec<String> = Workdir::check(&step).into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["UnknownFlag", "TooManyArguments"]);
        assert!(Workdir::plan(&step).is_err());
    }
}
