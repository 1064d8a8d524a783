//! The running program between a sender and a next hop that are both ours, on free ports of this machine.
//!
//! Nothing here knows the program but by its command line, its configuration and its sockets.
#![allow(dead_code, unused_imports, reason = "each test program uses a part")]

pub mod certificates;
pub mod client;
pub mod config;
pub mod program;
pub mod sink;
pub mod spans;
pub mod wire;

pub use client::{Reply, Verdict, Via};
pub use config::{Config, Hop};
pub use program::Stage;
pub use sink::{Answer, Sink};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// Paths of the calls that a receiver knows.
pub const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
pub const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
pub const PROFILES: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// A port that nobody listens on, below those that the system gives to callers: no other test's connection takes it
/// before the program does.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    loop {
        let nth = (std::process::id() as u16).wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + nth % COUNT));
        // Bound, and not listened on: a program that is started meanwhile has a copy until it runs, and a copy that listens
        // would keep the port.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        if socket.bind(address).is_ok() {
            return address;
        }
    }
}
