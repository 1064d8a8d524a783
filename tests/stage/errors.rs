//! Errors: of the request, of the next hop, and of too much at once; what is permanent stays so across every pair of
//! transports, and what is not stays worth another try.

use std::time::{Duration, Instant, SystemTime};

use prost::Message;

use crate::fixed::Fixed;
use crate::harness::client::VIAS;
use crate::harness::config::HOPS;
use crate::harness::wire::Packing;
use crate::harness::{Answer, Config, Hop, Sink, Stage, Verdict, Via, free_address, spans};

/// Whether the sender is to try again, whatever it is told of when.
fn again(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Again { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_data_is_refused_for_good_in_the_encoding_it_came_in() {
    let whole = spans::request(2).encode_to_vec();
    let cut = &whole[..whole.len() - 3];
    let fixed = Fixed::of("s1", false);
    for mode in ["observe", "correct"] {
        let sink = Sink::start().await;
        let config = Config::to(&sink, Hop::Grpc);
        let stage = Stage::start(if mode == "observe" { config } else { config.correcting_by(fixed.models()) }).await;
        for (via, body) in [
            (Via::Grpc, cut),
            (Via::Protobuf, cut),
            (Via::Protobuf, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            (Via::Json, b"{\"resourceSpans\":[{"),
            (Via::Json, b"[]"),
            (Via::Json, b""),
            (Via::Json, br#"{"resourceSpans":"none"}"#),
        ] {
            let reply = stage.send_bytes(via, body).await;
            let what = format!("{mode}: {via:?}, {}", String::from_utf8_lossy(body));
            match via {
                Via::Grpc => assert_eq!(reply.code(), 3, "{what}: {reply:?}"),
                _ => assert_eq!(reply.status, 400, "{what}: {reply:?}"),
            }
            assert!(!reply.error(via).message.is_empty(), "{what}: {reply:?}");
        }
        assert!(sink.received().is_empty(), "{mode}");
    }
}

/// gRPC to gRPC: every code as it is, its words and its `RetryInfo`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_codes_pass_between_grpc_hops() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for code in 1..=16 {
        for retry_after in [None, Some(Duration::from_secs(7))] {
            sink.answer(Answer::Code { code, message: "words-of-the-next-hop", retry_after });
            let reply = stage.send(Via::Grpc, &spans::request(1)).await;
            let error = reply.error(Via::Grpc);
            assert_eq!(reply.code(), code, "{retry_after:?}: {reply:?}");
            assert_eq!(error.retry_after(), retry_after, "{code}: {reply:?}");
            assert!(error.message.contains("words-of-the-next-hop"), "{code}: {error:?}");
            assert_eq!(sink.take().len(), 1, "{code}: the sender tries again, nobody else");
        }
    }
}

/// gRPC's codes to HTTP's, as the Collector has them, but that a permanent `RESOURCE_EXHAUSTED` is not made a 429.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_codes_become_http_codes() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for (code, status) in [
        (1, 503),
        (2, 500),
        (3, 400),
        (4, 503),
        (5, 500),
        (6, 500),
        (7, 403),
        (9, 500),
        (10, 503),
        (11, 503),
        (12, 404),
        (13, 500),
        (14, 503),
        (15, 503),
        (16, 401),
    ] {
        for via in [Via::Protobuf, Via::Json] {
            sink.answer(Answer::code(code));
            let reply = stage.send(via, &spans::request(1)).await;
            assert_eq!(reply.status, status, "{code} for {via:?}: {reply:?}");
            let error = reply.error(via);
            assert!(error.message.contains("as-the-next-hop-says"), "{code}: {error:?}");
            assert!([0, code].contains(&error.code), "{code}: {error:?}");
            assert_eq!(sink.take().len(), 1, "{code}");
        }
    }
    for via in [Via::Protobuf, Via::Json] {
        let reply = stage_says(&stage, &sink, via, Answer::code(8)).await;
        assert_eq!(reply, Verdict::Refused, "exhausted for good, {via:?}");
        for code in [8, 14] {
            let retry_after = Some(Duration::from_secs(11));
            let answer = Answer::Code { code, message: "later", retry_after };
            let verdict = stage_says(&stage, &sink, via, answer).await;
            assert_eq!(verdict, Verdict::Again { after_s: Some(11) }, "{code} for {via:?}");
        }
    }
}

async fn stage_says(stage: &Stage, sink: &Sink, via: Via, answer: Answer) -> Verdict {
    sink.answer(answer);
    stage.send(via, &spans::request(1)).await.verdict(via)
}

/// HTTP's codes to gRPC's. Where gRPC has several that would do, whether to try again is what has to be right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_codes_become_grpc_codes() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Http)).await;
    for (status, codes) in [
        (400, &[3][..]),
        (401, &[16]),
        (403, &[7]),
        (404, &[5, 12]),
        (405, &[2, 3, 12, 13]),
        (413, &[2, 3, 8, 13]),
        (415, &[2, 3, 12, 13]),
        (429, &[8, 14]),
        (500, &[2, 13]),
        (501, &[2, 12, 13]),
        (502, &[14]),
        (503, &[14]),
        (504, &[4, 14]),
    ] {
        sink.answer(Answer::http(status));
        let reply = stage.send(Via::Grpc, &spans::request(1)).await;
        assert!(codes.contains(&reply.code()), "{status}: {reply:?}");
        let expected = [429, 502, 503, 504].contains(&status);
        assert_eq!(again(&reply.verdict(Via::Grpc)), expected, "{status}: {reply:?}");
        assert!(reply.error(Via::Grpc).message.contains("as-the-next-hop-says"), "{status}: {reply:?}");
        assert_eq!(sink.take().len(), 1, "{status}");
    }
    for status in [429, 503] {
        let retry_after = Some("9".to_owned());
        let answer = Answer::Http { status, message: "later", retry_after };
        assert_eq!(stage_says(&stage, &sink, Via::Grpc, answer).await, Verdict::Again { after_s: Some(9) }, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_codes_pass_between_http_hops() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Http)).await;
    for via in [Via::Protobuf, Via::Json] {
        for (status, passed) in [
            (400, &[400][..]),
            (401, &[401]),
            (403, &[403]),
            (404, &[404]),
            (413, &[400, 413]),
            (429, &[429, 503]),
            (500, &[500]),
            (502, &[502, 503]),
            (503, &[503]),
            (504, &[503, 504]),
        ] {
            for retry_after in [None, Some("13".to_owned())] {
                let message = "words-of-the-next-hop";
                sink.answer(Answer::Http { status, message, retry_after: retry_after.clone() });
                let reply = stage.send(via, &spans::request(1)).await;
                assert!(passed.contains(&reply.status), "{status}, {via:?}: {reply:?}");
                assert!(reply.error(via).message.contains(message), "{via:?}: {reply:?}");
                if let (429 | 503, Some(after)) = (status, &retry_after) {
                    assert_eq!(reply.header("retry-after"), Some(&after[..]), "{via:?}, {status}");
                }
                assert_eq!(sink.take().len(), 1, "{status}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_date_to_try_again_at_is_understood() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Http)).await;
    let at = chrono::DateTime::<chrono::Utc>::from(SystemTime::now() + Duration::from_secs(40));
    let retry_after = Some(at.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    let answer = Answer::Http { status: 503, message: "later", retry_after };
    let verdict = stage_says(&stage, &sink, Via::Grpc, answer).await;
    assert!(matches!(verdict, Verdict::Again { after_s: Some(30..=41) }), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_hop_that_is_gone_is_worth_another_try_and_comes_back() {
    for hop in HOPS {
        let address = free_address();
        let mut stage = Stage::begin(&Config::to_address(address, hop));
        stage.wait_for("/healthz", 200).await;
        for via in VIAS {
            let reply = stage.send(via, &spans::request(1)).await;
            match via {
                Via::Grpc => assert_eq!(reply.code(), 14, "{hop:?}: {reply:?}"),
                _ => assert!([502, 503].contains(&reply.status), "{via:?} to {hop:?}: {reply:?}"),
            }
            assert!(!reply.error(via).message.is_empty());
        }
        let sink = Sink::at(address).await;
        stage.wait_for("/readyz", 200).await;
        for via in VIAS {
            let reply = stage.send(via, &spans::request(1)).await;
            assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?} to {hop:?}: {reply:?}");
        }
        assert_eq!(sink.received().len(), VIAS.len());
    }
}

/// What is left of the sender's time is what the next hop has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_next_hop_is_given_the_time_that_the_sender_has() {
    for hop in HOPS {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop)).await;
        sink.answer(Answer::late(Duration::from_secs(20), Answer::Accept));
        let body = spans::request(1).encode_to_vec();
        let began = Instant::now();
        let reply = stage.send_packed(Via::Grpc, Packing::Plain, &[("grpc-timeout", "600m")], &body).await;
        assert!([4, 14].contains(&reply.code()), "{hop:?}: {reply:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());

        for via in VIAS {
            let began = Instant::now();
            let reply = stage.send(via, &spans::request(1)).await;
            assert!(again(&reply.verdict(via)), "{via:?} to {hop:?}: {reply:?}");
            let seconds = began.elapsed().as_secs_f64();
            assert!((4.0..8.0).contains(&seconds), "{via:?} to {hop:?}: {seconds} s; five unless the sender says");
        }
    }
}

/// More than may be in flight is to be sent again later, and so told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_in_flight_is_pushed_back() {
    let body = spans::of_length(700_000);
    let json = spans::json(&spans::request(2_500)).into_bytes();
    for via in VIAS {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew("max_in_flight_mib: 1")).await;
        let body: &[u8] = if via == Via::Json { &json } else { &body };
        assert!((600_000..1 << 20).contains(&body.len()), "{}", body.len());
        sink.answer(Answer::late(Duration::from_millis(1_500), Answer::Accept));
        let first = stage.send_bytes(via, body);
        let second = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            stage.send_bytes(via, body).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.verdict(via), Verdict::Accepted, "{via:?}: {first:?}");
        match via {
            Via::Grpc => assert_eq!(second.code(), 14, "{second:?}"),
            _ => {
                assert!([429, 503].contains(&second.status), "{via:?}: {second:?}");
                assert!(matches!(second.verdict(via), Verdict::Again { after_s: Some(1..) }), "{via:?}: {second:?}");
                assert!(!second.error(via).message.is_empty());
            }
        }
        let third = stage.send_bytes(via, body).await;
        assert_eq!(third.verdict(via), Verdict::Accepted, "{via:?}: {third:?}");
        assert_eq!(sink.received().len(), 2);
    }
}

/// Packed requests count as they are unpacked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_counts_unpacked() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew("max_in_flight_mib: 1")).await;
    let body = spans::of_length(700_000);
    sink.answer(Answer::late(Duration::from_millis(1_500), Answer::Accept));
    let first = stage.send_packed(Via::Grpc, Packing::Gzip, &[], &body);
    let second = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.send_packed(Via::Grpc, Packing::Gzip, &[], &body).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.code(), second.code()), (0, 14), "{first:?} {second:?}");
}

/// A request that is longer than all that may be in flight would never pass otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_larger_request_is_let_through_alone() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew("max_in_flight_mib: 1")).await;
    let large = spans::of_length(3 << 20);
    sink.answer(Answer::late(Duration::from_millis(1_500), Answer::Accept));
    let first = stage.send_bytes(Via::Grpc, &large);
    let second = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.send(Via::Grpc, &spans::request(1)).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.code(), second.code()), (0, 14), "{first:?} {second:?}");
    assert_eq!(stage.send(Via::Grpc, &spans::request(1)).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_goes_away_gives_its_share_back() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew("max_in_flight_mib: 1")).await;
    let body = spans::of_length(900_000);
    sink.answer_once(Answer::late(Duration::from_secs(30), Answer::Accept));
    let gone = tokio::time::timeout(Duration::from_millis(500), stage.send_bytes(Via::Grpc, &body)).await;
    assert!(gone.is_err());
    // At the latest when the time that it had is over.
    let began = Instant::now();
    while stage.send_bytes(Via::Grpc, &body).await.verdict(Via::Grpc) != Verdict::Accepted {
        assert!(began.elapsed() < Duration::from_secs(8), "what it held is never given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
