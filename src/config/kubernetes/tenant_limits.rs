//! What a tenant may not decide.
//!
//! A tenant writes the pod's annotations and the ConfigMap of its namespace, but it is the operator's CNI plugin that
//! acts on them, with the operator's privileges and in the host's file system.

use std::time::Duration;

use serde_json::Value;

use crate::error::{InvalidValue, Problem};
use crate::net::Uid;

/// How long an installation may wait, and be retried, by a tenant's wish: five minutes each, the time that kumactl allows
/// for all of it.
const WAIT: u64 = 300;
const RETRIES: u64 = 20;
const SLEEP: Duration = Duration::from_secs(15);

/// The problem with a tenant's `value` for `key`, unless it only repeats what the operator says.
pub(super) fn check(key: &str, value: &Value, operators: &Value, path: &str) -> Option<Problem> {
    if value == operators {
        return None;
    }
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let refuse = |expected: String| Some(InvalidValue::new(text(), expected).at(path));
    let the_operators = || match operators.as_str().map_or_else(|| operators.to_string(), str::to_owned) {
        text if text.is_empty() => "no value".to_owned(),
        text => format!("the operator's value '{text}'"),
    };
    match key {
        "redirect.dns.resolvConfigPath" | "storeFirewalld" => {
            refuse(format!("{}, since a pod may not name files of the host; the system ConfigMap can", the_operators()))
        }
        _ if key.starts_with("iptablesExecutables") => refuse(format!(
            "{}, since a pod may not name programs of the host; the system ConfigMap can",
            the_operators()
        )),
        "dryRun" => refuse(format!("{}, since a dry run would leave the pod without rules", the_operators())),
        "kumaDPUser" => match value.as_str().is_some_and(|user| user.is_empty() || user.parse::<Uid>().is_ok()) {
            true => None,
            false => refuse("a uid, since a pod may not have names of users looked up on the host".to_owned()),
        },
        "wait" if value.as_u64() > Some(WAIT) => refuse(format!("at most {WAIT} seconds in what a pod's owner writes")),
        "retry.maxRetries" if value.as_u64() > Some(RETRIES) => {
            refuse(format!("at most {RETRIES} in what a pod's owner writes"))
        }
        "retry.sleepBetweenRetries" if value.as_str().is_some_and(|text| !is_short(text)) => {
            refuse(format!("at most {} seconds in what a pod's owner writes", SLEEP.as_secs()))
        }
        _ => None,
    }
}

fn is_short(text: &str) -> bool {
    crate::config::wire::parse_duration(text).is_ok_and(|duration| duration <= SLEEP)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refused_unless_the_operator_says_the_same() {
        for (key, value, default) in [
            ("redirect.dns.resolvConfigPath", json!("/etc/shadow"), json!("/etc/resolv.conf")),
            ("storeFirewalld", json!(true), json!(false)),
            ("dryRun", json!(true), json!(false)),
            ("iptablesExecutables.iptables-save", json!("/tmp/evil"), json!("")),
            ("kumaDPUser", json!("root"), json!("")),
            ("wait", json!(301), json!(5)),
            ("retry.maxRetries", json!(21), json!(4)),
            ("retry.sleepBetweenRetries", json!("15.1s"), json!("2s")),
        ] {
            let problem = check(key, &value, &default, "here").unwrap_or_else(|| panic!("{key}"));
            assert_eq!(problem.path, "here");
            assert_eq!(check(key, &value, &value, "here"), None, "{key}");
        }
    }

    #[test]
    fn harmless_values_pass() {
        for (key, value) in [
            ("kumaDPUser", json!("1234")),
            ("kumaDPUser", json!("")),
            ("wait", json!(300)),
            ("retry.maxRetries", json!(0)),
            ("retry.sleepBetweenRetries", json!("15s")),
            ("redirect.outbound.enabled", json!(false)),
            ("log.enabled", json!(true)),
        ] {
            assert_eq!(check(key, &value, &json!(null), "here"), None, "{key}");
        }
    }
}
