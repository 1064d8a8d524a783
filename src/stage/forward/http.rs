//! OTLP over HTTP to the next hop: each request in the encoding in which it came.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thread_local::ThreadLocal;

use super::connect::{Connector, connector};
use super::grpc::{OURS, causes};
use super::{Failure, Outgoing};
use crate::stage::answer::{self, Accepted, Refusal};
use crate::stage::auth;
use crate::stage::compression::{self, Compression};
use crate::stage::config::{NextHop, Urls};
use crate::stage::request::Encoding;

pub(super) struct Http {
    /// Each thread has its own.
    clients: ThreadLocal<Client<Connector, Full<Bytes>>>,
    connector: Connector,
    urls: Urls,
    compression: Compression,
    headers: HeaderMap,
    reached: AtomicBool,
}

/// Of answers.
const ANSWER_BYTES: usize = 4 << 20;

impl Http {
    pub(super) fn to(urls: &Urls, next_hop: &NextHop) -> Result<Self> {
        let connector = connector(&next_hop.tls, false)?;
        let mut headers = next_hop.headers.clone();
        if let Some(token) = auth::shown(next_hop.auth.as_ref())? {
            headers.insert(AUTHORIZATION, token);
        }
        headers.entry(USER_AGENT).or_insert(OURS);
        let reached = AtomicBool::new(false);
        let (clients, urls, compression) = (ThreadLocal::new(), urls.clone(), next_hop.compression);
        Ok(Self { clients, connector, urls, compression, headers, reached })
    }

    fn client(&self) -> &Client<Connector, Full<Bytes>> {
        self.clients.get_or(|| {
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(self.connector.clone())
        })
    }

    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<Accepted, Failure> {
        let Outgoing { signal, encoding, .. } = outgoing;
        let request = self.request(outgoing).map_err(|text| Failure::Answered(Refusal::invalid(text)))?;
        let unreached = |error: &dyn std::error::Error| Failure::Unreached(causes(error));
        let response = self.client().request(request).await.map_err(|error| unreached(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| unreached(error.as_ref()))?.to_bytes();
        self.reached.store(true, Ordering::Relaxed);
        if head.status.is_success() {
            Ok(answer::accepted(&body, encoding, signal))
        } else {
            Err(Failure::Answered(Refusal::of_http(head.status, &head.headers, &body, encoding)))
        }
    }

    fn request(&self, outgoing: Outgoing) -> Result<Request<Full<Bytes>>, String> {
        let signal = outgoing.signal.name();
        let uri = self.urls.of(signal).ok_or_else(|| format!("the next hop has no URL for {signal}"))?;
        let body = compression::compress(self.compression, outgoing.bytes).map_err(|error| error.to_string())?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.extend(outgoing.metadata);
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        let media = match outgoing.encoding {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        if let Some(name) = compression::name(self.compression) {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        Ok(request)
    }
}
