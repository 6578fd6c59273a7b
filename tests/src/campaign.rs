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
