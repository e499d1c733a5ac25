//! Transparent-proxy rules for the Kuma service mesh: modelled, rendered, and installed.
//!
//! A transparent proxy makes the kernel send a workload's TCP and DNS traffic through the sidecar
//! that runs beside it. This crate turns Kuma's configuration of it into rules, and
//! installs them.
//!
//! ```text
//!  text (YAML, JSON, environment, flags)
//!    │ parse = validate
//!    ▼
//!  Config ──┐
//!           ├── policy::plan ──▶ Plan { v4, v6, notes }
//!  Facts  ──┘                      │
//!    ▲                             ├─▶ render    iptables-restore text, nft script, firewalld XML, JSON,
//!    │                             │               pictures as Mermaid and DOT
//!    │                             ├─▶ simulate  a packet → where it ends, and the rules that decided
//!    │ facts::probe                └─▶ engine    installs the rules
//! ```
//!
//! - A [`Config`] is always valid: parsing is validating, and reports every problem at once.
//! - [`Facts`] are data: all that the rules depend on besides the configuration. Only
//!   `facts::probe` reads the host, and only an engine changes it.
//! - A [`Plan`] is the product: typed rules of both families, each with the configuration key that
//!   asked for it.
//! - [`simulate`] says what the kernel would do with a packet, so that rules can be unit-tested.
//!
//! Same inputs, same bytes: planning, rendering and simulating use no clock, no environment and no global state, and nothing
//! logs. Engines use a clock to bound how long they wait. The iptables engine runs the iptables programs; another engine does so only where
//! nothing else can remove an older installation. They are looked for in `PATH`, and get `PATH` and four variables that they read
//! themselves: `XTABLES_LOCKFILE`, `XTABLES_LIBDIR`, `IPTABLES_LIB_DIR` and `IP6TABLES_LIB_DIR`.
//!
//! # Example
//!
//! ```
//! use kumatp::net::Uid;
//! use kumatp::{Config, Facts, policy, render};
//!
//! let mut config = Config::default();
//! config.redirect.inbound.exclude_ports = "22,8000-8100".parse()?;
//! let plan = policy::plan(&config, &Facts::capable_host(Uid::SIDECAR))?;
//! let text = render::iptables::plan(&plan);
//! assert!(text.contains("-p tcp --dport 8000:8100 -j RETURN"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `capi` | yes | the C ABI of `libkumatp.so` |
//! | `yaml` | yes | configurations in YAML; JSON is always read |
//! | `host` | yes | probing and changing a Linux host |
//! | `ebpf` | | the engine that steers sockets by eBPF programs |
//! | `firewalld` | | reading and merging firewalld's `direct.xml` |
//! | `cni` | | the CNI plugin `kumatp-cni` |
//! | `cli` | | the command `kumatp`, with `firewalld` and `ebpf` |
//!
//! A feature adds; it never changes what is there.

#[cfg(all(feature = "cni", target_os = "linux"))]
pub mod cni;
pub mod config;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
mod ebpf;
pub mod engine;
pub mod error;
pub mod facts;
#[cfg(feature = "capi")]
pub mod ffi;
#[cfg(all(feature = "host", target_os = "linux"))]
mod files;
#[cfg(feature = "firewalld")]
pub mod firewalld;
pub mod guide;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod in_force;
pub mod iptables_save;
pub mod model;
mod named;
pub mod net;
pub mod netlink;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod netns;
pub mod nftables;
pub mod policy;
pub mod render;
mod room;
pub mod simulate;
#[cfg(all(feature = "host", target_os = "linux"))]
mod socket_options;
mod sorted;

pub use config::Config;
pub use error::Error;
pub use facts::Facts;
pub use model::Plan;

// The generator of random plans that unit tests share with tests/ names the crate.
#[cfg(test)]
extern crate self as kumatp;
#[cfg(test)]
#[path = "../tests/common/generate.rs"]
mod generate;

#[cfg(all(doctest, feature = "yaml"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "yaml", feature = "host", target_os = "linux"))]
#[doc = include_str!("../docs/pages/how-to/embed.md")]
struct Embed;
