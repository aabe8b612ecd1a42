//! Durations as ISO 8601 writes them (5.5.2.3), as far as they have one length: weeks, days, hours, minutes, seconds.

use chrono::TimeDelta;

use crate::error::{Error, Result};

/// `PT30M`, `P1DT12H`: what was asked for at `field`.
pub(super) fn parse(field: &str, text: &str) -> Result<TimeDelta> {
    read(text).map(TimeDelta::seconds).ok_or_else(|| {
        Error::invalid(
            field,
            "must be a duration of ISO 8601 in weeks, days, hours, minutes and seconds, such as PT30M",
        )
    })
}

fn read(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('P').filter(|rest| rest.len() <= 40)?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let days = sum(date, &[('W', 7 * 86_400), ('D', 86_400)])?;
    days.checked_add(sum(time, &[('H', 3600), ('M', 60), ('S', 1)])?)
}

/// Whole numbers with their units, each at most once, in the order of `units`.
fn sum(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut total = 0_i64;
    for (unit, seconds) in units {
        let Some((number, rest)) = text.split_once(*unit) else { continue };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(*seconds)?)?;
        text = rest;
    }
    text.is_empty().then_some(total)
}

/// The shortest way to write it.
pub(super) fn write(duration: TimeDelta) -> String {
    let seconds = duration.num_seconds();
    let parts = |units: &[(i64, char)], mut rest: i64| {
        let mut text = String::new();
        for (length, unit) in units {
            if rest / length > 0 {
                text.push_str(&format!("{}{unit}", rest / length));
                rest %= length;
            }
        }
        text
    };
    let (days, time) =
        (parts(&[(1, 'D')], seconds / 86_400), parts(&[(3600, 'H'), (60, 'M'), (1, 'S')], seconds % 86_400));
    match (days.is_empty(), time.is_empty()) {
        (true, true) => "PT0S".to_owned(),
        (_, true) => format!("P{days}"),
        (_, false) => format!("P{days}T{time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_iso_8601_has_them() {
        for (text, seconds, shortest) in [
            ("PT30M", 1800, "PT30M"),
            ("PT90S", 90, "PT1M30S"),
            ("P1DT12H", 129_600, "P1DT12H"),
            ("P2W", 1_209_600, "P14D"),
            ("PT0S", 0, "PT0S"),
        ] {
            let read = parse("deadline", text).unwrap();
            assert_eq!((read.num_seconds(), write(read).as_str()), (seconds, shortest), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "P",
            "PT",
            "30m",
            "PT5",
            "PT1.5H",
            "P1M",
            "P1Y",
            "PT-5M",
            "PT5M5M",
            "PT5S5M",
            "P1H",
            "pt5m",
            "PT 5M",
            "PT99999999999999999999S",
            "PT9223372036854775807H",
        ] {
            assert!(parse("deadline", text).is_err(), "{text:?}");
        }
    }
}
