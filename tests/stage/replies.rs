//! Success, partial success, and requests without spans.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::harness::client::VIAS;
use crate::harness::config::HOPS;
use crate::harness::{Answer, Config, Hop, Sink, Stage, Verdict, Via, spans};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_is_an_empty_message() {
    for hop in HOPS {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop)).await;
        for via in VIAS {
            let reply = stage.send(via, &spans::request(2)).await;
            assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} to {hop:?}: {reply:?}");
            let empty: &[u8] = if via == Via::Json { b"{}" } else { b"" };
            assert_eq!(reply.message(via), empty, "{via:?} to {hop:?}");
        }
        assert_eq!(sink.received().len(), VIAS.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_spans_succeeds_and_goes_nowhere() {
    let mut envelope = spans::request(1);
    envelope.resource_spans[0].scope_spans[0].spans.clear();
    let mut resource = envelope.clone();
    resource.resource_spans[0].scope_spans.clear();
    for hop in HOPS {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop)).await;
        for via in VIAS {
            for request in [&ExportTraceServiceRequest::default(), &resource, &envelope] {
                let reply = stage.send(via, request).await;
                assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?}, {request:?}: {reply:?}");
            }
        }
        let reply = stage.send_bytes(Via::Json, b" { } ").await;
        assert_eq!(reply.verdict(Via::Json), Verdict::Accepted, "{reply:?}");
        assert!(sink.received().is_empty(), "to {hop:?}: {:?}", sink.received());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_success_and_warnings_are_passed_back() {
    for hop in HOPS {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop)).await;
        for (rejected, message) in [(3, "three of them are too old"), (0, "attribute limits are near")] {
            sink.answer(Answer::Partial { rejected, message });
            for via in VIAS {
                let reply = stage.send(via, &spans::request(9)).await;
                let expected = Verdict::Partial { rejected, message: message.to_owned() };
                assert_eq!(reply.verdict(via), expected, "{via:?} to {hop:?}: {reply:?}");
            }
        }
        assert_eq!(sink.received().len(), 2 * VIAS.len(), "partial success is not sent again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_waits_for_the_next_hop() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let late = std::time::Duration::from_millis(700);
    for via in VIAS {
        sink.answer(Answer::late(late, Answer::Accept));
        let began = std::time::Instant::now();
        let reply = stage.send(via, &spans::request(1)).await;
        assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?}: {reply:?}");
        assert!(began.elapsed() >= late, "{via:?}: acknowledged before the next hop did");
    }
}
