//! Content types, methods, paths and compression.

use hyper::Method;
use prost::Message;

use crate::harness::client::{Grpc, VIAS, encoded, media_type};
use crate::harness::wire::{self, Packing};
use crate::harness::{Config, Hop, Sink, Stage, TRACES, Verdict, Via, spans};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_media_type_may_have_parameters_and_any_case() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for (content_type, via) in [
        ("application/x-protobuf", Via::Protobuf),
        ("application/x-protobuf; charset=utf-8", Via::Protobuf),
        ("Application/X-Protobuf", Via::Protobuf),
        ("application/json", Via::Json),
        ("application/json;charset=UTF-8", Via::Json),
        ("APPLICATION/json ; a=b", Via::Json),
    ] {
        let request = spans::request(3);
        let reply = stage.post("/v1/traces", &[("content-type", content_type)], &encoded(via, &request)).await;
        assert_eq!(reply.status, 200, "{content_type}: {reply:?}");
        assert_eq!(reply.media_type(), media_type(via), "{content_type}");
        assert_eq!(sink.only().spans(), spans::of(&request), "{content_type}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_may_name_its_encoding() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let request = spans::request(1);
    let mut grpc = Grpc::to(stage.grpc).await.unwrap();
    let body = wire::frame(&request.encode_to_vec(), Packing::Plain);
    let reply = grpc.call(TRACES, &[("grpc-encoding", "identity")], body).await.unwrap();
    assert_eq!(reply.code(), 0);
    assert_eq!(sink.only().spans(), spans::of(&request));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_media_types_are_415_in_plain_text() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let request = spans::request(1).encode_to_vec();
    for content_type in ["text/plain", "application/xml", "application/x-protobuffer", "application/jsonl", ""] {
        let headers: &[_] = if content_type.is_empty() { &[] } else { &[("content-type", content_type)] };
        let reply = stage.post("/v1/traces", headers, &request).await;
        assert_eq!(reply.status, 415, "`{content_type}`: {reply:?}");
        assert_eq!(reply.media_type(), "text/plain", "`{content_type}`: {reply:?}");
        assert!(!reply.body.is_empty());
    }
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_are_405_in_plain_text() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let headers = [("content-type", "application/x-protobuf")];
        let reply = stage.http(&method, "/v1/traces", &headers, &[]).await;
        assert_eq!(reply.status, 405, "{method}: {reply:?}");
        assert_eq!(reply.media_type(), "text/plain", "{method}: {reply:?}");
    }
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_are_not_found() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for path in ["/", "/v1/trace", "/v1/traces/more", "/v2/traces"] {
        let reply = stage.post(path, &[("content-type", "application/x-protobuf")], &[]).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    for path in ["/opentelemetry.proto.collector.trace.v1.TraceService/Import", "/grpc.health.v2.Other/Check"] {
        assert_eq!(stage.grpc(path, &[], &[]).await.code(), 12, "{path}");
    }
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_may_be_packed() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for via in VIAS {
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let request = spans::request(5);
            let reply = stage.send_packed(via, packing, &[], &encoded(via, &request)).await;
            assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} {packing:?}: {reply:?}");
            assert_eq!(sink.only().spans(), spans::of(&request), "{via:?} {packing:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packing_that_is_broken_is_bad_data() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut packed = packing.pack(&spans::request(50).encode_to_vec());
        packed.truncate(packed.len() / 2);
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", packing.name())];
        let reply = stage.post("/v1/traces", &headers, &packed).await;
        assert_eq!(reply.status, 400, "{packing:?}: {reply:?}");
        assert!(!reply.error(Via::Protobuf).message.is_empty());

        let mut frame = vec![1];
        frame.extend((packed.len() as u32).to_be_bytes());
        frame.extend(packed);
        let reply = stage.grpc_framed(TRACES, &[("grpc-encoding", packing.name())], frame).await;
        assert_eq!(reply.verdict(Via::Grpc), Verdict::Refused, "{packing:?}: {reply:?}");
    }
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packing_that_grpc_lacks_is_told_with_what_it_has() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let mut frame = wire::frame(&spans::request(1).encode_to_vec(), Packing::Plain);
    frame[0] = 1;
    let reply = stage.grpc_framed(TRACES, &[("grpc-encoding", "snappy")], frame).await;
    assert_eq!(reply.code(), 12, "{reply:?}");
    let known = reply.header("grpc-accept-encoding").unwrap_or_else(|| panic!("{reply:?}"));
    for name in ["gzip", "zstd"] {
        assert!(known.split(',').any(|known| known.trim() == name), "{known}");
    }
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packing_that_http_lacks_is_refused() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "br")];
    let reply = stage.post("/v1/traces", &headers, &spans::request(1).encode_to_vec()).await;
    assert!([400, 415].contains(&reply.status), "{reply:?}");
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_may_be_version_2() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let request = spans::request(2);
    let mut connection = Grpc::to(stage.http).await.unwrap();
    let headers = [("content-type", "application/x-protobuf")];
    let reply = connection.post("/v1/traces", &headers, request.encode_to_vec()).await.unwrap();
    assert_eq!(reply.verdict(Via::Protobuf), Verdict::Accepted, "{reply:?}");
    assert_eq!(sink.only().spans(), spans::of(&request));
}
