//! `cofferdam plugin run`: one credential helper or tagging policy by itself.

use std::sync::Arc;

use clap::Args;
use cofferdam_engine::{
    HelperRequest, ask_helper, load_plugins,
    plugin_host::{Credential, CredentialAnswer, Kind},
};

use crate::{
    docker_door::SharedArguments,
    environment::Environment,
    exit::Exit,
    explain, request, say,
    tags_command::{self, TagsArguments},
};

/// What a plugin is asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cofferdam plugin run credential-ecr --host 123456789012.dkr.ecr.eu-west-1.amazonaws.com --push
  cofferdam plugin run tags-git -t registry.example/team/app .")]
pub struct RunArguments {
    /// Name of the plugin; options of a tagging policy stand behind it as in `tags-git:short=true`
    #[arg(value_name = "NAME")]
    name: String,

    /// Directory whose git checkout gives a tagging policy its facts
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,

    /// For a credential helper: the registry host that it is asked for
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// For a credential helper: the repository
    #[arg(long, value_name = "NAME", requires = "host")]
    repository: Option<String>,

    /// For a credential helper: asks for pushing, instead of pulling only
    #[arg(long, requires = "host")]
    push: bool,

    /// For a credential helper: prints the password or token too
    #[arg(long, requires = "host")]
    show_secret: bool,

    /// For a tagging policy: name of the image, with or without a tag; may be repeated
    #[arg(short = 't', long = "tag", value_name = "REF", conflicts_with = "host")]
    tags: Vec<String>,

    /// For a tagging policy: takes the facts from a file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "host")]
    facts: Option<String>,

    #[command(flatten)]
    shared: SharedArguments,
}

/// Prints what it answers; exit code 1 if that is nothing.
pub fn run(arguments: RunArguments, environment: &Environment) -> Exit {
    let plain = arguments.name.split(':').next().unwrap_or_default().to_owned();
    let access = match request::plugins(&arguments.shared, environment) {
        Ok(access) => access,
        Err(error) => return explain::usage(&error),
    };
    let plugins = match load_plugins(&access) {
        Ok(plugins) => Arc::new(plugins),
        Err(error) => return explain::build_error(&error),
    };
    let found = plugins.plugins().into_iter().find(|plugin| plugin.manifest.name == plain);
    match (found.map(|plugin| plugin.manifest.kind()), &arguments.host) {
        (None, _) => explain::failed(&format!("there is no plugin `{plain}`: `cofferdam plugin list` shows them")),
        (Some(Kind::Instruction), _) => {
            explain::failed(&format!("`{plain}` is a handler of instructions: try it by `cofferdam build --no-cache`"))
        }
        (Some(Kind::Sbom), _) => explain::failed(&format!(
            "`{plain}` is a scanner of images: try it by `cofferdam build --sbom=generator={plain}`"
        )),
        (Some(Kind::Tags), Some(_)) => explain::usage(&"`--host` is for credential helpers"),
        (Some(Kind::Tags), None) if arguments.tags.is_empty() => {
            explain::usage(&"a tagging policy needs a name: add `--tag REF`")
        }
        (Some(Kind::Tags), None) => {
            let RunArguments { name, context, tags, facts, shared, .. } = arguments;
            tags_command::run(&TagsArguments::of_policy(name, context, tags, facts, shared), environment)
        }
        (Some(Kind::Credentials), None) => explain::usage(&"a credential helper needs a registry: add `--host HOST`"),
        (Some(Kind::Credentials), Some(host)) => {
            let asked = HelperRequest { host, repository: arguments.repository.as_deref(), push: arguments.push };
            match ask_helper(&request::credentials(environment), &plugins, &plain, &asked) {
                Ok(Some(answer)) => say(&shown(&answer, arguments.show_secret)),
                Ok(None) => explain::failed(&format!("`{plain}` has no credential for `{host}`")),
                Err(error) => explain::build_error(&error),
            }
        }
    }
}

fn shown(answer: &CredentialAnswer, with_secret: bool) -> String {
    let (kind, user, secret) = match &answer.credential {
        Credential::Basic { username, password } => ("basic", Some(username.as_str()), password),
        Credential::Bearer(token) => ("bearer", None, token),
        Credential::IdentityToken(token) => ("identity-token", None, token),
    };
    let mut lines = vec![format!("kind     {kind}")];
    lines.extend(user.map(|user| format!("user     {user}")));
    lines.extend(answer.expires_at.map(|end| format!("expires  {}", cofferdam_image::created(end.seconds))));
    let secret = if with_secret { secret.expose() } else { "(`--show-secret` prints it)" };
    lines.push(format!("secret   {secret}"));
    lines.join("\n") + "\n"
}
