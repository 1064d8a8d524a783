//! What `unskew serve` is told beside its file.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{Address, Listen};
use super::duration::parse_duration;
use super::processing::Mode;

/// Flags; each wins over its key in the file.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Flags {
    /// What to do with spans [key: processors.unskew.mode; observe unless given]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// What to correct by: the output folder of `fix`, or a file of `unskew models` [key: processors.unskew.models]
    #[arg(long, value_name = "DIR|FILE")]
    pub models: Option<PathBuf>,
    /// How long a clock's model holds behind its last reading [key: processors.unskew.models_max_age; 1h unless given]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub models_max_age: Option<Duration>,
    /// A clock whose spans pass as they are; several times or with commas [key: processors.unskew.leave_alone]
    #[arg(long, value_name = "CLOCK", value_delimiter = ',')]
    pub leave_alone: Vec<String>,
    /// Leave a clock that is further off than this alone [key: processors.unskew.max_correction; 24h unless given]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_correction: Option<Duration>,
    /// Memory of requests that wait for the next hop [key: processors.unskew.max_in_flight_mib; 64 unless given]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4095))]
    pub max_in_flight_mib: Option<u64>,
    /// Refuse metrics and logs rather than pass them on [key: processors.unskew.traces_only]
    #[arg(long)]
    pub traces_only: bool,
    /// Record each request that was acknowledged below this folder, and have `fix` write the tables of each window there;
    /// without a next hop, receive for that alone [key: processors.unskew.out]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How long a window is [key: processors.unskew.window; 10m unless given]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub window: Option<Duration>,
    /// Spans after which the next window begins earlier [key: processors.unskew.window_spans; 1000000 unless given]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub window_spans: Option<u64>,
    /// How long before and after a window requests count as its context, so that traces across its ends keep their calls; its
    /// tables are made so long after it [key: processors.unskew.grace; 30s unless given]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub grace: Option<Duration>,
    /// How long a window's tables stay [key: processors.unskew.keep; 168h unless given]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub keep: Option<Duration>,
    /// What tables and requests that have none yet may take on disk: beyond it the oldest tables go, and where there are only
    /// requests, nothing more is recorded, or without a next hop taken
    /// [key: processors.unskew.keep_gib; 20 unless given]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub keep_gib: Option<u64>,
    /// The clock that all others are measured against, for `fix` [key: processors.unskew.reference]
    #[arg(long, value_name = "CLOCK")]
    pub reference: Option<String>,
    /// Metadata of requests to pass on; those that differ in it are never merged [key: processors.unskew.metadata_keys]
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub metadata_keys: Vec<String>,
    /// Let pass unmoved what is more out of order after it was moved than before, three minutes long: a clock, or all of them
    /// [key: processors.unskew.auto_observe; true unless given]
    #[arg(long, value_name = "BOOL")]
    pub auto_observe: Option<bool>,
    /// How long to finish what was begun after SIGTERM [key: processors.unskew.drain_timeout; 20s unless given]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub drain_timeout: Option<Duration>,
    /// The next hop: grpc://HOST:PORT or grpcs:// (TLS) for gRPC, http:// or https:// for HTTP, but for port 4317 without
    /// a path, which is gRPC [instead of: exporters]
    #[arg(long, value_name = "URL")]
    pub forward: Option<String>,
    /// Where to receive OTLP over gRPC, or `none` [key: receivers.otlp.protocols.grpc.endpoint; localhost:4317 unless given]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc: Option<Listen>,
    /// Where to receive OTLP over HTTP, or `none` [key: receivers.otlp.protocols.http.endpoint; localhost:4318 unless given]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<Listen>,
    /// Where to answer /metrics, /healthz, /readyz and /clocks [key: service.telemetry.metrics.address; localhost:9464
    /// unless given]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<Address>,
}
