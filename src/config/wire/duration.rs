//! Durations as Go writes them: `2s`, `1m30s`, `500ms`.

use std::time::Duration;

use crate::error::InvalidValue;

pub(super) const EXPECTED: &str = "a duration such as 2s, 500ms or 1m30s, or a number of nanoseconds";

/// The longest that Go can hold, about 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration: numbers with units, or a number of nanoseconds without one. Either may be in quotes, which is
/// what kumactl wants of its flag.
pub(in crate::config) fn parse(text: &str) -> Result<Duration, InvalidValue> {
    let trimmed = text.trim();
    let bare = trimmed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(trimmed);
    nanos(bare.strip_prefix('+').unwrap_or(bare))
        .filter(|&nanos| nanos <= MAX_NANOS)
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| InvalidValue::new(text, EXPECTED))
}

fn nanos(text: &str) -> Option<u128> {
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(scale)?)?.checked_add(part(fraction, scale))?;
        rest = after;
    }
    Some(total)
}

/// A decimal fraction of `scale`; what is below one nanosecond is cut, as Go does.
fn part(fraction: &str, scale: u128) -> u128 {
    // More digits than these cannot matter to a scale of at most 3.6e12.
    let kept = &fraction[..fraction.len().min(18)];
    match kept.parse::<u128>() {
        Ok(number) => number * scale / 10u128.pow(kept.len() as u32),
        Err(_) => 0,
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Prints a duration in Go's canonical form.
pub(super) fn print(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |scale: u128, width: usize| {
        let text = format!("{}.{:0width$}", nanos / scale, nanos % scale);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(1_000_000, 6)),
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
            let seconds = format!("{}.{:09}", duration.as_secs() % 60, duration.subsec_nanos());
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_as_go_does() {
        for (text, nanos) in [
            ("2s", 2_000_000_000),
            ("\"2s\"", 2_000_000_000),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100us", 100_000),
            ("100µs", 100_000),
            ("100μs", 100_000),
            ("7ns", 7),
            ("1.9ns", 1),
            ("0", 0),
            ("2000000000", 2_000_000_000),
            (" +1h0m1s ", 3_601_000_000_000),
        ] {
            assert_eq!(parse(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "banana",
            "2",
            "-1s",
            "2 s",
            "s",
            ".s",
            "1.5",
            "2d",
            "\"2s",
            "9999999999h",
            "99999999999999999999",
            "1e3s",
        ] {
            // A number without a unit is one of nanoseconds.
            assert_eq!(parse(text).is_ok(), text == "2", "{text}");
            if let Err(error) = parse(text) {
                assert_eq!(error.value(), text);
            }
        }
    }

    #[test]
    fn printed_as_go_does() {
        for text in ["2s", "500ms", "1m30s", "1h30m0s", "100µs", "1.5ms", "7ns", "1.000000001s", "0s", "100h0m0.25s"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
    }
}
