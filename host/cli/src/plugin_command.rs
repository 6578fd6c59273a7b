//! `cofferdam plugin …`: packing and looking at plugins.
#![allow(clippy::disallowed_methods, reason = "reads and writes the files that the user names")]

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use cofferdam_engine::plugin_host::{Manifest, Role, pack, read_manifest};

use crate::{docker_door::SharedArguments, environment::Environment, exit::Exit, explain, request};

/// Components are not larger than this, in bytes: those with a whole language inside have 20 MB.
const COMPONENT_LIMIT_BYTES: u64 = 256 << 20;

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Writes a manifest into a component; a core module made with wit-bindgen becomes a component first
    Pack {
        /// The component or core module
        file: PathBuf,
        /// The manifest
        #[arg(long, value_name = "plugin.toml")]
        manifest: PathBuf,
        /// Where to write it [default: FILE itself]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Shows a plugin's manifest and digest
    Inspect {
        /// The component
        file: PathBuf,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Lists the plugins that a build would load
    List {
        #[command(flatten)]
        shared: SharedArguments,
    },
}

/// Does it.
pub fn run(command: PluginCommand, environment: &Environment) -> Exit {
    let done = match command {
        PluginCommand::Pack { file, manifest, output } => {
            pack_file(&file, &manifest, output.as_deref().unwrap_or(&file))
        }
        PluginCommand::Inspect { file, json } => inspect(&file, json),
        PluginCommand::List { shared } => return list(&shared, environment),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(message) => explain::failed(&message),
    }
}

fn pack_file(file: &Path, manifest: &Path, output: &Path) -> Result<(), String> {
    let text = String::from_utf8(read(manifest)?).map_err(|_| format!("`{}` is not UTF-8", manifest.display()))?;
    let packed = pack(&read(file)?, &text).map_err(|error| format!("`{}`: {error}", file.display()))?;
    cofferdam_image::export::write_file(output, &packed).map_err(|error| error.to_string())?;
    eprintln!("packed {} ({} bytes)", output.display(), packed.len());
    println!("{}", cofferdam_engine::Digest::of(&packed));
    Ok(())
}

fn inspect(file: &Path, json: bool) -> Result<(), String> {
    let bytes = read(file)?;
    let manifest = read_manifest(&bytes).map_err(|error| format!("`{}`: {error}", file.display()))?;
    let digest = cofferdam_engine::Digest::of(&bytes);
    if json {
        println!("{}", String::from_utf8_lossy(&manifest.to_json()));
        return Ok(());
    }
    print_manifest(&manifest);
    println!("  digest        {digest}");
    println!("  size          {} bytes", bytes.len());
    Ok(())
}

fn list(shared: &SharedArguments, environment: &Environment) -> Exit {
    let access = match request::plugins(shared, environment) {
        Ok(access) => access,
        Err(error) => return explain::usage(&error),
    };
    let host = match cofferdam_engine::load_plugins(&access) {
        Ok(host) => host,
        Err(error) => return explain::build_error(&error),
    };
    for plugin in host.plugins() {
        print_manifest(&plugin.manifest);
        println!("  digest        {}", plugin.digest);
        println!("  from          {}", plugin.origin);
    }
    Exit::Success
}

fn print_manifest(manifest: &Manifest) {
    println!("{} {}", manifest.name, manifest.version);
    if !manifest.description.is_empty() {
        println!("  {}", manifest.description);
    }
    println!("  interface     {}", manifest.api);
    match &manifest.role {
        Role::Instruction { keywords, .. } => {
            println!("  instructions  {}", keywords.keys().cloned().collect::<Vec<_>>().join(" "));
        }
        Role::Credentials { hosts } => {
            println!("  hosts         {}", hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
        Role::Tags => println!("  tagging policy"),
    }
    let wanted: Vec<String> = manifest.capabilities.iter().map(ToString::to_string).collect();
    println!("  wants         {}", if wanted.is_empty() { "nothing".to_owned() } else { wanted.join(" ") });
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    #[allow(clippy::disallowed_types, reason = "see above")]
    let opened = std::fs::File::open(path);
    let mut bytes = Vec::new();
    opened
        .and_then(|file| file.take(COMPONENT_LIMIT_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("can't read `{}`: {error}", path.display()))?;
    if bytes.len() as u64 > COMPONENT_LIMIT_BYTES {
        return Err(format!("`{}` is larger than {} MiB", path.display(), COMPONENT_LIMIT_BYTES >> 20));
    }
    Ok(bytes)
}
