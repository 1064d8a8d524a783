//! OTLP over gRPC: three methods whose messages are taken as bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request as HttpRequest;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, UnaryService};
use tonic::{Response, Status};

use super::body::{Metered, full, too_large};
use super::{Answer, Service};
use crate::stage::answer::{Refusal, to_protobuf};
use crate::stage::auth::Gate;
use crate::stage::budget::Claim;
use crate::stage::codec::Raw;
use crate::stage::config;
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
                return status_answer(&Refusal::unauthenticated().to_status());
            }
            Err(refusal) => return status_answer(&refusal.to_status()),
        };
        let deadline = Instant::now() + patience_of(request.headers());
        let claim = self.relay.budget.claim();
        let listed_keys = &self.relay.settings().metadata;
        let metadata = if self.passes_metadata { listed(request.headers(), listed_keys) } else { HeaderMap::new() };
        let request = request.map(|body| Metered::of(body, Arc::clone(&claim)));
        let call = Call { service: self.clone(), signal, metadata, deadline, claim };
        let mut grpc = Grpc::new(Raw)
            .max_decoding_message_size(self.most)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Zstd);
        let answer = tokio::time::timeout_at(deadline.into(), grpc.unary(call, request));
        let Some(answered) = self.relay.unless_over(answer).await else {
            self.relay.metrics.refused(signal, Transport::Grpc, Outcome::Retryable);
            return status_answer(&stopping().to_status());
        };
        let Ok(answer) = answered else {
            self.relay.metrics.refused(signal, Transport::Grpc, Outcome::Retryable);
            return status_answer(
                &Refusal::late("the request did not arrive, or was not answered, in time").to_status(),
            );
        };
        let (mut head, body) = answer.into_parts();
        rewrite_oversize(&mut head.headers, self.most);
        hyper::Response::from_parts(head, body.boxed_unsync())
    }
}

/// What is told when the time to drain is over.
pub(super) fn stopping() -> Refusal {
    Refusal::unavailable("stopping, and the next hop has not answered: send it again")
}

pub(super) fn plain(text: &'static str) -> http_body_util::combinators::UnsyncBoxBody<Bytes, Status> {
    http_body_util::Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn status_answer(status: &Status) -> Answer {
    let answer: hyper::Response<tonic::body::Body> = status.clone().into_http();
    answer.map(BodyExt::boxed_unsync)
}

/// tonic calls a message that is too large OUT_OF_RANGE, which senders of OTLP take for worth another try; it is
/// RESOURCE_EXHAUSTED, without a time to try again.
fn rewrite_oversize(headers: &mut HeaderMap, most: usize) {
    if headers.get("grpc-status").is_some_and(|code| code == "11" || code == "8")
        && !headers.contains_key(FROM_NEXT_HOP)
    {
        let status = too_large(most).to_status();
        let mut fresh = HeaderMap::new();
        if status.add_header(&mut fresh).is_ok() {
            headers.extend(fresh);
        }
    }
    headers.remove(FROM_NEXT_HOP);
}

/// Marks, within, a refusal that came from the relay rather than from the decoding of the request.
const FROM_NEXT_HOP: &str = "unskew-relayed";

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

struct Call {
    service: GrpcService,
    signal: Signal,
    metadata: HeaderMap,
    deadline: Instant,
    claim: Arc<Claim>,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (service, signal, deadline) = (self.service.clone(), self.signal, self.deadline);
        let (metadata, claim) = (std::mem::take(&mut self.metadata), Arc::clone(&self.claim));
        Box::pin(async move {
            let bytes = request.into_inner();
            let relayed = |refusal: &Refusal| {
                let mut status = refusal.to_status();
                status.metadata_mut().insert(FROM_NEXT_HOP, tonic::metadata::MetadataValue::from_static("1"));
                status
            };
            let metrics = Arc::clone(&service.relay.metrics);
            if bytes.len() > service.most {
                metrics.refused(signal, Transport::Grpc, Outcome::Refused);
                return Err(relayed(&too_large(service.most)));
            }
            // What was compressed is larger now.
            if claim.hold(bytes.len()).is_err() {
                metrics.refused(signal, Transport::Grpc, Outcome::Retryable);
                return Err(relayed(&full()));
            }
            let request = Request { signal, encoding: Encoding::Protobuf, bytes, metadata, deadline, claim };
            let answered = service.relay.pass(request).await;
            metrics.answered(signal, Transport::Grpc, &answered);
            match answered {
                Ok(accepted) => Ok(Response::new(to_protobuf(&accepted))),
                Err(refusal) => Err(relayed(&refusal)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_senders_time_out_is_read() {
        for (text, expected) in [("5S", Some(5_000)), ("1500m", Some(1_500)), ("2M", Some(120_000)), ("9u", Some(0))] {
            assert_eq!(grpc_timeout(text).map(|it| it.as_millis()), expected, "{text}");
        }
        assert_eq!(["", "5", "5s", "123456789S", "-1S"].map(grpc_timeout), [None; 5]);
    }

    #[test]
    fn too_large_a_message_is_not_to_be_sent_again() {
        let mut headers = HeaderMap::new();
        Status::new(Code::OutOfRange, "too large").add_header(&mut headers).unwrap();
        rewrite_oversize(&mut headers, 9);
        assert_eq!(headers["grpc-status"], "8");
        headers.insert(FROM_NEXT_HOP, "1".parse().unwrap());
        headers.insert("grpc-status", "11".parse().unwrap());
        rewrite_oversize(&mut headers, 9);
        assert_eq!((&headers["grpc-status"], headers.get(FROM_NEXT_HOP)), (&"11".parse().unwrap(), None));
    }
}
