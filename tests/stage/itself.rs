//! The harness alone, sender straight to sink: what it says of the program has to hold of itself first.

use std::time::Duration;

use hyper::Method;
use prost::Message;

use crate::harness::certificates::Certificates;
use crate::harness::client::{Grpc, Http, VIAS, encoded, media_type};
use crate::harness::wire::{self, Packing};
use crate::harness::{Answer, Reply, Sink, TRACES, Verdict, Via, spans};

async fn send(sink: &Sink, via: Via, packing: Packing, body: &[u8]) -> Reply {
    if via == Via::Grpc {
        let mut grpc = Grpc::to(sink.address).await.unwrap();
        return grpc.call(TRACES, &[("grpc-encoding", packing.name())], wire::frame(body, packing)).await.unwrap();
    }
    let headers = [("content-type", media_type(via)), ("content-encoding", packing.name())];
    let mut http = Http::to(sink.address).await.unwrap();
    http.call(&Method::POST, "/v1/traces", &headers, packing.pack(body)).await.unwrap()
}

#[tokio::test]
async fn the_sink_keeps_what_was_sent() {
    let sink = Sink::start().await;
    for via in VIAS {
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let body = encoded(via, &spans::request(3));
            let reply = send(&sink, via, packing, &body).await;
            assert_eq!(reply.verdict(via), Verdict::Accepted, "{reply:?}");
            let received = sink.only();
            assert!(received.body == body && received.packing == packing && received.accepted);
        }
    }
}

#[tokio::test]
async fn answers_are_taken_as_otlp_has_them() {
    let sink = Sink::start().await;
    let body = spans::request(1).encode_to_vec();
    let after = Some(Duration::from_secs(7));
    let again = |after_s| Verdict::Again { after_s };
    for (answer, expected) in [
        (Answer::code(3), Verdict::Refused),
        (Answer::code(8), Verdict::Refused),
        (Answer::Code { code: 8, message: "m", retry_after: after }, again(Some(7))),
        (Answer::code(14), again(None)),
        (Answer::Partial { rejected: 2, message: "m" }, Verdict::Partial { rejected: 2, message: "m".into() }),
    ] {
        sink.answer(answer.clone());
        let reply = send(&sink, Via::Grpc, Packing::Plain, &body).await;
        assert_eq!(reply.verdict(Via::Grpc), expected, "{answer:?}");
    }
    for via in [Via::Protobuf, Via::Json] {
        for (answer, expected) in [
            (Answer::http(400), Verdict::Refused),
            (Answer::http(500), Verdict::Refused),
            (Answer::http(503), again(None)),
            (Answer::Http { status: 429, message: "m", retry_after: Some("9".into()) }, again(Some(9))),
            (Answer::Partial { rejected: 2, message: "m" }, Verdict::Partial { rejected: 2, message: "m".into() }),
        ] {
            sink.answer(answer.clone());
            let reply = send(&sink, via, Packing::Plain, b"{}").await;
            assert_eq!(reply.verdict(via), expected, "{answer:?}");
            if reply.status != 200 {
                assert!(!reply.error(via).message.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_sink_that_is_gone_can_come_back_in_its_place() {
    let sink = Sink::start().await;
    let address = sink.address;
    let mut grpc = Grpc::to(address).await.unwrap();
    drop(sink);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(grpc.call(TRACES, &[], wire::frame(b"", Packing::Plain)).await.is_err());
    assert!(Grpc::to(address).await.is_err());
    let sink = Sink::at(address).await;
    assert_eq!(send(&sink, Via::Grpc, Packing::Plain, b"").await.code(), 0);
}

#[tokio::test]
async fn certificates_are_asked_for() {
    let certificates = Certificates::new();
    let sink = Sink::with_tls(certificates.server()).await;
    for (shown, expected) in [(true, Some(0)), (false, None)] {
        let answered = async {
            let mut grpc = Grpc::to_tls(sink.address, certificates.client(shown, b"h2")).await.ok()?;
            Some(grpc.call(TRACES, &[], wire::frame(b"", Packing::Plain)).await.ok()?.code())
        };
        assert_eq!(answered.await, expected);
    }
}

#[test]
fn requests_are_as_long_as_asked_for() {
    for length in [500, 16_600, 700_000, 1 << 20, (1 << 20) + 1, 2_097_500] {
        assert_eq!(spans::of_length(length).len(), length);
    }
}

#[test]
fn both_encodings_say_the_same() {
    let request = spans::request(3);
    let text: serde_json::Value = serde_json::from_str(&spans::json(&request)).unwrap();
    let spans = text["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(spans[0]["startTimeUnixNano"], span.start_time_unix_nano.to_string());
    assert_eq!(spans.len(), 2);
}
