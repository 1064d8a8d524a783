//! What is sent on: the bytes as they came, other signals, listed metadata, and requests that the next hop would find too
//! long.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::harness::client::{VIAS, encoded};
use crate::harness::config::HOPS;
use crate::harness::wire::{Packing, field};
use crate::harness::{Answer, Config, Hop, LOGS, METRICS, PROFILES, Sink, Stage, TRACES, Verdict, Via, spans};

/// A request with fields that no version of OTLP has yet, at each level down to the span.
fn from_the_future() -> Vec<u8> {
    let ours = field(1_000, b"what is to come");
    let add = |message: Vec<u8>| [message, ours.clone()].concat();
    let mut request = spans::request(2);
    let resource_spans = request.resource_spans.remove(0);
    let scope_spans = &resource_spans.scope_spans[0];
    let spans: Vec<u8> = scope_spans.spans.iter().flat_map(|span| field(2, &add(span.encode_to_vec()))).collect();
    let scope = field(1, &scope_spans.scope.as_ref().unwrap().encode_to_vec());
    let scope_spans = field(2, &add([scope, spans].concat()));
    let resource = field(1, &resource_spans.resource.unwrap().encode_to_vec());
    add(field(1, &add([resource, scope_spans].concat())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_passes_byte_for_byte() {
    for hop in HOPS {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop)).await;
        for via in [Via::Grpc, Via::Protobuf] {
            for body in [spans::request(40).encode_to_vec(), from_the_future()] {
                let reply = stage.send_bytes(via, &body).await;
                assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} to {hop:?}: {reply:?}");
                let received = sink.only();
                assert!(received.body == body, "{via:?} to {hop:?}: other bytes");
                let expected = match hop {
                    Hop::Grpc => (TRACES, "application/grpc"),
                    Hop::Http => ("/v1/traces", "application/x-protobuf"),
                };
                assert_eq!((&received.path[..], received.header("content-type").unwrap()), expected);
            }
        }
    }
}

/// A body as people write it: spaces, keys nobody knows, numbers as texts, an order of its own.
const JSON: &str = r#" { "resourceSpans" : [ {"later":{"a":[1,2.50,"\u00e4"]}, "scopeSpans":[{"spans":[
    {"name":"caf\u00e9 \ud83d\ude00","endTimeUnixNano":1750000000000700000,"startTimeUnixNano":"1750000000000000000",
     "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","kind":2,"attributes":[],"droppedLinksCount":"3"}
  ]}],"resource":{"attributes":[{"value":{"stringValue":"host-a"},"key":"host.name"}]}} ] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_passes_byte_for_byte_where_the_next_hop_speaks_http() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Http)).await;
    for body in [JSON.to_owned(), spans::json(&spans::request(30))] {
        let reply = stage.send_bytes(Via::Json, body.as_bytes()).await;
        assert_eq!(reply.verdict(Via::Json), Verdict::Accepted, "{reply:?}");
        let received = sink.only();
        assert!(received.is_json(), "{received:?}");
        assert_eq!(String::from_utf8_lossy(&received.body), body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_becomes_protobuf_where_the_next_hop_speaks_grpc() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let request = spans::request(30);
    let reply = stage.send(Via::Json, &request).await;
    assert_eq!(reply.verdict(Via::Json), Verdict::Accepted, "{reply:?}");
    assert_eq!(sink.only().request(), request);

    let reply = stage.send_bytes(Via::Json, JSON.as_bytes()).await;
    assert_eq!(reply.verdict(Via::Json), Verdict::Accepted, "keys that nobody knows are ignored: {reply:?}");
    let [span] = &sink.only().spans()[..] else { panic!("one span") };
    assert_eq!(span.name, "café 😀");
    assert_eq!(span.start_time_unix_nano, 1_750_000_000_000_000_000);
    assert_eq!(span.end_time_unix_nano, 1_750_000_000_000_700_000);
    assert_eq!(span.span_id, 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes());
    assert_eq!((span.kind, span.dropped_links_count), (2, 3));
}

/// What receivers take in practice, in the lax reading of the Collector's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lax_json_is_understood() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for (more, check) in [
        (r#""kind":"SPAN_KIND_SERVER""#, "kind: Server"),
        (r#""status":{"code":"STATUS_CODE_ERROR"}"#, "code: Error"),
        (r#""parentSpanId":null,"attributes":null,"events":null"#, "parent_span_id: []"),
        (r#""attributes":[{"key":"a","value":{}}]"#, r#"key: "a""#),
        (r#""attributes":[{"key":"a","value":{"doubleValue":"NaN"}}]"#, "DoubleValue(NaN)"),
        (r#""attributes":[{"key":"a","value":{"intValue":"-7"}}]"#, "IntValue(-7)"),
        (r#""attributes":[{"key":"a","value":{"intValue":5.0}}]"#, "IntValue(5)"),
        (r#""attributes":[{"key":"a","value":{"bytesValue":"AQID"}}]"#, "BytesValue([1, 2, 3])"),
        (r#""attributes":[{"key":"a","value":{"arrayValue":{}}}]"#, "ArrayValue"),
        (r#""dropped_events_count":"3""#, "dropped_events_count: 3"),
        (r#""trace_state":"a=b""#, r#"trace_state: "a=b""#),
    ] {
        let span = format!(
            r#"{{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","startTimeUnixNano":"5",{more}}}"#
        );
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
        let reply = stage.send_bytes(Via::Json, body.as_bytes()).await;
        assert_eq!(reply.verdict(Via::Json), Verdict::Accepted, "{more}: {reply:?}");
        let spans = format!("{:?}", sink.only().spans());
        assert!(spans.contains(check), "{more}: {spans}");
    }
}

/// A record that protobuf has no words for is rejected, with its field; those beside it go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_protobuf_cannot_say_is_partly_rejected() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for (field, value) in [
        ("traceId", r#""not hexadecimal""#),
        ("startTimeUnixNano", r#""yesterday""#),
        ("droppedAttributesCount", "-1"),
        ("name", "[]"),
    ] {
        let good = spans::request(2);
        let bad = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"spanId":"00000000000000ff","{field}":{value}}}]}}]}},"#
        );
        let body = spans::json(&good).replacen(r#"{"resourceSpans":["#, &bad, 1);
        let reply = stage.send_bytes(Via::Json, body.as_bytes()).await;
        match reply.verdict(Via::Json) {
            Verdict::Partial { rejected: 1, message } => assert!(message.contains(field), "{field}: {message}"),
            other => panic!("{field}: {other:?}, {reply:?}"),
        }
        assert_eq!(sink.only().spans(), spans::of(&good), "{field}");
    }
}

/// A metric and a log, no more than a receiver could take for one, with fields that nobody knows.
fn other_signals() -> [(&'static str, &'static str, Vec<u8>); 3] {
    let body = field(1, &field(2, &field(2, &[field(1, b"of another signal"), field(1_000, b"new")].concat())));
    [
        (METRICS, "/v1/metrics", body.clone()),
        (LOGS, "/v1/logs", body.clone()),
        (PROFILES, "/v1development/profiles", body),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_signals_pass_byte_for_byte() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for (rpc, path, body) in other_signals() {
        let reply = stage.grpc(rpc, &[], &body).await;
        assert_eq!(reply.code(), 0, "{rpc}: {reply:?}");
        let received = sink.only();
        assert_eq!((&received.path[..], &received.body[..]), (rpc, &body[..]));

        let reply = stage.post(path, &[("content-type", "application/x-protobuf")], &body).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let received = sink.only();
        assert_eq!((&received.path[..], &received.body[..]), (rpc, &body[..]));
    }
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Http)).await;
    for (rpc, path, body) in other_signals() {
        assert_eq!(stage.grpc(rpc, &[], &body).await.code(), 0, "{rpc}");
        let received = sink.only();
        assert_eq!((&received.path[..], &received.body[..]), (path, &body[..]));
        for (content_type, body) in [("application/x-protobuf", &body[..]), ("application/json", b" {\"x\":[]} ")] {
            let reply = stage.post(path, &[("content-type", content_type)], body).await;
            assert_eq!(reply.status, 200, "{path}: {reply:?}");
            let received = sink.only();
            assert_eq!((&received.path[..], &received.body[..]), (path, body));
            assert_eq!(received.header("content-type"), Some(content_type));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_other_signals_are_passed_back() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for (rpc, path, body) in other_signals() {
        sink.answer(Answer::code(3));
        assert_eq!(stage.grpc(rpc, &[], &body).await.code(), 3, "{rpc}");
        let reply = stage.post(path, &[("content-type", "application/x-protobuf")], &body).await;
        assert_eq!(reply.status, 400, "{path}: {reply:?}");
        assert_eq!(sink.take().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_only_refuses_other_signals_for_good() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew("traces_only: true")).await;
    for (rpc, path, body) in other_signals() {
        assert_eq!(stage.grpc(rpc, &[], &body).await.code(), 12, "{rpc}");
        let reply = stage.post(path, &[("content-type", "application/x-protobuf")], &body).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    assert!(sink.received().is_empty());
    assert_eq!(stage.send(Via::Grpc, &spans::request(1)).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_metadata_goes_on_and_no_other() {
    for hop in HOPS {
        let sink = Sink::start().await;
        let config = Config::to(&sink, hop).receivers("include_metadata: true");
        let stage = Stage::start(config.unskew("metadata_keys: [X-Scope-OrgID, x-shard]")).await;
        for via in VIAS {
            for tenant in ["red", "blue"] {
                let headers =
                    [("x-scope-orgid", tenant), ("x-other", "1"), ("authorization", "Bearer x"), ("cookie", "a=b")];
                let request = spans::request(1);
                let reply = stage.send_packed(via, Packing::Plain, &headers, &encoded(via, &request)).await;
                assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} to {hop:?}: {reply:?}");
                let received = sink.only();
                assert_eq!(received.header("x-scope-orgid"), Some(tenant), "{via:?} to {hop:?}");
                for other in ["x-other", "authorization", "cookie", "x-shard"] {
                    assert_eq!(received.header(other), None, "{via:?} to {hop:?}");
                }
            }
        }
        let reply = stage.send(Via::Grpc, &spans::request(1)).await;
        assert_eq!(reply.code(), 0);
        assert_eq!(sink.only().header("x-scope-orgid"), None, "of an earlier request");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_hop_gets_it_packed_as_configured() {
    for hop in HOPS {
        for (compression, packing) in [("none", Packing::Plain), ("gzip", Packing::Gzip), ("zstd", Packing::Zstd)] {
            let sink = Sink::start().await;
            let stage = Stage::start(Config::to(&sink, hop).compression(compression)).await;
            let body = spans::request(60).encode_to_vec();
            for sent in [Packing::Plain, Packing::Gzip] {
                let reply = stage.send_packed(Via::Grpc, sent, &[], &body).await;
                assert_eq!(reply.verdict(Via::Grpc), Verdict::Accepted, "{reply:?}");
                let received = sink.only();
                assert_eq!(received.packing, packing, "to {hop:?}");
                assert!(received.body == body);
            }
        }
    }
}

/// A request is cut between spans, and acknowledged when all parts are accepted. JSON is cut as protobuf.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_split_under_the_next_hops_limit() {
    const MIB: usize = 1 << 20;
    for hop in HOPS {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop).exporter("max_request_size_mib: 1")).await;
        let request = spans::request(30_000);
        assert!(request.encoded_len() > 3 * MIB);
        for via in VIAS {
            let reply = stage.send(via, &request).await;
            assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} to {hop:?}: {reply:?}");
            let parts = sink.take();
            assert!(parts.iter().all(|part| part.body.len() <= MIB), "{via:?} to {hop:?}");
            assert!(parts.len() < 16, "{via:?} to {hop:?}: {} parts", parts.len());
            let spans: Vec<_> = parts.iter().flat_map(|part| part.spans()).collect();
            assert!(spans == spans::of(&request), "{via:?} to {hop:?}: other spans, or in another order");
            let first = &request.resource_spans[0];
            for part in parts.iter().flat_map(|part| part.request().resource_spans) {
                assert!(request.resource_spans.iter().any(|of| of.resource == part.resource), "{via:?} to {hop:?}");
                assert_eq!(part.schema_url, first.schema_url);
                assert!(part.scope_spans.iter().all(|scope| scope.scope == first.scope_spans[0].scope));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_request_is_as_well_off_as_its_parts() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).exporter("max_request_size_mib: 1")).await;
    let request = spans::request(10_000);
    assert!((1 << 20..2 << 20).contains(&request.encoded_len()));
    // Of two parts or more, one cannot be taken now.
    sink.answer_once(Answer::Accept);
    sink.answer_once(Answer::code(14));
    let reply = stage.send(Via::Grpc, &request).await;
    assert!(matches!(reply.verdict(Via::Grpc), Verdict::Again { .. }), "{reply:?}");

    // Two reject some.
    sink.answer_once(Answer::Partial { rejected: 2, message: "two of them" });
    sink.answer_once(Answer::Partial { rejected: 3, message: "three of them" });
    let reply = stage.send(Via::Grpc, &request).await;
    match reply.verdict(Via::Grpc) {
        Verdict::Partial { rejected: 5, message } => {
            assert!(message.contains("two of them") && message.contains("three of them"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// A span that is longer than the next hop takes is never sent, and said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_over_the_next_hops_limit_is_rejected() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).exporter("max_request_size_mib: 1")).await;
    let large = ExportTraceServiceRequest::decode(&spans::of_length(2 << 20)[..]).unwrap();
    let good = spans::request(4);
    let mut both = large.clone();
    both.resource_spans.extend(good.resource_spans.clone());
    let reply = stage.send(Via::Grpc, &both).await;
    match reply.verdict(Via::Grpc) {
        Verdict::Partial { rejected: 1, message } => {
            assert!(!message.is_empty());
            let spans: Vec<_> = sink.take().iter().flat_map(|part| part.spans()).collect();
            assert_eq!(spans, spans::of(&good));
        }
        Verdict::Refused => assert!(sink.take().is_empty(), "refused, and yet sent on"),
        other => panic!("{other:?}"),
    }
    let reply = stage.send(Via::Grpc, &large).await;
    assert!(matches!(reply.verdict(Via::Grpc), Verdict::Refused | Verdict::Partial { rejected: 1, .. }), "{reply:?}");
}
