//! The keys of the receivers: those that it has act, and those that it lacks are refused by name.

use std::time::{Duration, Instant};

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::client::Grpc;
use crate::harness::program::validate;
use crate::harness::wire::{self, Packing};
use crate::harness::{Answer, Config, Hop, Sink, Stage, TRACES, free_address, spans};

#[test]
fn what_the_suite_configures_is_valid() {
    let (good, said) = validate(&Config::to_address(free_address(), Hop::Grpc).text());
    assert!(good, "{said}");
}

/// Keys of the Collector's receivers that are not supported; what stands here, and nowhere else, is refused so.
#[test]
fn keys_that_it_lacks_are_refused_by_name() {
    let config = || Config::to_address(free_address(), Hop::Grpc);
    for (keys, name) in [
        ("transport: unix", "transport"),
        ("read_buffer_size: 524288", "read_buffer_size"),
        ("write_buffer_size: 524288", "write_buffer_size"),
        ("middlewares: [{id: limiter}]", "middlewares"),
        ("tls: {cert_file: a, key_file: b, cipher_suites: [TLS_AES_128_GCM_SHA256]}", "cipher_suites"),
    ] {
        let (good, said) = validate(&config().grpc(keys).text());
        assert!(!good && said.contains("not supported") && said.contains(name), "{keys}: {said}");
    }
    for (keys, name) in [
        ("cors: {allowed_origins: [\"https://a.example\"]}", "cors"),
        ("response_headers: {x-a: b}", "response_headers"),
        ("compression_algorithms: [gzip]", "compression_algorithms"),
        ("keep_alives_enabled: false", "keep_alives_enabled"),
        ("traces_url_path: /traces", "traces_url_path"),
        ("middlewares: [{id: limiter}]", "middlewares"),
    ] {
        let (good, said) = validate(&config().http(keys).text());
        assert!(!good && said.contains("not supported") && said.contains(name), "{keys}: {said}");
    }
}

#[test]
fn a_collectors_configuration_gets_answers() {
    let config = || Config::to_address(free_address(), Hop::Grpc);
    let (good, said) = validate(&config().exporter("sending_queue: {enabled: true}").text());
    assert!(!good && said.contains("no queue"), "{said}");
    let batch = config().text().replace("processors: {unskew: {}}", "processors: {unskew: {}, batch: {}}");
    let (good, said) = validate(&batch.replace("processors: [unskew]", "processors: [unskew, batch]"));
    assert!(!good && said.contains("between two Collectors"), "{said}");
    let (good, said) = validate(&config().unskew("max_corection: 1h").text());
    assert!(!good && said.contains("max_correction"), "the nearest key is named: {said}");
    let (good, said) = validate("receivers: [");
    assert!(!good && !said.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_old_is_ended() {
    let sink = Sink::start().await;
    let keys = "keepalive: {server_parameters: {max_connection_age: 1s, max_connection_age_grace: 1s}}";
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).grpc(keys)).await;
    let mut grpc = Grpc::to(stage.grpc).await.unwrap();
    let began = Instant::now();
    let mut calls = 0;
    while grpc.call(TRACES, &[], wire::frame(&spans::request(1).encode_to_vec(), Packing::Plain)).await.is_ok() {
        calls += 1;
        assert!(began.elapsed() < Duration::from_secs(6), "it is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(800) && calls > 3, "{calls} calls, {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_idle_is_ended() {
    let sink = Sink::start().await;
    let keys = "keepalive: {server_parameters: {max_connection_idle: 1s}}";
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).grpc(keys).http("idle_timeout: 1s")).await;
    let mut grpc = Grpc::to(stage.grpc).await.unwrap();
    let mut call = async || grpc.call(TRACES, &[], wire::frame(&[], Packing::Plain)).await.is_ok();
    assert!(call().await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!call().await, "gRPC");

    let mut stream = TcpStream::connect(stage.http).await.unwrap();
    let request =
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_closed(&mut stream, Duration::from_secs(1), "HTTP").await;
}

/// Whether the other side ends the connection; not before half of what it is told, nor long after.
async fn assert_closed(stream: &mut TcpStream, after: Duration, what: &str) {
    let began = Instant::now();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(after + Duration::from_secs(4), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "{what}: still open");
    assert!(began.elapsed() > after / 2, "{what}: ended after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_ends_is_ended() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).http("read_timeout: 1s")).await;
    for begun in [
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\n",
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(stage.http).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert_closed(&mut stream, Duration::from_secs(1), begun).await;
    }
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_calls_at_once_than_a_connection_may_have() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).grpc("max_concurrent_streams: 2")).await;
    let grpc = Grpc::to(stage.grpc).await.unwrap();
    let call = async || {
        let frame = wire::frame(&spans::request(1).encode_to_vec(), Packing::Plain);
        grpc.clone().call(TRACES, &[], frame).await.unwrap().code()
    };
    // So that the client knows what the server allows.
    assert_eq!(call().await, 0);
    sink.answer(Answer::late(Duration::from_millis(500), Answer::Accept));
    let began = Instant::now();
    let codes = tokio::join!(call(), call(), call(), call());
    assert_eq!(codes, (0, 0, 0, 0));
    assert!(began.elapsed() >= Duration::from_millis(1_000), "four at once: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_may_come_from_the_environment() {
    let sink = Sink::start().await;
    let text = Config::to(&sink, Hop::Grpc).text();
    let (good, said) = validate(&text.replace("level: info", "level: \"${env:UNSKEW_SUITE_UNSET:-debug}\""));
    assert!(good, "{said}");
    let (good, said) = validate(&text.replace("level: info", "level: \"${env:UNSKEW_SUITE_UNSET:-shout}\""));
    assert!(!good && said.contains("shout"), "{said}");
}
