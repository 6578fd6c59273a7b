//! `login` and `logout`: a registry's user and password in Docker's configuration file.

use std::io::Read;

use clap::Args;
use cofferdam_engine::{RegistryHost, Secret, log_in};

use crate::{
    docker_config::DockerConfig, docker_door::RegistryArguments, environment::Environment, exit::Exit, explain,
    output::tell, request,
};

/// A password has no more bytes than this; tokens have a few thousand.
const PASSWORD_LIMIT_BYTES: u64 = 1 << 20;

/// Where to, and as whom.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  echo \"$TOKEN\" | cofferdam login registry.example -u me --password-stdin")]
pub struct LoginArguments {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,

    /// The user's name
    #[arg(short = 'u', long, value_name = "NAME")]
    username: String,

    /// The password, or an access token; others see it in the list of processes
    #[arg(short = 'p', long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,

    /// Reads the password from standard input
    #[arg(long)]
    password_stdin: bool,

    #[command(flatten)]
    registries: RegistryArguments,
}

/// Which registry.
#[derive(Debug, Args)]
pub struct LogoutArguments {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
}

/// Asks the registry whether it takes user and password, and keeps them if it does.
pub fn login(arguments: LoginArguments, environment: &Environment) -> Exit {
    // Nobody may look into this process: it holds a password.
    let _ = cofferdam_exec::harden_process();
    let registry = match registry(&arguments.registry) {
        Ok(registry) => registry,
        Err(exit) => return exit,
    };
    let password = match (&arguments.password, arguments.password_stdin) {
        (Some(password), _) => {
            tell("warning: `--password` shows the password in the list of processes: write `--password-stdin`");
            Secret::new(password.clone())
        }
        (None, true) => match read_password() {
            Ok(password) => password,
            Err(error) => return explain::failed(&format!("the password can't be read: {error}")),
        },
        (None, false) => {
            return explain::usage(&"the password is missing: write `--password-stdin`, and send it there");
        }
    };
    let access = match request::registries_of_docker(arguments.registries, environment) {
        Ok(access) => access,
        Err(error) => return explain::usage(&error),
    };
    if let Err(error) = log_in(&registry, &arguments.username, &password, &access) {
        return explain::build_error(&error);
    }
    let kept = change(environment, |config| {
        if let Some(helper) = config.native_helper(&registry) {
            tell(&format!(
                "warning: other tools would ask the program `docker-credential-{helper}`, which this builder does not run"
            ));
        }
        config.put(&registry, &arguments.username, &password).map(|()| true)
    });
    match kept {
        Ok(path) => {
            tell(&format!("logged in to `{registry}`; the password is in {path}, not encrypted"));
            Exit::Success
        }
        Err(message) => explain::failed(&message),
    }
}

/// Forgets a registry's user and password.
pub fn logout(arguments: &LogoutArguments, environment: &Environment) -> Exit {
    let registry = match registry(&arguments.registry) {
        Ok(registry) => registry,
        Err(exit) => return exit,
    };
    let mut was_known = false;
    let done = change(environment, |config| {
        was_known = config.remove(&registry)?;
        Ok(was_known)
    });
    match done {
        Ok(path) if was_known => tell(&format!("`{registry}` is no longer in {path}")),
        Ok(path) => tell(&format!("`{registry}` was not in {path}")),
        Err(message) => return explain::failed(&message),
    }
    Exit::Success
}

fn registry(text: &str) -> Result<RegistryHost, Exit> {
    // As people paste it.
    let host = text.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    host.parse().map_err(|error| explain::usage(&format!("`{text}` is not a registry: {error}")))
}

/// The first line without its end: what `echo` and files of secrets add.
fn read_password() -> std::io::Result<Secret> {
    let mut text = String::new();
    std::io::stdin().take(PASSWORD_LIMIT_BYTES).read_to_string(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

/// Changes the configuration file that builds read first, if the change says that there is one. Answers its path.
fn change(
    environment: &Environment,
    change: impl FnOnce(&mut DockerConfig) -> Result<bool, String>,
) -> Result<String, String> {
    let Some(path) = environment.docker_configs().into_iter().next() else {
        return Err("there is no place for it: set DOCKER_CONFIG to a directory".to_owned());
    };
    let mut config = DockerConfig::read(&path)?;
    if change(&mut config)? {
        config.write()?;
    }
    Ok(format!("`{}`", path.display()))
}
