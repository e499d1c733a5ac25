//! The iptables engine.

mod locate;
mod program;
