//! Dates in the formats of moment.js ("Display", "Format"), for any zone of the time zone database.

use cofferdam_plugin_sdk::Diagnostic;
use jiff::{
    Timestamp, Zoned,
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::{expression::Expression, invalid};

/// A moment in seconds since 1970, as the expression says: its argument is the format (ISO 8601 without one), `tz` the zone.
///
/// # Errors
/// The zone is none, or something else is named.
pub fn format(seconds: i64, expression: &Expression) -> Result<String, Diagnostic> {
    let mut zone = TimeZone::UTC;
    for (key, value) in &expression.named {
        if key != "tz" {
            return Err(invalid(format!("`{}` has no attribute `{key}`, only `tz`", expression.name)));
        }
        let found = TimeZoneDatabase::bundled().get(value);
        zone = found.map_err(|_| invalid(format!("`{value}` is no time zone; one is `Europe/Paris`")))?;
    }
    let moment = Timestamp::from_second(seconds).map_err(|_| invalid("the date is out of range"))?.to_zoned(zone);
    Ok(write(&moment, expression.argument.as_deref().unwrap_or("YYYY-MM-DDTHH:mm:ssZ")))
}

/// Longer ones first: the longest that fits counts.
const TOKENS: [&str; 47] = [
    "YYYY", "MMMM", "DDDD", "DDDo", "dddd", "GGGG", "gggg", "SSS", "MMM", "DDD", "ddd", "YY", "MM", "Mo", "DD", "Do",
    "dd", "do", "HH", "hh", "kk", "mm", "ss", "SS", "ZZ", "WW", "Wo", "ww", "GG", "gg", "Qo", "Y", "Q", "M", "D", "d",
    "E", "e", "W", "w", "H", "h", "k", "m", "s", "S", "Z",
];

fn write(moment: &Zoned, format: &str) -> String {
    let (mut text, mut rest) = (String::new(), format);
    while let Some(first) = rest.chars().next() {
        // Texts in brackets are not looked at.
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            text.push_str(inside);
            rest = after;
        } else if let Some(token) = TOKENS.iter().find(|token| rest.starts_with(**token)) {
            text.push_str(&value(moment, token));
            rest = &rest[token.len()..];
        } else {
            let length = first.len_utf8();
            text.push_str(&match first {
                'A' => half(moment).to_uppercase(),
                'a' => half(moment).to_owned(),
                'X' => moment.timestamp().as_second().to_string(),
                'x' => moment.timestamp().as_millisecond().to_string(),
                other => other.to_string(),
            });
            rest = &rest[length..];
        }
    }
    text
}

fn half(moment: &Zoned) -> &'static str {
    if moment.hour() < 12 { "am" } else { "pm" }
}

fn value(moment: &Zoned, token: &str) -> String {
    let year = i64::from(moment.year());
    let hour12 = match moment.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let hour24 = if moment.hour() == 0 { 24 } else { moment.hour() };
    let iso = moment.date().iso_week_date();
    let sunday = moment.weekday().to_sunday_zero_offset();
    // Weeks begin on Sunday, and the first one has January the first.
    let first = moment.first_of_year().map_or(0, |first| i64::from(first.weekday().to_sunday_zero_offset()));
    let week = (i64::from(moment.day_of_year()) + first - 1) / 7 + 1;
    let two = |number: i64| format!("{number:02}");
    match token {
        "YYYY" | "Y" => format!("{year:04}"),
        "YY" => two(year % 100),
        "GGGG" => format!("{:04}", iso.year()),
        "GG" => two(i64::from(iso.year()) % 100),
        "gggg" => format!("{year:04}"),
        "gg" => two(year % 100),
        "Q" => ((moment.month() - 1) / 3 + 1).to_string(),
        "Qo" => ordinal(i64::from((moment.month() - 1) / 3 + 1)),
        "M" => moment.month().to_string(),
        "MM" => two(moment.month().into()),
        "Mo" => ordinal(moment.month().into()),
        "MMM" => moment.strftime("%b").to_string(),
        "MMMM" => moment.strftime("%B").to_string(),
        "D" => moment.day().to_string(),
        "DD" => two(moment.day().into()),
        "Do" => ordinal(moment.day().into()),
        "DDD" => moment.day_of_year().to_string(),
        "DDDo" => ordinal(moment.day_of_year().into()),
        "DDDD" => format!("{:03}", moment.day_of_year()),
        "d" | "e" => sunday.to_string(),
        "do" => ordinal(sunday.into()),
        "dd" => moment.strftime("%a").to_string().chars().take(2).collect(),
        "ddd" => moment.strftime("%a").to_string(),
        "dddd" => moment.strftime("%A").to_string(),
        "E" => moment.weekday().to_monday_one_offset().to_string(),
        "W" => iso.week().to_string(),
        "WW" => two(iso.week().into()),
        "Wo" => ordinal(iso.week().into()),
        "w" => week.to_string(),
        "ww" => two(week),
        "H" => moment.hour().to_string(),
        "HH" => two(moment.hour().into()),
        "h" => hour12.to_string(),
        "hh" => two(hour12.into()),
        "k" => hour24.to_string(),
        "kk" => two(hour24.into()),
        "m" => moment.minute().to_string(),
        "mm" => two(moment.minute().into()),
        "s" => moment.second().to_string(),
        "ss" => two(moment.second().into()),
        // Commits have whole seconds.
        "S" => "0".to_owned(),
        "SS" => "00".to_owned(),
        "SSS" => "000".to_owned(),
        "Z" => moment.strftime("%:z").to_string(),
        _ => moment.strftime("%z").to_string(),
    }
}

fn ordinal(number: i64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::MOMENT;

    fn shown(format: &str, zone: Option<&str>) -> Result<String, Diagnostic> {
        let named = zone.map(|zone| ("tz".to_owned(), zone.to_owned())).into_iter().collect();
        super::format(MOMENT.seconds, &Expression { name: "date".into(), argument: Some(format.into()), named })
    }

    #[test]
    fn formats_are_those_of_moment() {
        for (format, expected) in [
            ("YYYYMMDD", "20200110"),
            ("YY.M.D", "20.1.10"),
            ("dddd, MMMM Do YYYY, h:mm:ss a", "Friday, January 10th 2020, 12:30:00 am"),
            ("ddd, hA", "Fri, 12AM"),
            ("[Week] W, Q DDDD", "Week 2, 1 010"),
            ("kk:mm X", "24:30 1578616200"),
            ("YYYY-MM-DDTHH:mm:ssZ", "2020-01-10T00:30:00+00:00"),
            ("ww", "02"),
        ] {
            assert_eq!(shown(format, None).unwrap(), expected, "{format}");
        }
        assert_eq!(shown("YYYYMMDD HHmm ZZ", Some("America/New_York")).unwrap(), "20200109 1930 -0500");
        assert_eq!(shown("HHmm", Some("UTC")).unwrap(), "0030");
        assert!(shown("HH", Some("Mars/Olympus")).is_err());
    }
}
