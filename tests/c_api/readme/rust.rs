//! The integration in Rust, as the book shows it.

use kumatp::config::{Config, Format};
use kumatp::engine::{Engine, netlink::Netlink};
use kumatp::{Error, facts, policy};

pub(super) fn main() -> Result<(), Error> {
    let text = "{ kumaDPUser: '5678', redirect: { inbound: { excludePorts: [22] } } }";
    let config = Config::parse(text, Format::Yaml)?;
    let engine = Netlink::default();
    let facts = facts::probe(&policy::facts_needed(&config), engine.abilities(&config.options())?)?;
    let plan = policy::plan(&config, &facts)?;
    let report = engine.apply(&plan)?;
    println!("{}", report.steps.join("\n"));
    Ok(())
}
