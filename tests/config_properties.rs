//! What holds of every configuration and of every text.

#[path = "common/problems.rs"]
mod problems;

use std::path::PathBuf;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use kumatp::config::{Config, Format, GidExclusion, Key, Layers, UidExclusion, VirtualNetwork};
use kumatp::model::{FamilyExecutables, IpFamilyMode, LogLevel};
use kumatp::net::{AnyCidr, Port, PortRange, PortSet};

#[test]
fn a_written_configuration_reads_back_as_itself() {
    arbtest(|u| {
        let config = config(u)?;
        let json = config.to_json();
        assert_eq!(Config::parse(&json, Format::Json).as_ref(), Ok(&config), "{json}");
        #[cfg(feature = "yaml")]
        {
            let yaml = config.to_yaml();
            assert_eq!(Config::parse(&yaml, Format::Yaml).as_ref(), Ok(&config), "{yaml}");
            assert_eq!(Config::parse(&json, Format::Yaml).as_ref(), Ok(&config), "{json}");
        }
        Ok(())
    })
    .budget_ms(3_000);
}

#[test]
fn no_text_makes_the_parser_panic() {
    arbtest(|u| {
        let text = text(u)?;
        for format in formats() {
            if let Err(error) = Config::parse(&text, format) {
                problems::are_told(&error);
            }
        }
        Ok(())
    })
    .budget_ms(3_000);
}

#[test]
fn no_variable_or_flag_makes_the_parser_panic() {
    arbtest(|u| {
        let mut layers = Layers::new();
        let keys: Vec<Key> = Key::all().collect();
        for _ in 0..u.int_in_range(0..=8)? {
            let key = *u.choose(&keys)?;
            let value = text(u)?;
            match (key.environment(), key.flag()) {
                (_, Some(flag)) if u.arbitrary()? => layers.flag(flag, &value),
                (Some(name), _) => layers.environment([(name, value)]),
                _ => layers.flag(&value, &value),
            }
        }
        if let Err(error) = layers.finish() {
            assert!(!error.problems().is_empty());
        }
        Ok(())
    })
    .budget_ms(3_000);
}

fn formats() -> Vec<Format> {
    vec![
        Format::Json,
        #[cfg(feature = "yaml")]
        Format::Yaml,
    ]
}

/// Bytes, or pieces of configurations in any order: the latter get further.
fn text(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(1, 4)? {
        return Ok(String::from_utf8_lossy(u.arbitrary()?).into_owned());
    }
    let mut pieces: Vec<&str> = vec![
        "{",
        "}",
        "[",
        "]",
        ": ",
        ",",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "\"",
        "'",
        "\"redirect\": {",
        "\"wait\": ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "0",
        "65536",
        "-1",
        "1e9",
        "true",
        "yes",
        "null",
        "~",
        "2s",
        "tcp:",
        "*",
        "22-23",
        "10.0.0.1",
        "fd00::/8",
        "br+:",
        ";",
        "iptables:/x",
        "ipv4",
        "|\n",
        ">-\n",
        "#",
        "---\n",
        "\u{feff}",
        "\0",
        "é",
        "%TAG ! !\n",
    ];
    pieces.extend(Key::all().flat_map(|key| key.path().split('.')));
    let mut text = String::new();
    for _ in 0..u.int_in_range(0..=40)? {
        text.push_str(u.choose(&pieces)?);
        if u.ratio(1, 8)? {
            text.push(u.arbitrary()?);
        }
    }
    Ok(text)
}

/// Any configuration that a document can describe.
fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    let mut config = Config::default();
    config.kuma_dp_user = optional(u, word)?;
    config.ip_family_mode = *u.choose(&[IpFamilyMode::DualStack, IpFamilyMode::Ipv4, IpFamilyMode::Required])?;
    let inbound = &mut config.redirect.inbound;
    inbound.enabled = u.arbitrary()?;
    inbound.port = port(u)?;
    inbound.include_ports = ports(u)?;
    inbound.exclude_ports = ports(u)?;
    inbound.exclude_ips = list(u, cidr)?;
    inbound.insert = u.arbitrary()?;
    let outbound = &mut config.redirect.outbound;
    outbound.enabled = u.arbitrary()?;
    outbound.port = port(u)?;
    outbound.include_ports = ports(u)?;
    outbound.include_ips = list(u, cidr)?;
    outbound.exclude_ports = ports(u)?;
    outbound.exclude_ports_for_uids = list(u, |u| Ok(owner(u)?.parse::<UidExclusion>().unwrap()))?;
    outbound.exclude_ports_for_gids = list(u, |u| Ok(owner(u)?.parse::<GidExclusion>().unwrap()))?;
    outbound.exclude_ips = list(u, cidr)?;
    outbound.insert = u.arbitrary()?;
    let dns = &mut config.redirect.dns;
    dns.enabled = u.arbitrary()?;
    dns.capture_all = u.arbitrary()?;
    dns.port = port(u)?;
    dns.skip_conntrack_zone_split = u.arbitrary()?;
    dns.resolv_conf = word(u)?.into();
    config.redirect.vnet = list(u, |u| {
        let interface = *u.choose(&["docker0", "br+", "+", "veth1@if2"])?;
        let net = if u.arbitrary()? { format!("{}/8", u.arbitrary::<std::net::Ipv4Addr>()?) } else { "::1/64".into() };
        Ok(format!("{interface}:{net}").parse::<VirtualNetwork>().unwrap())
    })?;
    config.drop_invalid_packets = u.arbitrary()?;
    config.harden = u.arbitrary()?;
    config.store_firewalld = u.arbitrary()?;
    config.verbose = u.arbitrary()?;
    config.dry_run = u.arbitrary()?;
    config.cni_mode = u.arbitrary()?;
    config.log.enabled = u.arbitrary()?;
    config.log.level = LogLevel::new(u.int_in_range(0..=7)?).unwrap();
    config.wait.seconds = u.arbitrary()?;
    config.wait.interval_micros = u.arbitrary()?;
    config.retry.max_retries = u.arbitrary()?;
    // Mostly short ones, so that all units occur; the longest is Go's.
    let shift = u.int_in_range(1..=63)?;
    config.retry.sleep = Duration::from_nanos(u.arbitrary::<u64>()? >> shift);
    config.comments.disabled = u.arbitrary()?;
    for family in [&mut config.iptables_executables.v4, &mut config.iptables_executables.v6] {
        let FamilyExecutables { tables, save, restore, .. } = family;
        for program in [tables, save, restore] {
            *program = optional(u, word)?.map(PathBuf::from);
        }
    }
    Ok(config)
}

fn optional<'a, T>(u: &mut Unstructured<'a>, make: fn(&mut Unstructured<'a>) -> Result<T>) -> Result<Option<T>> {
    if u.arbitrary()? { make(u).map(Some) } else { Ok(None) }
}

fn list<'a, T>(u: &mut Unstructured<'a>, make: fn(&mut Unstructured<'a>) -> Result<T>) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=3)?).map(|_| make(u)).collect()
}

fn port(u: &mut Unstructured<'_>) -> Result<Port> {
    Ok(Port::new(u.int_in_range(1..=65535)?).unwrap())
}

fn range(u: &mut Unstructured<'_>) -> Result<PortRange> {
    let (a, b) = (port(u)?, port(u)?);
    Ok(if u.arbitrary()? { a.into() } else { PortRange::new(a.min(b), a.max(b)).unwrap() })
}

fn ports(u: &mut Unstructured<'_>) -> Result<PortSet> {
    Ok(list(u, range)?.into_iter().collect())
}

fn cidr(u: &mut Unstructured<'_>) -> Result<AnyCidr> {
    let addr: std::net::IpAddr = u.arbitrary()?;
    let text = if u.arbitrary()? {
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        format!("{addr}/{}", u.int_in_range(0..=longest)?)
    } else {
        addr.to_string()
    };
    Ok(text.parse().unwrap())
}

fn owner(u: &mut Unstructured<'_>) -> Result<String> {
    let protocols = *u.choose(&["", "tcp", "udp", "udp,tcp"])?;
    Ok(format!("{protocols}:{}:{}", ports(u)?, u.int_in_range(0..=4_294_967_294u32)?))
}

/// Text that is not empty, often such that YAML has another meaning for it.
fn word(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(1, 2)? {
        let words = [
            "kuma-dp",
            "5678",
            "0123",
            "0x1F",
            "0o17",
            "1e3",
            "1_000",
            ".5",
            "+1",
            "1:30",
            "yes",
            "no",
            "on",
            "y",
            "true",
            "null",
            "~",
            "- a",
            "a: b",
            "a #b",
            "'",
            "\"",
            " a ",
            "!x",
            "&a",
            "*a",
            "%",
            "@",
            "`",
            "{",
            "[",
            "|",
            ">",
            "?",
            ":",
            "-",
            "---",
            "...",
            "<<",
            "=",
            ".inf",
            ".nan",
            "2001-01-01",
            "é",
            "/usr/sbin/iptables",
            "\u{feff}",
            "\u{2028}",
            "\\",
            "\\n",
        ];
        return Ok((*u.choose(&words)?).to_owned());
    }
    let text: String = u.arbitrary::<&str>()?.chars().filter(|c| !c.is_control()).collect();
    Ok(if text.is_empty() { "x".to_owned() } else { text })
}
