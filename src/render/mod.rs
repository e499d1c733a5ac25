//! Text in other syntaxes, one module each. All pure.

pub mod dot;
pub mod firewalld;
pub mod iptables;
pub mod json;
pub mod mermaid;
pub mod nft;

mod picture;
