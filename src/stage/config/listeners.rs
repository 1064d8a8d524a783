//! Where OTLP is received: `receivers.otlp`.

use std::time::Duration;

use super::address::{Address, Listen};
use super::answers;
use super::auth::{Bearer, Extensions};
use super::flags::Flags;
use super::read::Section;
use super::tls::ServerTls;

/// Where OTLP is received; at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    pub grpc: Option<Grpc>,
    pub http: Option<Http>,
}

/// OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// Default localhost:4317.
    pub address: Address,
    pub tls: Option<ServerTls>,
    /// The largest message, also after decompression, in bytes; default 64 MiB.
    pub max_message_bytes: u64,
    /// Per connection; default none.
    pub max_concurrent_streams: Option<u32>,
    pub keepalive: Keepalive,
    /// Whether metadata that `metadata_keys` names is taken from requests; default true.
    pub include_metadata: bool,
    /// Whom to answer; everybody unless given.
    pub auth: Option<Bearer>,
}

/// OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Default localhost:4318.
    pub address: Address,
    pub tls: Option<ServerTls>,
    /// The largest body, also after decompression, in bytes; default 64 MiB.
    pub max_body_bytes: u64,
    /// Whether metadata that `metadata_keys` names is taken from requests; default true.
    pub include_metadata: bool,
    pub auth: Option<Bearer>,
    /// For a request's head, and again for its body; default 1 min; none where 0 is given.
    pub read_timeout: Option<Duration>,
    /// For a request's head; default 1 min; none where 0 is given.
    pub read_header_timeout: Option<Duration>,
    /// Between two requests of a connection; default 1 min; none where 0 is given.
    pub idle_timeout: Option<Duration>,
}

/// How long gRPC connections are kept, with the defaults of Go's server. None: for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Without a call; default for ever.
    pub max_connection_idle: Option<Duration>,
    /// Since it was opened; default for ever. Give one (a minute), or new replicas get no traffic.
    pub max_connection_age: Option<Duration>,
    /// For calls to end, beyond the age; default for ever.
    pub max_connection_age_grace: Option<Duration>,
    /// Without a word, until the client is pinged; default 2 h.
    pub time: Duration,
    /// For its answer; default 20 s.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            max_connection_idle: None,
            max_connection_age: None,
            max_connection_age_grace: None,
            time: Duration::from_hours(2),
            timeout: Duration::from_secs(20),
        }
    }
}

/// OTLP recommends it for requests, also after decompression.
const MESSAGE_BYTES: u64 = 64 << 20;

/// That of a Collector's HTTP servers for heads and idle connections. Bodies have it too, or one who sends a byte a
/// minute holds memory for days.
const PATIENCE: Duration = Duration::from_mins(1);

impl Default for Grpc {
    fn default() -> Self {
        Self {
            address: Address::localhost(4317),
            tls: None,
            max_message_bytes: MESSAGE_BYTES,
            max_concurrent_streams: None,
            keepalive: Keepalive::default(),
            include_metadata: true,
            auth: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            address: Address::localhost(4318),
            tls: None,
            max_body_bytes: MESSAGE_BYTES,
            include_metadata: true,
            auth: None,
            read_timeout: Some(PATIENCE),
            read_header_timeout: Some(PATIENCE),
            idle_timeout: Some(PATIENCE),
        }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self { grpc: Some(Grpc::default()), http: Some(Http::default()) }
    }
}

impl Listeners {
    /// One receiver; without protocols it has both.
    pub(super) fn read(mut receiver: Section<'_>, extensions: &Extensions) -> Self {
        let Some(mut protocols) = receiver.section("protocols") else { return Self::default() };
        if !protocols.has("grpc") && !protocols.has("http") {
            return Self::default();
        }
        Self {
            grpc: protocols.section("grpc").map(|section| Grpc::read(section, extensions)),
            http: protocols.section("http").map(|section| Http::read(section, extensions)),
        }
    }

    /// A flag moves a listener, adds one, or takes one away.
    pub(super) fn set(&mut self, flags: &Flags) {
        match &flags.grpc {
            Some(Listen::At(address)) => self.grpc.get_or_insert_default().address = address.clone(),
            Some(Listen::Nowhere) => self.grpc = None,
            None => {}
        }
        match &flags.http {
            Some(Listen::At(address)) => self.http.get_or_insert_default().address = address.clone(),
            Some(Listen::Nowhere) => self.http = None,
            None => {}
        }
    }

    /// Whether one is told to take no metadata from requests.
    pub(super) fn excludes_metadata(&self) -> bool {
        self.grpc.as_ref().is_some_and(|grpc| !grpc.include_metadata)
            || self.http.as_ref().is_some_and(|http| !http.include_metadata)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'static str, &Address)> {
        let grpc = self.grpc.as_ref().map(|grpc| ("gRPC", &grpc.address));
        grpc.into_iter().chain(self.http.as_ref().map(|http| ("HTTP", &http.address)))
    }
}

impl Grpc {
    fn read(mut section: Section<'_>, extensions: &Extensions) -> Self {
        section.refuse(answers::GRPC_LISTENER);
        if section.parsed("transport", |text| Ok(text == "tcp")) == Some(false) {
            section.found.not_supported(section.path("transport"), answers::TRANSPORT);
        }
        let default = Self::default();
        Self {
            address: section.parsed("endpoint", str::parse).unwrap_or(default.address),
            tls: section.section("tls").and_then(ServerTls::read),
            max_message_bytes: section.mib("max_recv_msg_size_mib").unwrap_or(default.max_message_bytes),
            max_concurrent_streams: section
                .count("max_concurrent_streams", u32::MAX.into())
                .and_then(|count| count.try_into().ok()),
            keepalive: section.section("keepalive").map(Keepalive::read).unwrap_or_default(),
            include_metadata: section.flag("include_metadata").unwrap_or(true),
            auth: extensions.named_by(&mut section),
        }
    }
}

impl Keepalive {
    fn read(mut section: Section<'_>) -> Self {
        section.refuse(answers::KEEPALIVE);
        let mut keepalive = Self::default();
        if let Some(mut server) = section.section("server_parameters") {
            let some = |length: Option<Duration>| length.filter(|length| !length.is_zero());
            keepalive.max_connection_idle = some(server.duration("max_connection_idle"));
            keepalive.max_connection_age = some(server.duration("max_connection_age"));
            keepalive.max_connection_age_grace = some(server.duration("max_connection_age_grace"));
            keepalive.time = some(server.duration("time")).unwrap_or(keepalive.time);
            keepalive.timeout = some(server.duration("timeout")).unwrap_or(keepalive.timeout);
        }
        keepalive
    }
}

impl Http {
    fn read(mut section: Section<'_>, extensions: &Extensions) -> Self {
        section.refuse(answers::HTTP_LISTENER);
        let default = Self::default();
        let mut within = |key, default: Option<Duration>| match section.duration(key) {
            Some(length) => Some(length).filter(|length| !length.is_zero()),
            None => default,
        };
        Self {
            read_timeout: within("read_timeout", default.read_timeout),
            read_header_timeout: within("read_header_timeout", default.read_header_timeout),
            idle_timeout: within("idle_timeout", default.idle_timeout),
            address: section.parsed("endpoint", str::parse).unwrap_or(default.address),
            tls: section.section("tls").and_then(ServerTls::read),
            max_body_bytes: section.count("max_request_body_size", u32::MAX.into()).unwrap_or(default.max_body_bytes),
            include_metadata: section.flag("include_metadata").unwrap_or(true),
            auth: extensions.named_by(&mut section),
        }
    }
}
