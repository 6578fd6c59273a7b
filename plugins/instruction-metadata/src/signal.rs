//! STOPSIGNAL.

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::error,
    instruction::{ConfigChange, Step},
};

use crate::missing;

/// Names of signal(7) and their synonyms, without `SIG`, as container runtimes know them.
const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// The highest number of a signal on Linux (`_NSIG`).
const HIGHEST: u32 = 64;

pub fn read(step: &Step) -> Result<ConfigChange, Diagnostic> {
    let [signal] = step.arguments.words.as_slice() else {
        return Err(missing(step, "exactly one signal"));
    };
    if is_signal(signal) {
        return Ok(ConfigChange::StopSignal(signal.clone()));
    }
    Err(error("InvalidSignal", format!("`{signal}` is not a signal"))
        .help("write a name such as `SIGTERM` or `SIGRTMIN+3`, or a number from 1 to 64"))
}

fn is_signal(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().is_ok_and(|number: u32| (1..=HIGHEST).contains(&number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Real-time signals count up from 34 and down from 64 (glibc keeps 32 and 33 for itself).
    let real_time = |prefix: &str, highest: u32| {
        let offset = name.strip_prefix(prefix).filter(|offset| !offset.starts_with('+'));
        offset.and_then(|offset| offset.parse().ok()).is_some_and(|offset: u32| (1..=highest).contains(&offset))
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use crate::read;
    use cofferdam_plugin_sdk::{instruction::ConfigChange, testing::step};

    #[test]
    fn names_and_numbers_are_kept_as_written() {
        for signal in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "rtmin", "64"] {
            assert_eq!(read(&step("STOPSIGNAL", signal).build()).changes, [ConfigChange::StopSignal(signal.into())]);
        }
    }

    #[test]
    fn unknown_signals_are_refused() {
        for signal in ["SIGFOO", "0", "65", "SIGRTMIN+16", "RTMIN++3", "RTMAX-15", "-9", "SIG", "", "a b"] {
            assert!(!read(&step("STOPSIGNAL", signal).build()).findings.is_empty(), "{signal}");
        }
    }
}
