//! Transparent-proxy rules for the Kuma service mesh.

pub mod config;
pub mod engine;
pub mod error;
pub mod facts;
#[cfg(feature = "firewalld")]
pub mod firewalld;
pub mod model;
pub mod net;
pub mod policy;
pub mod render;
pub mod save;

pub use config::Config;
pub use error::Error;
pub use facts::Facts;
pub use model::Plan;
