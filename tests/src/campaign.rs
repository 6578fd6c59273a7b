//! Campaigns: tests that take their time, and hand what they found to `scripts/campaign.sh`.

use std::{fs, path::Path};

/// Hands a part of a campaign's report to `scripts/campaign.sh`.
pub fn report(name: &str, text: &str) {
    print!("{text}");
    if let Some(directory) = std::env::var_os("COFFERDAM_CAMPAIGN_RESULTS") {
        fs::write(Path::new(&directory).join(name), text).expect("writable");
    }
}

/// Whether a campaign is to take less than a minute.
pub fn is_short() -> bool {
    std::env::var_os("COFFERDAM_CAMPAIGN_SHORT").is_some_and(|short| short == "1")
}

/// Seconds of processors that ended children of this process, and theirs, have used (proc_pid_stat(5): cutime, cstime).
pub fn children_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("there");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = fields.split_whitespace().skip(13).take(2).map(|field| field.parse::<u32>().expect("a number"));
    f64::from(ticks.sum::<u32>()) / 100.0
}
