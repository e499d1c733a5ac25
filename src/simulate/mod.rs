//! What the kernel would do with a packet, and which rule decides.

mod packet;
mod text;

pub use packet::{AnyPacket, Direction, IpProtocol, Packet, Socket, Tracking};
