//! One call that crossed two clocks, with its four readings.

use serde::{Deserialize, Serialize};

use super::LocalTime;

/// A clock's place in the list of clocks, which is sorted by key, so that it depends on no order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClockId(pub u32);

/// Behind the protocol of calls whose client span is missing: a server directly under a server.
pub const WITHOUT_CLIENT: &str = " without client span";

/// What kind of call it is: calls of one class are timed alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallClass {
    pub client_service: String,
    pub server_service: String,
    /// `http`, `grpc`, `messaging`, `other`; [`WITHOUT_CLIENT`] may stand behind it.
    pub protocol: String,
}

/// A pair of clocks that exchange, and the class of their calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    pub client: ClockId,
    pub server: ClockId,
    /// Index into the sorted list of classes.
    pub class: u32,
}

/// Which of an exchange's inequalities count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Use {
    /// Request and response: −b ≤ x ≤ f.
    TwoSided,
    /// The request only: x ≤ f.
    ForwardOnly,
    /// Neither; the reason is told in `exchanges.parquet`.
    Neither,
}

/// One call from a client to a server, each reading by its own host's clock.
///
/// With x = offset(server) − offset(client): f = out + x, b = back − x, and as no delay is negative −b ≤ x ≤ f
/// (RFC 5905 §8 has the same four readings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Stable across shards and re-delivery: a hash of the server span's ids.
    pub id: u64,
    pub link: Link,
    pub request_sent: LocalTime,
    pub request_received: LocalTime,
    pub response_sent: LocalTime,
    pub response_received: LocalTime,
    /// The client's start was floored to a multiple of this many ns, and its end with it; 1 when exact.
    pub client_quantum_ns: u32,
    pub server_quantum_ns: u32,
    pub counts: Use,
}

impl Exchange {
    /// f = T2 − T1, in ns: the request's delay plus x.
    pub fn forward_ns(&self) -> i64 {
        self.request_received - self.request_sent
    }

    /// b = T4 − T3, in ns: the response's delay less x.
    pub fn backward_ns(&self) -> i64 {
        self.response_received - self.response_sent
    }

    /// δ = f + b, in ns: what the two legs took together, whatever the clocks say. Negative when the client
    /// did not wait for the response.
    pub fn round_trip_delay_ns(&self) -> i64 {
        self.forward_ns().saturating_add(self.backward_ns())
    }

    /// θ = (f − b)/2, in ns: NTP's offset of the server's clock over the client's, off by half of out − back.
    pub fn offset_ns(&self) -> f64 {
        (self.forward_ns() as f64 - self.backward_ns() as f64) / 2.0
    }
}
