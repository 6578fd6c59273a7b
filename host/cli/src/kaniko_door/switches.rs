//! Flags that are on or off, as Go's flag package takes them: `--flag`, `--flag=true`, `--flag=false`.

/// Makes a group of arguments of such flags. They are off unless they say otherwise (`#[arg(default_value = "true")]`).
macro_rules! switches {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, clap::Args)]
        pub struct $name {
            $(
                #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
                    default_missing_value = "true", default_value = "false",
                    value_parser = crate::kaniko_door::switches::go_bool)]
                $(#[$field_meta])*
                pub $field: bool,
            )*
        }
    };
}

pub(super) use switches;

/// What Go's `strconv.ParseBool` takes.
pub fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}
