//! A load generator: requests encoded and framed beforehand, over two connections with eight calls each in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::harness::TRACES;
use crate::harness::client::Grpc;
use crate::harness::wire::{self, Packing};

/// As SDKs and the Collector's senders batch.
pub const SPANS: usize = 512;

const CONNECTIONS: usize = 2;
const IN_FLIGHT: usize = 8;

pub struct Load {
    frames: Arc<Vec<Bytes>>,
    packing: Packing,
    /// Before packing.
    pub bytes_per_span: f64,
}

impl Load {
    pub fn new(requests: &[Vec<u8>], packing: Packing) -> Self {
        let batches = batches(requests);
        let bytes: usize = batches.iter().map(Vec::len).sum();
        let bytes_per_span = bytes as f64 / (batches.len() * SPANS) as f64;
        let frames = batches.iter().map(|batch| wire::frame(batch, packing).into()).collect();
        Self { frames: Arc::new(frames), packing, bytes_per_span }
    }

    /// Sends so many spans as fast as they are taken; returns how many it were.
    pub async fn run(&self, to: SocketAddr, spans: usize) -> usize {
        let count = spans.div_ceil(SPANS);
        self.send(to, count, None).await;
        count * SPANS
    }

    /// Sends at a pace.
    pub async fn run_at(&self, to: SocketAddr, spans_per_s: f64, during: Duration) {
        let per_s = spans_per_s / SPANS as f64;
        self.send(to, (per_s * during.as_secs_f64()) as usize, Some(per_s)).await;
    }

    async fn send(&self, to: SocketAddr, count: usize, per_s: Option<f64>) {
        let next = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            let connection = Grpc::to(to).await.unwrap();
            for _ in 0..IN_FLIGHT {
                let (mut connection, next, frames) = (connection.clone(), next.clone(), self.frames.clone());
                let encoding = [("grpc-encoding", self.packing.name())];
                senders.push(tokio::spawn(async move {
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth >= count {
                            return;
                        }
                        if let Some(per_s) = per_s {
                            let due = began + Duration::from_secs_f64(nth as f64 / per_s);
                            tokio::time::sleep_until(due.into()).await;
                        }
                        let frame = frames[nth % frames.len()].clone();
                        let reply = connection.call(TRACES, &encoding, frame).await.unwrap();
                        assert_eq!(reply.code(), 0, "{reply:?}");
                    }
                }));
            }
        }
        for sender in senders {
            sender.await.unwrap();
        }
    }
}

/// The spans of all requests, in requests of [`SPANS`] as a gateway would batch them; a rest is left out.
fn batches(requests: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    let mut batch = ExportTraceServiceRequest::default();
    let mut room = SPANS;
    for request in requests {
        for mut resource in ExportTraceServiceRequest::decode(&request[..]).unwrap().resource_spans {
            for mut scope in std::mem::take(&mut resource.scope_spans) {
                while !scope.spans.is_empty() {
                    let rest = scope.spans.split_off(room.min(scope.spans.len()));
                    room -= scope.spans.len();
                    let mut part = resource.clone();
                    part.scope_spans.push(scope.clone());
                    batch.resource_spans.push(part);
                    scope.spans = rest;
                    if room == 0 {
                        batches.push(std::mem::take(&mut batch).encode_to_vec());
                        room = SPANS;
                    }
                }
            }
        }
    }
    batches
}
