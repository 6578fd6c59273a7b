//! The directions between crates: the "never imports" table, and who may use `unsafe`.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Crate, and what it must not depend on directly. `net` stands for anything that opens connections, `fs` for anything
/// that opens files (the standard library's own doors are kept by `clippy.toml`).
const NEVER: &[(&str, &[&str])] = &[
    ("cli", &["wasmtime", "tar", "reqwest"]),
    ("dockerfile", &["fs", "net", "tokio", "wasmtime", "oci-spec"]),
    ("plan", &["fs", "net", "wasmtime"]),
    ("context", &["cofferdam-dockerfile", "cofferdam-registry"]),
    ("rootfs", &["net", "oci-spec"]),
    ("layer", &["net", "wasmtime", "cofferdam-dockerfile"]),
    ("exec", &["net", "oci-spec", "wasmtime"]),
    ("image", &["net"]),
    ("registry", &["cofferdam-rootfs", "wasmtime", "cofferdam-dockerfile"]),
    ("cache", &["cofferdam-exec", "wasmtime"]),
    ("plugin-host", &["cofferdam-registry", "cofferdam-exec"]),
    ("plugin-pack", &["fs", "net", "wasmtime"]),
    ("digest", &["fs", "net", "wasmtime"]),
    ("platform", &["fs", "net", "wasmtime"]),
    ("engine", &["clap", "wasmtime"]),
];

const NET: &[&str] = &["reqwest", "hyper", "tokio", "rustls", "ureq", "cofferdam-registry"];
const FS: &[&str] = &["cap-std", "cap-primitives", "rustix", "nix", "libc", "walkdir", "tempfile", "cofferdam-rootfs"];

fn metadata() -> serde_json::Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// For each crate of the workspace, its direct dependencies but those of tests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("name").to_owned();
    let normal = |value: &&serde_json::Value| value["kind"].as_str() != Some("dev");
    let direct = |package: &serde_json::Value| {
        package["dependencies"].as_array().expect("dependencies").iter().filter(normal).map(name).collect()
    };
    packages.iter().map(|package| (name(package), direct(package))).collect()
}

#[test]
fn no_crate_imports_what_it_must_not() {
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    for (name, never) in NEVER {
        let direct = &dependencies.get(&format!("cofferdam-{name}")).unwrap_or_else(|| panic!("no crate {name}"));
        for banned in *never {
            let banned: Vec<&str> = match *banned {
                "net" => NET.to_vec(),
                "fs" => FS.to_vec(),
                one => vec![one],
            };
            wrong.extend(
                direct.iter().filter(|one| banned.contains(&one.as_str())).map(|one| format!("{name} imports {one}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_plugin_host_imports_wasmtime() {
    let importers: Vec<String> = dependencies()
        .into_iter()
        .filter(|(_, direct)| direct.iter().any(|one| one.starts_with("wasmtime")))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(importers, ["cofferdam-plugin-host"]);
}

/// The program alone has the features that it has in the workspace. Otherwise `scripts/static-program.sh`, and whoever builds with
/// `-p`, would compile wasmtime a second time.
#[test]
fn the_program_alone_is_built_with_the_workspaces_features() {
    let tree = |packages: &[&str]| -> BTreeSet<String> {
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        cargo.args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "--edges",
            "normal,build",
            "--format",
            "{p} {f}",
        ]);
        let output = cargo.args(packages).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output();
        let output = output.expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    };
    let (alone, together) = (tree(&["-p", "cofferdam-cli"]), tree(&["--workspace"]));
    let others: Vec<&String> = alone.difference(&together).collect();
    assert!(alone.len() > 100 && others.is_empty(), "{others:#?}");
}

#[test]
fn every_host_crate_is_in_the_table_and_has_a_readme() {
    for name in dependencies().keys().filter_map(|name| name.strip_prefix("cofferdam-")) {
        if name == "tests" || name == "benches" {
            continue;
        }
        assert!(NEVER.iter().any(|(known, _)| *known == name), "`{name}` is not in the table of this test");
        let readme = format!("{}/../host/{name}/README.md", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&readme).is_file(), "{readme} is missing");
    }
}

#[test]
fn unsafe_is_kept_to_its_owners() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../host");
    let mut users = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(root)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                if code
                    .clone()
                    .any(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
                {
                    users.push(path.strip_prefix(root).expect("beneath").display().to_string());
                }
            }
        }
    }
    let outside: Vec<&String> = users.iter().filter(|path| !path.starts_with("exec/")).collect();
    assert_eq!(outside.len(), 1, "unsafe outside exec: {outside:?}");
    assert!(outside[0].starts_with("plugin-host/src/"), "{outside:?}");
}
