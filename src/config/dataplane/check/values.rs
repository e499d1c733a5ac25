//! Texts that have a form: numbers, durations, times, addresses and the names of Kubernetes.

use std::net::IpAddr;

use crate::config::wire::{Node, parse_duration};

/// A whole number of 32 bits. In quotes it may have blanks around it; with a decimal point it is none.
pub(in crate::config::dataplane) fn number(node: &Node) -> Option<u32> {
    let text = match node {
        Node::Number(text) => text,
        Node::Text(text) => text.trim_matches([' ', '\t', '\n', '\r']),
        _ => return None,
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text.len() == 1 || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && canonical)
}

/// A duration as Go writes them, which has a sign or not, and a unit behind each number: `1m30s`, `-1s`, `0`.
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    // Numbers without a unit, quotes and blanks are for configurations only.
    let plain = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') && rest.ends_with(char::is_alphabetic);
    if !plain {
        return None;
    }
    let nanoseconds = i64::try_from(parse_duration(rest).ok()?.as_nanos()).ok()?;
    Some(if negative { -nanoseconds } else { nanoseconds })
}

/// Whether the text is a time as RFC 3339 has it.
pub(super) fn is_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let (clock, zone) = match time.strip_suffix('Z') {
        Some(clock) => (clock, None),
        None => match time.rfind(['+', '-']) {
            Some(at) => (&time[..at], Some(&time[at + 1..])),
            None => return false,
        },
    };
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let fraction = fraction.is_none_or(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let zone = zone.is_none_or(|zone| parts(zone, ':', &[(2, 0, 24), (2, 0, 60)]).is_some());
    let date = parts(date, '-', &[(4, 0, 9_999), (2, 1, 12), (2, 1, 31)]).is_some_and(|date| {
        let (year, leap) = (date[0], date[0] % 4 == 0 && (date[0] % 100 != 0 || date[0] % 400 == 0));
        let days = match date[1] {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        year <= 9_999 && date[2] <= days
    });
    date && parts(clock, ':', &[(2, 0, 23), (2, 0, 59), (2, 0, 59)]).is_some() && fraction && zone
}

/// The numbers of a text, each with that many digits, and between these two.
fn parts(text: &str, separator: char, of: &[(usize, u32, u32)]) -> Option<Vec<u32>> {
    let found: Vec<_> = text.split(separator).collect();
    let number = |(text, (digits, least, most)): (&&str, &(usize, u32, u32))| {
        let right = text.len() == *digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| right && (*least..=*most).contains(number))
    };
    (found.len() == of.len()).then(|| found.iter().zip(of).map(number).collect()).flatten()
}

/// Whether the text is an IP address. One with a zone, such as `fe80::1%eth0`, is none.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Whether the text is a host name as Kuma takes one: parts of letters, digits, `_` and `-`, none of which begins with
/// `-` or is longer than 63; one `.` or `_` may follow.
pub(super) fn is_host(text: &str) -> bool {
    let part = |part: &str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (1..=63).contains(&part.len())
            && part.bytes().next().is_some_and(word)
            && part.bytes().all(|byte| word(byte) || byte == b'-')
    };
    let name = |text: &str| text.split('.').all(part);
    let length = text.bytes().filter(|byte| *byte != b'.').count();
    length <= 255 && (name(text) || text.strip_suffix(['.', '_']).is_some_and(name))
}

/// Whether the text can be the key of a label: a name of at most 63 characters, behind a domain and a `/` or not.
pub(in crate::config::dataplane) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_name(key),
        Some((domain, name)) => is_subdomain(domain) && is_label_name(name),
    }
}

/// Whether the text can be the value of a label.
pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_name(value)
}

fn is_label_name(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 63
        && ends(name.bytes().next())
        && ends(name.bytes().next_back())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Whether the text is a name as Kubernetes has them: RFC 1123, lowercase, parts separated by dots.
pub(in crate::config::dataplane) fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().copied().is_some_and(inner)
                && bytes.last().copied().is_some_and(inner)
                && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
        })
}

/// Whether the text is a label of a host name: RFC 1035, lowercase.
pub(super) fn is_dns_label(name: &str) -> bool {
    name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('.') && is_subdomain(name)
}

/// Whether the text can be the target of a request: a path from `/`, or an address with a scheme.
pub(super) fn is_request_target(text: &str) -> bool {
    let scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let absolute = text.starts_with('/') || text.split_once("://").is_some_and(|(before, _)| scheme(before));
    let escapes = text
        .split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    absolute && escapes && !text.bytes().any(|byte| byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let text = |text: &str| number(&Node::Text(text.to_owned()));
        let plain = |text: &str| number(&Node::Number(text.to_owned()));
        assert_eq!(
            (plain("0"), plain("4294967295"), text("8080"), text(" 80\n")),
            (Some(0), Some(u32::MAX), Some(8080), Some(80))
        );
        for wrong in ["", "-1", "+1", "1.0", "1e3", "4294967296", "080", "00", "http", "1 2", "0x10", "null"] {
            assert_eq!((text(wrong), plain(wrong)), (None, None), "{wrong}");
        }
        assert_eq!(plain(" 1"), None);
        assert_eq!(number(&Node::Bool(true)), None);
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("-1ms", -1_000_000),
            ("+1m0.5s", 60_500_000_000),
            (".5s", 500_000_000),
        ] {
            assert_eq!(nanoseconds(text), Some(expected), "{text}");
        }
        for wrong in ["", "1", "-", "s", "1s ", " 1s", "\"1s\"", "1x", "1d", "--1s", "+-1s", "9999999h"] {
            assert_eq!(nanoseconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times() {
        for right in [
            "2026-01-01T00:00:00Z",
            "2024-02-29T23:59:59.123456789+01:00",
            "0001-01-01T00:00:00Z",
            "2026-01-01T00:00:00-23:59",
        ] {
            assert!(is_time(right), "{right}");
        }
        for wrong in [
            "",
            "2026-01-01",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-1-1T00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01 00:00:00Z",
            "é",
        ] {
            assert!(!is_time(wrong), "{wrong}");
        }
    }

    #[test]
    fn hosts() {
        for right in [
            "web.example.com",
            "web.",
            "a",
            "_a",
            "a_",
            "a-",
            "300.300.300.300",
            "1.2",
            "web_",
            &"a".repeat(63),
            &format!("{}_", "a".repeat(63)),
        ] {
            assert!(is_host(right), "{right}");
        }
        for wrong in [
            "",
            ".",
            "..",
            "-a",
            "a..b",
            ".a",
            "a:80",
            "192.0.2.7/24",
            "a b",
            "é",
            "fe80::1%eth0",
            "a.-b",
            "a.._",
            &"a".repeat(65),
            &"a.".repeat(256),
        ] {
            assert!(!is_host(wrong), "{wrong}");
        }
        assert!(is_address("2001:db8::7") && is_address("::ffff:192.0.2.1"));
        for wrong in ["", "192.0.2.07", "192.0.2", "fe80::1%eth0", " 192.0.2.1", "[::1]", "web"] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }

    #[test]
    fn labels() {
        for right in ["a", "kuma.io/mesh", "A_b.c-d", "x.y/Z", &"a".repeat(63)] {
            assert!(is_label_key(right), "{right}");
        }
        for wrong in ["", "/", "a/", "/a", "a/b/c", "a b!", "-a", "a-", "A/b", "é", &"a".repeat(64)] {
            assert!(!is_label_key(wrong), "{wrong}");
        }
        assert!(is_label_value("") && is_label_value("A.b_c-1") && !is_label_value("a/b") && !is_label_value("_a"));
        assert!(
            is_dns_label("web-1")
                && !is_dns_label("1web")
                && !is_dns_label("a.b")
                && !is_dns_label("Web")
                && !is_dns_label("")
        );
    }

    #[test]
    fn names() {
        for good in ["a", "a-b.c", "0", &"a".repeat(253)] {
            assert!(is_subdomain(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a..b", ".a", "a_b", "first$-.kuma", "é", &"a".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn request_targets() {
        for right in ["/", "/healthz?x=1", "http://a/b", "/a%20b", "/a b"] {
            assert!(is_request_target(right), "{right}");
        }
        for wrong in ["", "healthz", "8080/healthz", "/a%2", "/a%zz", "/\n", "://a", "1a://b"] {
            assert!(!is_request_target(wrong), "{wrong}");
        }
    }
}
