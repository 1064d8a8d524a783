//! What we look at in a span: enough to pair it and to say whose clock stamped it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::clock::LocalTime;

/// 16 bytes, big-endian. Zero: absent or not 16 bytes long, and never paired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

/// 8 bytes, big-endian. Zero: absent or not 8 bytes long, and never paired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

impl TraceId {
    /// From the bytes of an OTLP id; zero unless there are exactly 16.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.try_into().map_or(0, u128::from_be_bytes))
    }
}

impl SpanId {
    /// From the bytes of an OTLP id; zero unless there are exactly 8.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.try_into().map_or(0, u64::from_be_bytes))
    }
}

/// OTLP's `SpanKind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanKind {
    #[default]
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

impl SpanKind {
    /// From OTLP's number; unknown numbers are `Unspecified`.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// The name in our tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::Internal => "INTERNAL",
            Self::Server => "SERVER",
            Self::Client => "CLIENT",
            Self::Producer => "PRODUCER",
            Self::Consumer => "CONSUMER",
        }
    }
}

/// How a call travels; part of its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    #[default]
    Other,
    Http,
    Grpc,
    Messaging,
}

impl Protocol {
    /// The name in our tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Messaging => "messaging",
        }
    }
}

/// The attributes of a span that decide what its times are evidence of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallFacts {
    pub protocol: Protocol,
    /// `messaging.operation.type` (older: `messaging.operation`) is `process`: the start follows the publish.
    pub processes_message: bool,
    /// The client says that it stopped waiting (cancelled, timed out): its end follows no response.
    pub gave_up: bool,
    /// A response status was seen on an HTTP call.
    pub has_http_status: bool,
}

/// An attribute's value, as far as [`CallFacts`] looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AttributeValue<'a> {
    Str(&'a [u8]),
    Int(i64),
    Other,
}

impl CallFacts {
    /// Whether an attribute of this name says anything; most do not, and their values need not be looked at.
    #[inline]
    pub fn is_telling(key: &[u8]) -> bool {
        match key.first() {
            Some(b'h') => key.starts_with(b"http."),
            Some(b'r') => key.starts_with(b"rpc."),
            Some(b'm') => key.starts_with(b"messaging."),
            Some(b'e') => key == b"error.type",
            _ => false,
        }
    }

    /// Takes one attribute into account. Names old and new, as semantic conventions changed them.
    pub fn learn(&mut self, key: &[u8], value: AttributeValue<'_>) {
        use AttributeValue::{Int, Str};
        match key {
            b"error.type" => {
                if let Str(kind) = value {
                    self.gave_up |= says_gave_up(kind);
                }
            }
            b"messaging.operation.type" | b"messaging.operation" => {
                self.protocol = Protocol::Messaging;
                self.processes_message |= value == Str(b"process");
            }
            b"rpc.grpc.status_code" | b"rpc.response.status_code" | b"rpc.status_code" => {
                self.protocol = Protocol::Grpc;
                self.gave_up |= matches!(value, Int(1 | 4) | Str(b"1" | b"4" | b"CANCELLED" | b"DEADLINE_EXCEEDED"));
            }
            b"http.response.status_code" | b"http.status_code" => {
                self.protocol = self.protocol.max(Protocol::Http);
                self.has_http_status = true;
            }
            _ if key.starts_with(b"rpc.") => self.protocol = self.protocol.max(Protocol::Grpc),
            _ if key.starts_with(b"http.") => self.protocol = self.protocol.max(Protocol::Http),
            _ if key.starts_with(b"messaging.") => self.protocol = Protocol::Messaging,
            _ => {}
        }
    }
}

/// `timeout`, `TimeoutException`, `canceled`, `context.Canceled`, `DEADLINE_EXCEEDED`, `AbortError` …
fn says_gave_up(error_type: &[u8]) -> bool {
    let lower = error_type.to_ascii_lowercase();
    [&b"timeout"[..], b"timedout", b"timed_out", b"cancel", b"deadline", b"abort"]
        .iter()
        .any(|word| lower.windows(word.len()).any(|window| window == *word))
}

/// The compact head of a span: all that pairing keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanHead {
    pub trace: TraceId,
    pub span: SpanId,
    /// `None` for a root (an absent, empty or all-zero parent id).
    pub parent: Option<SpanId>,
    pub kind: SpanKind,
    pub start: LocalTime,
    pub end: LocalTime,
    /// Status code ERROR.
    pub failed: bool,
    pub facts: CallFacts,
    /// A hash of the span's own bytes: two copies of one span have the same.
    pub fingerprint: u64,
}

impl SpanHead {
    /// One of its times is missing or corrupt: never evidence, and never moved.
    pub fn is_broken(&self) -> bool {
        self.start.is_broken() || self.end.is_broken()
    }
}

/// What an earlier run of ours wrote on a span that it moved (DESIGN.md, "Marks").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub clock: Arc<str>,
    pub offset_ns: i64,
    /// The part of the move that put the span in order within its trace; positive: later.
    pub nudge_ns: Option<i64>,
    pub uncertainty_ns: Option<i64>,
    pub correction: Cow<'static, str>,
    pub original_start_unix_nano: Option<i64>,
    pub original_end_unix_nano: Option<i64>,
    /// The span was not moved: it is said what would be taken off.
    pub is_estimate: bool,
}
