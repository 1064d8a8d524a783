//! How long a request may be, on the wire and unpacked.

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::client::Grpc;
use crate::harness::wire::{self, Packing};
use crate::harness::{Config, Hop, Sink, Stage, TRACES, Verdict, Via, spans};

const MIB: usize = 1 << 20;

/// A stage that takes a megabyte.
async fn limited(sink: &Sink) -> Stage {
    let config = Config::to(sink, Hop::Grpc).grpc("max_recv_msg_size_mib: 1").http("max_request_body_size: 1048576");
    Stage::start(config).await
}

const PACKINGS: [Packing; 3] = [Packing::Plain, Packing::Gzip, Packing::Zstd];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_itself_is_let_through() {
    let sink = Sink::start().await;
    let stage = limited(&sink).await;
    let body = spans::of_length(MIB);
    for via in [Via::Grpc, Via::Protobuf] {
        for packing in PACKINGS {
            let reply = stage.send_packed(via, packing, &[], &body).await;
            assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} {packing:?}: {reply:?}");
            assert_eq!(sink.only().body, body, "{via:?} {packing:?}");
        }
    }
}

/// gRPC: `RESOURCE_EXHAUSTED` that is not to be tried again; HTTP: 413 with a status in the request's encoding.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_more_is_refused_for_good() {
    let sink = Sink::start().await;
    let stage = limited(&sink).await;
    let body = spans::of_length(MIB + 1);
    let json = [&b" ".repeat(MIB)[..], spans::json(&spans::request(1)).as_bytes()].concat();
    for packing in PACKINGS {
        let reply = stage.send_packed(Via::Grpc, packing, &[], &body).await;
        assert_eq!(reply.code(), 8, "{packing:?}: {reply:?}");
        assert_eq!(reply.verdict(Via::Grpc), Verdict::Refused, "{packing:?}: {reply:?}");
        for (via, body) in [(Via::Protobuf, &body), (Via::Json, &json)] {
            let reply = stage.send_packed(via, packing, &[], body).await;
            assert_eq!(reply.status, 413, "{via:?} {packing:?}: {reply:?}");
            assert!(!reply.error(via).message.is_empty(), "{via:?} {packing:?}: {reply:?}");
        }
    }
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_that_is_only_announced_is_refused_too() {
    let sink = Sink::start().await;
    let stage = limited(&sink).await;
    // gRPC's frame says two gigabytes, and nothing follows but the end.
    let reply = stage.grpc_framed(TRACES, &[], vec![0, 0x7f, 0xff, 0xff, 0xff]).await;
    assert_eq!(reply.verdict(Via::Grpc), Verdict::Refused, "{reply:?}");

    // A chunked body names no length.
    let mut stream = tokio::net::TcpStream::connect(stage.http).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
                transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [format!("{:x}\r\n", 64 << 10).as_bytes(), &vec![0; 64 << 10], b"\r\n"].concat();
    for _ in 0..17 {
        stream.write_all(&chunk).await.unwrap();
    }
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    assert!(sink.received().is_empty());
}

/// What unpacks to a gigabyte is never held unpacked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_costs_no_more_memory_than_the_limit() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for packing in [Packing::Gzip, Packing::Zstd] {
        let bomb = bomb(packing, 1 << 30);
        let mut frame = vec![1];
        frame.extend((bomb.len() as u32).to_be_bytes());
        frame.extend(&bomb);
        let reply = stage.grpc_framed(TRACES, &[("grpc-encoding", packing.name())], frame).await;
        assert_eq!((reply.code(), reply.verdict(Via::Grpc)), (8, Verdict::Refused), "{packing:?}: {reply:?}");
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", packing.name())];
        let reply = stage.post("/v1/traces", &headers, &bomb).await;
        assert_eq!(reply.status, 413, "{packing:?}: {reply:?}");
    }
    let most = stage.memory_kb("VmHWM") >> 10;
    // Each of two threads may hold one as it grows, twice its length; a gigabyte is far from that.
    assert!(most < 400, "{most} MiB at the most, of a limit of 64");
    assert!(sink.received().is_empty());
}

/// Zeros, packed without ever being held.
fn bomb(packing: Packing, length: usize) -> Vec<u8> {
    use std::io::Read;
    let mut zeros = std::io::repeat(0).take(length as u64);
    if packing == Packing::Zstd {
        return zstd::encode_all(zeros, 1).unwrap();
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    std::io::copy(&mut zeros, &mut packer).unwrap();
    packer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unless_told_otherwise_the_limit_is_64_mib() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).exporter("max_request_size_mib: 64")).await;
    let most = spans::of_length(64 * MIB);
    let over = spans::of_length(64 * MIB + 1);
    let minute = ("grpc-timeout", "60S");
    let mut grpc = Grpc::to(stage.grpc).await.unwrap();
    for via in [Via::Grpc, Via::Protobuf] {
        let mut send = async |body: &[u8]| match via {
            Via::Grpc => {
                let frame: Bytes = wire::frame(body, Packing::Plain).into();
                grpc.call(TRACES, &[minute], frame).await.unwrap()
            }
            _ => stage.send_bytes(via, body).await,
        };
        let reply = send(&most).await;
        assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?}: {reply:?}");
        assert!(sink.only().body == most, "{via:?}");
        let reply = send(&over).await;
        assert_eq!(reply.verdict(via), Verdict::Refused, "{via:?}: {reply:?}");
    }
    assert!(sink.received().is_empty());
}
