//! `cofferdam plugin …`: packing, looking at and trying plugins.
#![allow(clippy::disallowed_methods, reason = "reads and writes the files that the user names")]

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use cofferdam_engine::plugin_host::{Manifest, Role, pack, read_manifest};

use crate::{
    docker_door::SharedArguments,
    environment::Environment,
    exit::Exit,
    explain,
    plugin_run::{self, RunArguments},
    request, say,
};

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
    /// Prints a plugin's digest, as `sha256` of a policy has it
    Digest {
        /// The component
        file: PathBuf,
    },
    /// Asks one credential helper or tagging policy, without a build
    Run(Box<RunArguments>),
    /// Lists the plugins that a build would load
    List {
        #[command(flatten)]
        shared: SharedArguments,
    },
}

/// Does it.
pub fn run(command: PluginCommand, environment: &Environment) -> Exit {
    let done: Result<Exit, String> = match command {
        PluginCommand::Pack { file, manifest, output } => {
            pack_file(&file, &manifest, output.as_deref().unwrap_or(&file))
        }
        PluginCommand::Inspect { file, json } => inspect(&file, json),
        PluginCommand::Digest { file } => digest(&file),
        PluginCommand::Run(arguments) => return plugin_run::run(*arguments, environment),
        PluginCommand::List { shared } => return list(&shared, environment),
    };
    match done {
        Ok(exit) => exit,
        Err(message) => explain::failed(&message),
    }
}

fn pack_file(file: &Path, manifest: &Path, output: &Path) -> Result<Exit, String> {
    let text = String::from_utf8(read(manifest)?).map_err(|_| format!("`{}` is not UTF-8", manifest.display()))?;
    let packed = pack(&read(file)?, &text).map_err(|error| format!("`{}`: {error}", file.display()))?;
    cofferdam_image::export::write_file(output, &packed).map_err(|error| error.to_string())?;
    eprintln!("packed {} ({} bytes)", output.display(), packed.len());
    Ok(say(&format!("{}\n", cofferdam_engine::Digest::of(&packed))))
}

fn inspect(file: &Path, json: bool) -> Result<Exit, String> {
    let bytes = read(file)?;
    let manifest = read_manifest(&bytes).map_err(|error| format!("`{}`: {error}", file.display()))?;
    let digest = cofferdam_engine::Digest::of(&bytes);
    if json {
        return Ok(say(&format!("{}\n", String::from_utf8_lossy(&manifest.to_json()))));
    }
    let mut text = described(&manifest);
    text.push_str(&format!("  digest        {digest}\n  size          {} bytes\n", bytes.len()));
    Ok(say(&text))
}

fn digest(file: &Path) -> Result<Exit, String> {
    let bytes = read(file)?;
    // Of a plugin and of nothing else: what a policy pins must be one.
    read_manifest(&bytes).map_err(|error| format!("`{}`: {error}", file.display()))?;
    Ok(say(&format!("{}\n", cofferdam_engine::Digest::of(&bytes))))
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
    let mut text = String::new();
    for plugin in host.plugins() {
        text.push_str(&described(&plugin.manifest));
        text.push_str(&format!("  digest        {}\n  from          {}\n", plugin.digest, plugin.origin));
        if let Some(denial) = &plugin.withheld {
            text.push_str(&format!("  does nothing  {}\n", denial.lines().next().unwrap_or_default()));
        }
    }
    say(&text)
}

fn described(manifest: &Manifest) -> String {
    let mut text = format!("{} {}\n", manifest.name, manifest.version);
    if !manifest.description.is_empty() {
        text.push_str(&format!("  {}\n", manifest.description));
    }
    text.push_str(&format!("  interface     {}\n", manifest.api));
    text.push_str(&match &manifest.role {
        Role::Instruction { keywords, .. } => {
            format!("  instructions  {}\n", keywords.keys().cloned().collect::<Vec<_>>().join(" "))
        }
        Role::Credentials { hosts } => {
            format!("  hosts         {}\n", hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        }
        Role::Tags => "  tagging policy\n".to_owned(),
        Role::Sbom => "  scanner of images\n".to_owned(),
    });
    let wanted: Vec<String> = manifest.capabilities.iter().map(ToString::to_string).collect();
    text.push_str(&format!(
        "  wants         {}\n",
        if wanted.is_empty() { "nothing".to_owned() } else { wanted.join(" ") }
    ));
    text
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
