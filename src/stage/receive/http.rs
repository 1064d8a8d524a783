//! OTLP over HTTP: protobuf and JSON, plain, gzip or zstd.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};

use super::body::Metered;
use super::grpc::{PATIENCE, not_taken, plain, stopping};
use super::{Answer, Service};
use crate::stage::answer::{self, Refusal};
use crate::stage::auth::Gate;
use crate::stage::metrics::{Outcome, Transport};
use crate::stage::relay::Relay;
use crate::stage::request::{Encoding, Request, Signal, listed};
use crate::stage::{compression, config};

/// What is asked of one sender's requests.
#[derive(Clone)]
pub struct HttpService {
    relay: Arc<Relay>,
    gate: Arc<Gate>,
    most: usize,
    passes_metadata: bool,
    read_timeout: Option<Duration>,
}

impl HttpService {
    pub fn of(relay: Arc<Relay>, gate: Gate, listener: &config::Http) -> Self {
        let most = usize::try_from(listener.max_body_bytes).unwrap_or(usize::MAX);
        let read_timeout = listener.read_timeout;
        Self { relay, gate: gate.into(), most, passes_metadata: listener.include_metadata, read_timeout }
    }

    async fn take(
        &self,
        request: HttpRequest<Incoming>,
        signal: Signal,
        encoding: Encoding,
    ) -> Result<answer::Accepted, Refusal> {
        if !self.gate.opens(request.headers()) {
            return Err(Refusal::unauthenticated());
        }
        let named = request.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let compression = compression::named(named).ok_or_else(|| {
            let name = String::from_utf8_lossy(named.unwrap_or_default());
            let text = format!("Content-Encoding {name} is not taken: send gzip or zstd");
            Refusal::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
        })?;
        let keys = &self.relay.settings().metadata;
        let metadata = if self.passes_metadata { listed(request.headers(), keys) } else { HeaderMap::new() };
        let claim = self.relay.budget.claim();
        let body = Metered::of(request.into_body(), Arc::clone(&claim)).collect_up_to(self.most);
        let body = match self.read_timeout {
            Some(patience) => tokio::time::timeout(patience, body)
                .await
                .unwrap_or_else(|_| Err(Refusal::late("the request did not arrive in time"))),
            None => body.await,
        }?;
        let hold = |length| claim.hold(length).map_err(|_| Refusal::full());
        let bytes = compression::decompress(compression, body, self.most, hold)?;
        let deadline = Instant::now() + PATIENCE;
        self.relay.pass(Request { signal, encoding, bytes, metadata, deadline, claim }).await
    }
}

impl Service for HttpService {
    async fn answer(&self, request: HttpRequest<Incoming>) -> Answer {
        let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.path() == request.uri().path()) else {
            return text(
                StatusCode::NOT_FOUND,
                "OTLP goes to /v1/traces, /v1/metrics, /v1/logs or /v1development/profiles\n",
            );
        };
        if request.method() != Method::POST {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed, supported: [POST]\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let Some(encoding) = encoding(request.headers()) else {
            let supported = "415 unsupported media type, supported: [application/json, application/x-protobuf]\n";
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, supported);
        };
        if !self.relay.settings().takes(signal) {
            self.relay.metrics.refused(signal, Transport::Http, Outcome::Refused);
            return refused(&not_taken(signal), encoding);
        }
        let answered = self.relay.unless_over(self.take(request, signal, encoding)).await;
        let answered = answered.unwrap_or_else(|| Err(stopping()));
        self.relay.metrics.answered(signal, Transport::Http, &answered);
        match answered {
            Ok(accepted) => body(StatusCode::OK, encoding, answer::body(&accepted, encoding, signal)),
            Err(refusal) => refused(&refusal, encoding),
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(plain(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn body(status: StatusCode, encoding: Encoding, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let media = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

fn refused(refusal: &Refusal, encoding: Encoding) -> Answer {
    let mut answer = body(refusal.http, encoding, refusal.body(encoding));
    if let Some(delay) = refusal.retry_after {
        // Whole seconds, and not before.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if refusal.http == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(compression::TAKEN));
    }
    if refusal.http == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// By the media type alone, whatever its parameters.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media = value.split(';').next()?.trim();
    if media.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Encoding::Protobuf)
    } else if media.eq_ignore_ascii_case("application/json") {
        Some(Encoding::Json)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_media_type_change_nothing() {
        let check = |value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(encoding(&headers), expected, "{value}");
        };
        check("application/json; charset=utf-8", Some(Encoding::Json));
        check("Application/X-Protobuf", Some(Encoding::Protobuf));
        check("application/jsonlines", None);
        check("text/plain", None);
    }
}
