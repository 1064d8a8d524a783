//! Configurations, in the Collector's manner.

use std::net::SocketAddr;
use std::path::Path;

use super::{Sink, free_address};

/// How the program sends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    Grpc,
    Http,
}

pub const HOPS: [Hop; 2] = [Hop::Grpc, Hop::Http];

/// A configuration by what it has beyond the least; keys are written in YAML's flow style, `a: 1, b: {c: d}`.
#[derive(Clone)]
pub struct Config {
    pub grpc_address: SocketAddr,
    pub http_address: SocketAddr,
    pub admin_address: SocketAddr,
    pub next_hop: SocketAddr,
    /// None: no exporter.
    hop: Option<Hop>,
    grpc: String,
    http: String,
    unskew: String,
    exporter: String,
    compression: &'static str,
    exporter_tls: String,
    extensions: String,
}

impl Config {
    pub fn to(sink: &Sink, hop: Hop) -> Self {
        Self::to_address(sink.address, hop)
    }

    pub fn to_address(next_hop: SocketAddr, hop: Hop) -> Self {
        Self { hop: Some(hop), next_hop, ..Self::to_nowhere() }
    }

    /// Without a next hop.
    pub fn to_nowhere() -> Self {
        Self {
            grpc_address: free_address(),
            http_address: free_address(),
            admin_address: free_address(),
            next_hop: free_address(),
            hop: None,
            grpc: String::new(),
            http: String::new(),
            unskew: String::new(),
            exporter: String::new(),
            compression: "none",
            exporter_tls: "insecure: true".to_owned(),
            extensions: String::new(),
        }
    }

    /// Keys of the gRPC receiver.
    pub fn grpc(mut self, keys: &str) -> Self {
        self.grpc += &format!(", {keys}");
        self
    }

    /// Keys of the HTTP receiver.
    pub fn http(mut self, keys: &str) -> Self {
        self.http += &format!(", {keys}");
        self
    }

    /// Keys of both receivers.
    pub fn receivers(self, keys: &str) -> Self {
        self.grpc(keys).http(keys)
    }

    /// Keys of the processor.
    pub fn unskew(mut self, keys: &str) -> Self {
        let comma = if self.unskew.is_empty() { "" } else { ", " };
        self.unskew += &format!("{comma}{keys}");
        self
    }

    pub fn correcting_by(self, models: &Path) -> Self {
        self.unskew(&format!("mode: correct, models: {}", quoted(models)))
    }

    /// Keys of the exporter.
    pub fn exporter(mut self, keys: &str) -> Self {
        self.exporter += &format!(", {keys}");
        self
    }

    pub fn compression(mut self, name: &'static str) -> Self {
        self.compression = name;
        self
    }

    /// The exporter's `tls` instead of `insecure: true`.
    pub fn exporter_tls(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.exporter_tls);
        self
    }

    /// A token that every request has to carry.
    pub fn token(mut self, token: &str) -> Self {
        self.extensions = format!("bearertokenauth: {{token: \"{token}\"}}");
        self.receivers("auth: {authenticator: bearertokenauth}")
    }

    pub fn text(&self) -> String {
        let Self { grpc_address, http_address, admin_address, next_hop, .. } = self;
        let secure = !self.exporter_tls.contains("insecure: true");
        let exporters = |exporter: &str, endpoint: &str| {
            let Self { exporter_tls, compression, exporter: keys, .. } = self;
            format!(
                "exporters: {{{exporter}: {{endpoint: \"{endpoint}\", tls: {{{exporter_tls}}}, \
                    compression: {compression}{keys}}}}}\n"
            )
        };
        let (exporter, exporters) = match self.hop {
            Some(Hop::Grpc) => ("otlp", exporters("otlp", &next_hop.to_string())),
            Some(Hop::Http) => {
                let scheme = if secure { "https" } else { "http" };
                ("otlphttp", exporters("otlphttp", &format!("{scheme}://{next_hop}")))
            }
            None => ("", String::new()),
        };
        let (extensions, used) = match self.extensions.as_str() {
            "" => (String::new(), ""),
            some => (format!("extensions: {{{some}}}\n"), "extensions: [bearertokenauth], "),
        };
        format!(
            "receivers: {{otlp: {{protocols: {{\
                grpc: {{endpoint: \"{grpc_address}\"{}}}, http: {{endpoint: \"{http_address}\"{}}}}}}}}}\n\
             processors: {{unskew: {{{}}}}}\n\
             {exporters}{extensions}\
             service: {{{used}pipelines: {{traces: {{receivers: [otlp], processors: [unskew], exporters: [{exporter}]}}}}, \
                telemetry: {{metrics: {{address: \"{admin_address}\"}}, logs: {{level: info}}}}}}\n",
            self.grpc, self.http, self.unskew
        )
    }
}

/// A path as YAML text.
pub fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
