//! OTLP over gRPC: three methods whose messages are taken as bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request as HttpRequest;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};

use super::body::Metered;
use super::{Answer, Service};
use crate::stage::answer::{Accepted, Refusal, to_protobuf};
use crate::stage::auth::Gate;
use crate::stage::compression::{self, Compression};
use crate::stage::config;
use crate::stage::framing::Head;
use crate::stage::metrics::{Outcome, Transport};
use crate::stage::relay::Relay;
use crate::stage::request::{Encoding, Request, Signal, listed};

/// What is asked of one sender's calls.
#[derive(Clone)]
pub struct GrpcService {
    relay: Arc<Relay>,
    gate: Arc<Gate>,
    most: usize,
    passes_metadata: bool,
}

/// For a sender that says nothing of its time-out: that of a Collector's gRPC exporter.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Whatever a sender says: what it holds of the budget is held from all others.
const MOST_PATIENCE: Duration = Duration::from_mins(1);

impl GrpcService {
    pub fn of(relay: Arc<Relay>, gate: Gate, listener: &config::Grpc) -> Self {
        let most = usize::try_from(listener.max_message_bytes).unwrap_or(usize::MAX);
        Self { relay, gate: gate.into(), most, passes_metadata: listener.include_metadata }
    }

    fn signal(&self, path: &str) -> Result<Signal, Refusal> {
        let signal = Signal::ALL.into_iter().find(|signal| signal.method() == path);
        match signal {
            Some(signal) if self.relay.settings().takes(signal) => Ok(signal),
            Some(signal) => Err(not_taken(signal)),
            None => Err(Refusal::unimplemented(format!("no method {path} here"))),
        }
    }

    async fn take(
        &self,
        request: HttpRequest<Incoming>,
        signal: Signal,
        deadline: Instant,
    ) -> Result<Accepted, Refusal> {
        let headers = request.headers();
        let named = headers.get("grpc-encoding").map(HeaderValue::as_bytes);
        let compression = compression::named(named).ok_or_else(|| {
            let name = String::from_utf8_lossy(named.unwrap_or_default());
            Refusal::unimplemented(format!("grpc-encoding {name} is not taken: send gzip or zstd"))
        })?;
        let keys = &self.relay.settings().metadata;
        let metadata = if self.passes_metadata { listed(headers, keys) } else { HeaderMap::new() };
        let claim = self.relay.budget.claim();
        let body = Metered::of(request.into_body(), Arc::clone(&claim));
        let bytes = match body.message(self.most).await? {
            (false, bytes) => bytes,
            (true, _) if compression == Compression::None => {
                return Err(Refusal::invalid("a message that is compressed, and no grpc-encoding that says how"));
            }
            (true, bytes) => {
                let hold = |length| claim.hold(length).map_err(|_| Refusal::full());
                compression::decompress(compression, bytes, self.most, hold)?
            }
        };
        self.relay.pass(Request { signal, encoding: Encoding::Protobuf, bytes, metadata, deadline, claim }).await
    }
}

/// What is told of a signal that is not passed on.
pub(super) fn not_taken(signal: Signal) -> Refusal {
    Refusal::unimplemented(format!(
        "{} are not passed on: traces_only, or the next hop has no URL for them",
        signal.name()
    ))
}

impl Service for GrpcService {
    async fn answer(&self, request: HttpRequest<Incoming>) -> Answer {
        let is_grpc =
            request.headers().get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc {
            let text = "this port speaks gRPC; OTLP over HTTP has its own (4318)\n";
            let mut answer = hyper::Response::new(plain(text));
            *answer.status_mut() = hyper::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return answer;
        }
        let signal = match self.signal(request.uri().path()) {
            Ok(signal) if self.gate.opens(request.headers()) => signal,
            Ok(signal) => {
                self.relay.metrics.refused(signal, Transport::Grpc, Outcome::Refused);
                return refused(&Refusal::unauthenticated());
            }
            Err(refusal) => return refused(&refusal),
        };
        let deadline = Instant::now() + patience_of(request.headers());
        let taken = tokio::time::timeout_at(deadline.into(), self.take(request, signal, deadline));
        let answered = match self.relay.unless_over(taken).await {
            Some(Ok(answered)) => answered,
            Some(Err(_)) => Err(Refusal::late("the request did not arrive, or was not answered, in time")),
            None => Err(stopping()),
        };
        self.relay.metrics.answered(signal, Transport::Grpc, &answered);
        match answered {
            Ok(accepted) => message(&accepted),
            Err(refusal) => refused(&refusal),
        }
    }
}

/// An answer's message, and its status behind it.
fn message(accepted: &Accepted) -> Answer {
    let message = to_protobuf(accepted);
    let head = Head { is_compressed: false, length: message.len() }.write().unwrap_or_default();
    let body = Full::new(Bytes::from([&head[..], &message].concat()));
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers)))).map_err(|never| match never {});
    let mut answer = hyper::Response::new(body.boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What is told when the time to drain is over.
pub(super) fn stopping() -> Refusal {
    Refusal::unavailable("stopping, and the next hop has not answered: send it again")
}

pub(super) fn plain(text: &'static str) -> http_body_util::combinators::UnsyncBoxBody<Bytes, Status> {
    http_body_util::Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn refused(refusal: &Refusal) -> Answer {
    let answer: hyper::Response<tonic::body::Body> = refusal.to_status().into_http();
    let mut answer = answer.map(BodyExt::boxed_unsync);
    if refusal.code == Code::Unimplemented {
        answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(compression::TAKEN));
    }
    answer
}

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What is left of a sender's time-out (`grpc-timeout`).
fn patience_of(headers: &HeaderMap) -> Duration {
    let given = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(grpc_timeout);
    given.unwrap_or(PATIENCE).min(MOST_PATIENCE)
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senders_time_out_is_read() {
        for (text, expected) in [("5S", Some(5_000)), ("1500m", Some(1_500)), ("2M", Some(120_000)), ("9u", Some(0))] {
            assert_eq!(grpc_timeout(text).map(|it| it.as_millis()), expected, "{text}");
        }
        assert_eq!(["", "5", "5s", "123456789S", "-1S"].map(grpc_timeout), [None; 5]);
    }
}
