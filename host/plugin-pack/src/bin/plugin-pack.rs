//! `plugin-pack FILE.wasm --manifest plugin.toml -o OUT.wasm`: what `cofferdam plugin pack` does, without the rest of
//! cofferdam, whose build needs the first-party components that this program packs.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command of its own, used by the build script"
)]

use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("plugin-pack: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<(), String> {
    let (mut input, mut manifest, mut output) = (None, None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--manifest" => &mut manifest,
            "-o" | "--output" => &mut output,
            option if option.starts_with('-') => return Err(format!("unknown option `{option}`")),
            _ => {
                if input.replace(argument).is_some() {
                    return Err("more than one file".to_owned());
                }
                continue;
            }
        };
        *place = Some(arguments.next().ok_or_else(|| format!("`{argument}` needs a value"))?);
    }
    let (Some(input), Some(manifest)) = (input, manifest) else {
        return Err("usage: plugin-pack FILE.wasm --manifest plugin.toml [-o OUT.wasm]".to_owned());
    };
    let output = output.unwrap_or_else(|| input.clone());
    let wasm = fs::read(&input).map_err(|error| format!("can't read `{input}`: {error}"))?;
    let text = fs::read_to_string(&manifest).map_err(|error| format!("can't read `{manifest}`: {error}"))?;
    let packed = cofferdam_plugin_pack::pack(&wasm, &text).map_err(|error| format!("`{input}`: {error}"))?;
    fs::write(&output, packed).map_err(|error| format!("can't write `{output}`: {error}"))
}
