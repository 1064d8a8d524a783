//! Who may send: tokens and certificates, and what the program shows to its next hop.

use hyper::Method;
use prost::Message;

use crate::harness::certificates::Certificates;
use crate::harness::client::{Grpc, Http, VIAS, encoded};
use crate::harness::config::HOPS;
use crate::harness::wire::{self, Packing};
use crate::harness::{Config, Hop, Sink, Stage, TRACES, Verdict, Via, spans};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_has_to_be_shown() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).token("open-sesame")).await;
    for via in VIAS {
        let request = spans::request(1);
        let body = encoded(via, &request);
        for wrong in
            [None, Some("Bearer open"), Some("Bearer open-sesame-2"), Some("open-sesame"), Some("Basic b3Blbg==")]
        {
            let headers: Vec<_> = wrong.iter().map(|token| ("authorization", *token)).collect();
            let reply = stage.send_packed(via, Packing::Plain, &headers, &body).await;
            match via {
                Via::Grpc => assert_eq!(reply.code(), 16, "{wrong:?}: {reply:?}"),
                _ => assert_eq!(reply.status, 401, "{via:?}, {wrong:?}: {reply:?}"),
            }
            reply.error(via);
        }
        assert!(sink.received().is_empty(), "{via:?}");
        let headers = [("authorization", "Bearer open-sesame")];
        let reply = stage.send_packed(via, Packing::Plain, &headers, &body).await;
        assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?}: {reply:?}");
        assert_eq!(sink.only().header("authorization"), None, "a token is for us");
    }
    // Other signals are behind the same door.
    assert_eq!(stage.grpc(crate::harness::LOGS, &[], &[]).await.code(), 16);
}

/// Sends over TLS, with a certificate of our own or without; `None` where no connection comes about.
async fn send(stage: &Stage, certificates: &Certificates, via: Via, shown: bool) -> Option<Verdict> {
    let body = spans::request(1).encode_to_vec();
    let reply = if via == Via::Grpc {
        let mut grpc = Grpc::to_tls(stage.grpc, certificates.client(shown, b"h2")).await.ok()?;
        grpc.call(TRACES, &[], wire::frame(&body, Packing::Plain)).await.ok()?
    } else {
        let mut http = Http::to_tls(stage.http, certificates.client(shown, b"http/1.1")).await.ok()?;
        http.call(&Method::POST, "/v1/traces", &[("content-type", "application/x-protobuf")], body).await.ok()?
    };
    Some(reply.verdict(via))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_speak_tls() {
    let certificates = Certificates::new();
    let sink = Sink::start().await;
    let config = Config::to(&sink, Hop::Grpc).receivers(&format!("tls: {{{}}}", certificates.keys("server")));
    let stage = Stage::start(config).await;
    for via in [Via::Grpc, Via::Protobuf] {
        assert_eq!(send(&stage, &certificates, via, false).await, Some(Verdict::Accepted), "{via:?}");
    }
    assert_eq!(sink.take().len(), 2);
    let plain = async {
        let mut http = Http::to(stage.http).await.ok()?;
        let headers = [("content-type", "application/x-protobuf")];
        let reply = http.call(&Method::POST, "/v1/traces", &headers, spans::request(1).encode_to_vec()).await.ok()?;
        (reply.status == 200).then_some(())
    };
    assert_eq!(plain.await, None, "in the clear");
    assert!(sink.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_ask_for_a_certificate() {
    let certificates = Certificates::new();
    let strangers = Certificates::new();
    let sink = Sink::start().await;
    let ca = certificates.path("ca.pem");
    let keys = format!("tls: {{{}, client_ca_file: \"{}\"}}", certificates.keys("server"), ca.display());
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).receivers(&keys)).await;
    for via in [Via::Grpc, Via::Protobuf] {
        assert_eq!(send(&stage, &certificates, via, false).await, None, "{via:?} without one");
        assert_eq!(send(&stage, &strangers, via, true).await, None, "{via:?} of another authority");
        assert!(sink.received().is_empty());
        assert_eq!(send(&stage, &certificates, via, true).await, Some(Verdict::Accepted), "{via:?}");
        assert_eq!(sink.take().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_hop_is_spoken_to_over_tls() {
    let certificates = Certificates::new();
    let strangers = Certificates::new();
    for hop in HOPS {
        let sink = Sink::with_tls(certificates.server()).await;
        let ca = |of: &Certificates| format!("ca_file: \"{}\"", of.path("ca.pem").display());
        let keys = format!("{}, {}", ca(&certificates), certificates.keys("client"));
        let stage = Stage::start(Config::to(&sink, hop).exporter_tls(&keys)).await;
        for via in VIAS {
            let reply = stage.send(via, &spans::request(1)).await;
            assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} to {hop:?}: {reply:?}");
        }
        assert_eq!(sink.take().len(), VIAS.len());

        // A next hop that nobody vouches for gets nothing.
        let keys = format!("{}, {}", ca(&strangers), certificates.keys("client"));
        let mut stage = Stage::begin(&Config::to(&sink, hop).exporter_tls(&keys));
        stage.wait_for("/healthz", 200).await;
        let reply = stage.send(Via::Grpc, &spans::request(1)).await;
        assert_eq!(reply.code(), 14, "{hop:?}: {reply:?}");
        assert!(sink.received().is_empty());
    }
}
