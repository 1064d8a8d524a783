//! The admin port: metrics, health, clocks, and the clock service for programs that correct by our clocks.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use tower_service::Service as _;

use super::auth::Gate;
use super::clocks::{clocks, from};
use super::receive::{Answer, Service};
use super::relay::{Relay, now};
use crate::live::{Mode, Published};
use crate::models;
use crate::proto::clock_service_server::{ClockService, ClockServiceServer};
use crate::proto::{GetClocksRequest, GetClocksResponse, WatchClocksRequest, WatchClocksResponse};

/// Answers those who operate the stage.
#[derive(Clone)]
pub struct Admin {
    relay: Arc<Relay>,
    gate: Arc<Gate>,
    /// The clock service is for those on this machine, or with a token.
    serves_clocks: bool,
    draining: Arc<AtomicBool>,
    clocks: ClockServiceServer<Clocks>,
}

impl Admin {
    /// `changed` is sent to whenever other clocks are published.
    pub fn of(
        relay: Arc<Relay>,
        gate: Gate,
        serves_clocks: bool,
        draining: Arc<AtomicBool>,
        changed: watch::Receiver<u64>,
    ) -> Self {
        let clocks = ClockServiceServer::new(Clocks { relay: Arc::clone(&relay), changed });
        Self { relay, gate: gate.into(), serves_clocks, draining, clocks }
    }

    async fn page(&self, path: &str) -> Option<(StatusCode, &'static str, String)> {
        const TEXT: &str = "text/plain; charset=utf-8";
        Some(match path {
            "/metrics" => (
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.relay.metrics.text(),
            ),
            "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => match self.readiness().await {
                Ok(()) if self.relay.settings().fell_back => {
                    let text = "ready; nothing is corrected until SIGHUP, as that put calls out of order\n";
                    (StatusCode::OK, TEXT, text.to_owned())
                }
                Ok(()) => (StatusCode::OK, TEXT, "ready\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
            },
            "/clocks" => {
                let mode = match self.relay.settings().mode {
                    Mode::Observe => "observe",
                    Mode::Annotate => "annotate",
                    Mode::Correct => "correct",
                };
                let clocks = clocks(&self.relay.published(), mode, now());
                let text = serde_json::to_string_pretty(&clocks).unwrap_or_default();
                (StatusCode::OK, "application/json", text + "\n")
            }
            "/openapi.json" => (StatusCode::OK, "application/json", OPENAPI.to_owned()),
            _ => return None,
        })
    }

    async fn readiness(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("stopping".to_owned());
        }
        let settings = self.relay.settings();
        match &settings.forwarder {
            Some(forwarder) if !forwarder.is_up().await => {
                Err(format!("{} cannot be reached", forwarder.next_hop().target))
            }
            None if self.relay.cannot_record() => Err("requests cannot be recorded, and are refused".to_owned()),
            _ => Ok(()),
        }
    }
}

/// What the pages are, for programs.
const OPENAPI: &str = include_str!("openapi.json");

impl Service for Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let content_type = request.headers().get(CONTENT_TYPE);
        if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
            return self.call(request).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".to_owned());
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        match self.page(request.uri().path()).await {
            Some((status, kind, text)) => answer(status, kind, text),
            None => {
                let pages = "/metrics, /healthz, /readyz, /clocks, /openapi.json\n";
                answer(StatusCode::NOT_FOUND, "text/plain", pages.to_owned())
            }
        }
    }
}

impl Admin {
    async fn call(&self, request: Request<Incoming>) -> Answer {
        if !self.gate.opens(request.headers()) {
            return status(&Status::unauthenticated("a bearer token is asked for, and this is none"));
        }
        if !self.serves_clocks {
            let text = "the clock service is for this machine alone: give service.telemetry.metrics an `auth`, and send its token";
            return status(&Status::permission_denied(text));
        }
        let mut clocks = self.clocks.clone();
        match clocks.call(request).await {
            Ok(answer) => answer.map(BodyExt::boxed_unsync),
            Err(never) => match never {},
        }
    }
}

fn status(status: &Status) -> Answer {
    let answer: Response<tonic::body::Body> = status.clone().into_http();
    answer.map(BodyExt::boxed_unsync)
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// The clock service of `proto/unskew/v1`.
struct Clocks {
    relay: Arc<Relay>,
    changed: watch::Receiver<u64>,
}

fn newest(published: &Published) -> (Option<crate::proto::Models>, i64) {
    let era = published.eras.last();
    (era.map(|era| models::to_message(&era.models)), era.and_then(from).unwrap_or(i64::MIN))
}

#[tonic::async_trait]
impl ClockService for Clocks {
    async fn get_clocks(
        &self,
        _: tonic::Request<GetClocksRequest>,
    ) -> Result<tonic::Response<GetClocksResponse>, Status> {
        let (models, from_reference_unix_nano) = newest(&self.relay.published());
        Ok(tonic::Response::new(GetClocksResponse { models, from_reference_unix_nano }))
    }

    type WatchClocksStream = Pin<Box<dyn Stream<Item = Result<WatchClocksResponse, Status>> + Send>>;

    async fn watch_clocks(
        &self,
        _: tonic::Request<WatchClocksRequest>,
    ) -> Result<tonic::Response<Self::WatchClocksStream>, Status> {
        let relay = Arc::clone(&self.relay);
        let told = WatchStream::new(self.changed.clone()).map(move |_| {
            let (models, from_reference_unix_nano) = newest(&relay.published());
            Ok(WatchClocksResponse { models, from_reference_unix_nano })
        });
        Ok(tonic::Response::new(Box::pin(told)))
    }
}
