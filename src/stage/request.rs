//! One request, whichever way it came.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::HeaderMap;

pub use crate::otlp::Encoding;

use super::budget::Claim;

/// What is reported. Traces are looked at; the others pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
    Profiles,
}

impl Signal {
    pub const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::Profiles];

    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Profiles => "profiles",
        }
    }

    /// The gRPC method that takes it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Profiles => "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        }
    }

    /// The HTTP path that takes it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
            Self::Profiles => "/v1development/profiles",
        }
    }

    /// The key of what is rejected, in an answer in JSON.
    pub fn rejected_key(self) -> &'static str {
        match self {
            Self::Traces => "rejectedSpans",
            Self::Metrics => "rejectedDataPoints",
            Self::Logs => "rejectedLogRecords",
            Self::Profiles => "rejectedProfiles",
        }
    }
}

/// One request, decompressed.
#[derive(Debug)]
pub struct Request {
    pub signal: Signal,
    pub encoding: Encoding,
    pub bytes: Bytes,
    /// The metadata that is passed on.
    pub metadata: HeaderMap,
    /// By when the sender wants its answer.
    pub deadline: Instant,
    /// Held until it is answered.
    pub claim: Arc<Claim>,
}

/// The part of some metadata that is passed on.
pub fn listed(headers: &HeaderMap, keys: &[hyper::header::HeaderName]) -> HeaderMap {
    let mut listed = HeaderMap::new();
    for key in keys {
        for value in headers.get_all(key) {
            listed.append(key.clone(), value.clone());
        }
    }
    listed
}
