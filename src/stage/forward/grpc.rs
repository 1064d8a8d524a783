//! OTLP over gRPC to the next hop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use tonic::Status;
use tonic::client::Grpc as Client;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use super::connect::connector;
use super::{Failure, Outgoing};
use crate::stage::answer::{self, Accepted, Refusal};
use crate::stage::auth;
use crate::stage::codec::Raw;
use crate::stage::config::{Compression, NextHop};
use crate::stage::request::Encoding;

pub(super) struct Grpc {
    client: Client<Channel>,
    headers: HeaderMap,
    reached: AtomicBool,
}

/// Of answers.
const ANSWER_BYTES: usize = 4 << 20;

/// HTTP/2 windows, for answers alone: senders are held back by the other side's.
const WINDOW_BYTES: u32 = 1 << 20;

impl Grpc {
    pub(super) fn to(uri: &Uri, next_hop: &NextHop) -> Result<Self> {
        let endpoint = Endpoint::from(uri.clone())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .user_agent(USER_AGENT)?;
        let channel = endpoint.connect_with_connector_lazy(connector(&next_hop.tls, true)?);
        let client = Client::new(channel).max_decoding_message_size(ANSWER_BYTES).max_encoding_message_size(usize::MAX);
        let client = match next_hop.compression {
            Compression::None => client,
            Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => client.send_compressed(CompressionEncoding::Zstd),
        };
        let client = client.accept_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Zstd);
        let mut headers = next_hop.headers.clone();
        if let Some(token) = auth::shown(next_hop.auth.as_ref())? {
            headers.insert(AUTHORIZATION, token);
        }
        Ok(Self { client, headers, reached: AtomicBool::new(false) })
    }

    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) async fn send(&self, outgoing: Outgoing, deadline: Instant) -> Result<Accepted, Failure> {
        debug_assert!(outgoing.encoding == Encoding::Protobuf);
        let mut client = self.client.clone();
        let mut metadata = outgoing.metadata;
        for (name, value) in &self.headers {
            metadata.insert(name.clone(), value.clone());
        }
        let mut request = tonic::Request::from_parts(
            MetadataMap::from_headers(metadata),
            hyper::http::Extensions::new(),
            outgoing.bytes,
        );
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        client.ready().await.map_err(|error| Failure::Unreached(causes(&error)))?;
        let path = PathAndQuery::from_static(outgoing.signal.method());
        match client.unary(request, path, Raw).await {
            Ok(response) => {
                self.reached.store(true, Ordering::Relaxed);
                let bytes: Bytes = response.into_inner();
                Ok(answer::accepted(&bytes, Encoding::Protobuf, outgoing.signal))
            }
            Err(status) => Err(self.failure(&status)),
        }
    }

    fn failure(&self, status: &Status) -> Failure {
        // A status that has a cause came from no wire: the connection was not made, or broke.
        if let Some(error) = std::error::Error::source(status) {
            return Failure::Unreached(causes(error));
        }
        self.reached.store(true, Ordering::Relaxed);
        Failure::Answered(Refusal::of_status(status))
    }
}

pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("unskew/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust"));

/// An error with those that it came from.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
