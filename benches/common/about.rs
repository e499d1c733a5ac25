//! What a figure has to say of the day and the machine.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

/// The architecture, how many processors this process may use, and whether they are virtual.
pub(super) fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let is_virtual = info.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let (kind, plural) = (if is_virtual { "virtual " } else { "" }, if processors == 1 { "" } else { "s" });
    format!("{}, {processors} {kind}processor{plural}", std::env::consts::ARCH)
}

/// Today, by UTC.
pub(super) fn date() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).expect("a later day").as_secs() / 86_400;
    // Years that begin in March have their odd day last; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (year, date) = (era * 400 + year + u64::from(month > 9), day - (153 * month + 2) / 5 + 1);
    format!("{year}-{:02}-{date:02}", if month < 10 { month + 3 } else { month - 9 })
}
