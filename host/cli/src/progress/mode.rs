//! `--progress`: which view is wanted, and which one that is here.

use std::{io::IsTerminal, str::FromStr};

use crate::environment::Environment;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever fits.
    Auto,
    /// The view for terminals.
    Tty,
    /// Lines.
    Plain,
    /// Events.
    Json,
    /// Nothing but errors.
    Quiet,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A picture that is drawn again and again.
    Tty {
        /// Whether it has colours.
        colours: bool,
    },
    /// Lines.
    Plain,
    /// Lines in GitLab's sections.
    GitLab,
    /// Lines in GitHub's groups, and annotations.
    GitHub,
    /// Events.
    Json,
    /// Nothing but errors.
    Quiet,
}

/// What decides.
#[derive(Debug, Default)]
struct Surroundings {
    is_terminal: bool,
    is_dumb: bool,
    no_colour: bool,
    is_gitlab: bool,
    is_github: bool,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "tty" => Ok(Self::Tty),
            "plain" => Ok(Self::Plain),
            "json" | "rawjson" => Ok(Self::Json),
            "quiet" | "none" => Ok(Self::Quiet),
            other => Err(format!(
                "progress `{other}` (of --progress, else of BUILDKIT_PROGRESS) is unknown; auto, tty, plain, json and quiet \
                 are known"
            )),
        }
    }
}

impl Wanted {
    /// What is shown here.
    ///
    /// # Errors
    /// It needs a terminal, and there is none.
    pub fn decide(self, environment: &Environment) -> Result<Mode, String> {
        let variable = |name| environment.variable(name).filter(|value| !value.is_empty());
        self.decide_in(&Surroundings {
            is_terminal: std::io::stderr().is_terminal(),
            is_dumb: variable("TERM").is_none_or(|term| term == "dumb"),
            // Set to anything but nothing: <https://no-color.org>.
            no_colour: variable("NO_COLOR").is_some(),
            is_gitlab: variable("GITLAB_CI").is_some_and(|value| value != "false"),
            is_github: variable("GITHUB_ACTIONS").is_some_and(|value| value == "true"),
        })
    }

    fn decide_in(self, here: &Surroundings) -> Result<Mode, String> {
        let tty = Mode::Tty { colours: !here.no_colour };
        match self {
            Self::Auto if here.is_terminal && !here.is_dumb => Ok(tty),
            Self::Auto if here.is_gitlab => Ok(Mode::GitLab),
            Self::Auto if here.is_github => Ok(Mode::GitHub),
            Self::Auto | Self::Plain => Ok(Mode::Plain),
            Self::Tty if !here.is_terminal => {
                Err("`--progress tty` needs a terminal, and standard error is none; `auto` takes what fits".to_owned())
            }
            Self::Tty if here.is_dumb => {
                Err("`--progress tty` needs a terminal that moves its cursor, and TERM says that this one can't; \
                     `auto` takes what fits"
                    .to_owned())
            }
            Self::Tty => Ok(tty),
            Self::Json => Ok(Mode::Json),
            Self::Quiet => Ok(Mode::Quiet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_what_fits() {
        let log = Surroundings::default();
        let terminal = Surroundings { is_terminal: true, ..Surroundings::default() };
        for (here, mode) in [
            (Surroundings { is_terminal: true, ..log }, Mode::Tty { colours: true }),
            (Surroundings { no_colour: true, ..terminal }, Mode::Tty { colours: false }),
            (Surroundings { is_dumb: true, ..terminal }, Mode::Plain),
            (Surroundings { is_github: true, ..terminal }, Mode::Tty { colours: true }),
            (Surroundings { is_gitlab: true, ..log }, Mode::GitLab),
            (Surroundings { is_github: true, ..log }, Mode::GitHub),
            (log, Mode::Plain),
        ] {
            assert_eq!(Wanted::Auto.decide_in(&here), Ok(mode), "{here:?}");
        }
    }

    #[test]
    fn a_terminal_is_needed_where_one_is_asked_for() {
        assert!(Wanted::Tty.decide_in(&Surroundings::default()).is_err());
        let dumb = Surroundings { is_terminal: true, is_dumb: true, ..Surroundings::default() };
        assert!(Wanted::Tty.decide_in(&dumb).is_err());
        assert!("fancy".parse::<Wanted>().is_err());
    }
}
