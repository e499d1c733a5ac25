//! A plan as JSON, for programs.

use crate::model::Plan;

/// The plan as one JSON document, indented, with a line feed at the end. The same plan gives the
/// same text.
///
/// | member | holds |
/// |---|---|
/// | `ipv4`, `ipv6` | the rules of a family; `ipv6` is absent if IPv6 is left out |
/// | `….tables[]` | `name` and `chains[]`, in the order of rendering |
/// | `….chains[]` | `name` and `rules[]` |
/// | `….rules[]` | `placement` (`append`, `insert`), `matches[]`, `target` with its arguments, and, where there is one, `comment` and `origin`, the configuration key that asked for it |
/// | `….matches[]` | `match` (`source`, `destination`, `inInterface`, `outInterface`, `transport`, `owner`, `ctState`) with its arguments and `negated` |
/// | `notes[]` | `severity` (`info`, `warning`), `about`, `text` |
///
/// Members may be added in later versions; those that are there keep their names and meanings.
///
/// ```
/// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
/// let plan = kumatp::policy::plan(&Default::default(), &facts)?;
/// let json: serde_json::Value = serde_json::from_str(&kumatp::render::json::plan(&plan)).unwrap();
/// assert_eq!(json["ipv4"]["tables"][0]["name"], "nat");
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn plan(plan: &Plan) -> String {
    let mut text = serde_json::to_string_pretty(plan).expect("a plan has string keys only");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::facts::Facts;
    use crate::net::Uid;

    #[test]
    fn rules_with_their_parts() {
        let mut config = Config::default();
        config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:80,443:7-9".parse().unwrap()];
        let made = crate::policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&plan(&made)).unwrap();
        let rule = &json["ipv6"]["tables"][0]["chains"][1]["rules"][0];
        let expected = serde_json::json!({
            "placement": "insert",
            "matches": [
                {"match": "transport", "protocol": "tcp", "destination": {"multiport": {"ports": "80,443", "negated": false}}},
                {"match": "owner", "owner": {"uid": "7-9"}, "negated": false},
            ],
            "target": "return",
            "comment": "kuma/mesh/transparent/proxy/let these users reach these ports without the sidecar",
            "origin": "redirect.outbound.excludePortsForUIDs[0]",
        });
        assert_eq!(rule, &expected);
    }
}
