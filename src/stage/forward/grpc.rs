//! OTLP over gRPC to the next hop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::http::uri::{Parts, PathAndQuery};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thread_local::ThreadLocal;
use tonic::Status;

use super::connect::{Connector, connector};
use super::{Failure, Outgoing};
use crate::stage::answer::{self, Accepted, Refusal};
use crate::stage::auth;
use crate::stage::compression::{self, Compression};
use crate::stage::config::NextHop;
use crate::stage::framing::{HEAD_BYTES, Head};
use crate::stage::request::{Encoding, Signal};

/// What stands before a message, and the message: sent without being put together.
type Message = Full<Chain<Bytes, Bytes>>;

pub(super) struct Grpc {
    /// Each thread has its own.
    clients: ThreadLocal<Client<Connector, Message>>,
    connector: Connector,
    uri: Uri,
    compression: Compression,
    headers: HeaderMap,
    reached: AtomicBool,
}

/// Of answers.
const ANSWER_BYTES: usize = 4 << 20;

/// HTTP/2 windows, for answers alone: senders are held back by the other side's.
const WINDOW_BYTES: u32 = 1 << 20;

impl Grpc {
    pub(super) fn to(uri: &Uri, next_hop: &NextHop) -> Result<Self> {
        let mut headers = next_hop.headers.clone();
        if let Some(token) = auth::shown(next_hop.auth.as_ref())? {
            headers.insert(AUTHORIZATION, token);
        }
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-accept-encoding", HeaderValue::from_static(compression::TAKEN));
        if let Some(name) = compression::name(next_hop.compression) {
            headers.insert("grpc-encoding", HeaderValue::from_static(name));
        }
        headers.entry(USER_AGENT).or_insert(OURS);
        Ok(Self {
            clients: ThreadLocal::new(),
            connector: connector(&next_hop.tls, true)?,
            uri: uri.clone(),
            compression: next_hop.compression,
            headers,
            reached: AtomicBool::new(false),
        })
    }

    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) async fn send(&self, outgoing: Outgoing, deadline: Instant) -> Result<Accepted, Failure> {
        debug_assert!(outgoing.encoding == Encoding::Protobuf);
        let signal = outgoing.signal;
        let request = self.request(outgoing, deadline).map_err(|text| Failure::Answered(Refusal::invalid(text)))?;
        let sent = self.client().request(request).await.map_err(|error| Failure::Unreached(causes(&error)))?;
        let answered = answered(sent, signal).await;
        if !matches!(answered, Err(Failure::Unreached(_))) {
            self.reached.store(true, Ordering::Relaxed);
        }
        answered
    }

    fn client(&self) -> &Client<Connector, Message> {
        self.clients.get_or(|| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .http2_only(true)
                .http2_initial_stream_window_size(WINDOW_BYTES)
                .http2_initial_connection_window_size(WINDOW_BYTES)
                .build(self.connector.clone())
        })
    }

    fn request(&self, outgoing: Outgoing, deadline: Instant) -> Result<Request<Message>, String> {
        let message = compression::compress(self.compression, outgoing.bytes).map_err(|error| error.to_string())?;
        let head = Head { is_compressed: self.compression != Compression::None, length: message.len() };
        let head = head.write().ok_or("longer than a message of gRPC may be")?;
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(&head).chain(message)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = method(&self.uri, outgoing.signal).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.extend(outgoing.metadata);
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert("grpc-timeout", timeout(deadline.saturating_duration_since(Instant::now())));
        Ok(request)
    }
}

/// Where a signal's method is called.
fn method(uri: &Uri, signal: Signal) -> Result<Uri, hyper::http::uri::InvalidUriParts> {
    let mut parts = Parts::from(uri.clone());
    parts.path_and_query = Some(PathAndQuery::from_static(signal.method()));
    Uri::from_parts(parts)
}

/// At most eight digits.
fn timeout(left: Duration) -> HeaderValue {
    let (count, unit) = match left.as_millis() {
        millis @ 0..100_000_000 => (millis as u64, 'm'),
        _ => (left.as_secs().min(99_999_999), 'S'),
    };
    HeaderValue::try_from(format!("{count}{unit}")).unwrap_or(HeaderValue::from_static("1S"))
}

/// What an answer says: its status stands behind its message, or alone in its headers.
async fn answered(response: Response<Incoming>, signal: Signal) -> Result<Accepted, Failure> {
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers).filter(|status| status.code() != tonic::Code::Ok) {
        return Err(Failure::Answered(Refusal::of_status(&status)));
    }
    if head.status != StatusCode::OK {
        // From somebody in between, who speaks no gRPC.
        return Err(Failure::Answered(Refusal::of_http(head.status, &head.headers, b"", Encoding::Protobuf)));
    }
    let body = Limited::new(body, ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| Failure::Unreached(causes(error.as_ref())))?;
    let status = body.trailers().and_then(Status::from_header_map);
    let status = status.or_else(|| Status::from_header_map(&head.headers));
    let status = status.unwrap_or_else(|| Status::unknown("an answer without a status"));
    if status.code() != tonic::Code::Ok {
        return Err(Failure::Answered(Refusal::of_status(&status)));
    }
    let compression = compression::named(head.headers.get("grpc-encoding").map(HeaderValue::as_bytes));
    // It was accepted; a message that cannot be read says no more.
    Ok(message(body.to_bytes(), compression).and_then(|message| answer::accepted(&message, Encoding::Protobuf, signal)))
}

fn message(mut body: Bytes, compression: Option<Compression>) -> Option<Bytes> {
    let head = Head::read(*body.first_chunk::<HEAD_BYTES>()?)?;
    body.advance(HEAD_BYTES);
    if !head.is_compressed {
        return Some(body);
    }
    compression::decompress(compression?, body, ANSWER_BYTES, |_| Ok(())).ok()
}

pub(super) const OURS: HeaderValue =
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_has_at_most_eight_digits() {
        for (left, text) in [(1_500, "1500m"), (0, "0m"), (99_999_999, "99999999m"), (100_000_000, "100000S")] {
            assert_eq!(timeout(Duration::from_millis(left)), text);
        }
        assert_eq!(timeout(Duration::MAX), "99999999S");
    }
}
