//! What operators see and do: the admin port, reload, and the end.

use std::time::{Duration, Instant};

use crate::harness::{Answer, Config, Hop, Sink, Stage, Verdict, Via, spans};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_about_forwarding() {
    let sink = Sink::start().await;
    let mut stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    drop(sink);
    let reply = stage.send(Via::Grpc, &spans::request(1)).await;
    assert_eq!(reply.code(), 14, "{reply:?}");
    stage.wait_for("/readyz", 503).await;
    assert_eq!(stage.get("/healthz").await.status, 200, "it lives, and has nobody to speak to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_counted_by_what_became_of_them() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    assert_eq!(stage.metric("unskew_spans_total", "").await, 0.0);
    for via in crate::harness::client::VIAS {
        stage.send(via, &spans::request(5)).await;
    }
    assert_eq!(stage.metric("unskew_spans_total", "outcome=\"no_model\"").await, 15.0);
    assert_eq!(stage.metric("unskew_spans_total", "").await, 15.0, "each span has one outcome");
    let metrics = stage.get("/metrics").await;
    assert!(metrics.media_type() == "text/plain" || metrics.media_type() == "application/openmetrics-text");
    for line in metrics.text().lines().filter(|line| line.starts_with("# TYPE") && line.ends_with(" counter")) {
        // OpenMetrics names the family, Prometheus the series.
        let family = line.split(' ').nth(2).unwrap().trim_end_matches("_total");
        for series in metrics.text().lines().filter_map(|line| line.strip_prefix(family)) {
            assert!(series.starts_with("_total"), "{family}{series}: counters end in _total");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_are_told_as_json() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let clocks = stage.get("/clocks").await;
    assert_eq!((clocks.status, clocks.media_type()), (200, "application/json"), "{clocks:?}");
    serde_json::from_slice::<serde_json::Value>(&clocks.body).unwrap();
    assert_eq!(stage.get("/no-such-path").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_read_again_from_one_request_to_the_next() {
    let sink = Sink::start().await;
    let config = Config::to(&sink, Hop::Grpc);
    let stage = Stage::start(config.clone()).await;
    let body = [0x0a, 0x00];
    let logs = async || stage.grpc(crate::harness::LOGS, &[], &body).await.code();
    assert_eq!(logs().await, 0);
    stage.reload(&config.clone().unskew("traces_only: true"));
    within("the new one is not taken up", async || logs().await == 12).await;

    // A bad one changes nothing, and is said.
    let before = stage.log().len();
    stage.reload(&config.clone().unskew("traces_onyl: false"));
    within("nothing is said of the bad one", async || stage.log()[before..].contains("traces_onyl")).await;
    assert_eq!(logs().await, 12);
    assert_eq!(stage.send(Via::Grpc, &spans::request(1)).await.code(), 0);
    stage.reload(&config);
    within("the good one is not taken up", async || logs().await == 0).await;
}

async fn within(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_when_all_that_it_holds_is_answered() {
    let sink = Sink::start().await;
    let mut stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    sink.answer(Answer::late(Duration::from_secs(2), Answer::Accept));
    let request = spans::request(1);
    let end = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.signal("TERM");
    };
    let (reply, ()) = tokio::join!(stage.send(Via::Grpc, &request), end);
    assert_eq!(reply.verdict(Via::Grpc), Verdict::Accepted, "what was in flight: {reply:?}");
    let status = stage.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0), "{}", stage.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_cannot_bring_away_is_refused_and_counted() {
    let sink = Sink::start().await;
    let mut stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew("drain_timeout: 1s")).await;
    sink.answer(Answer::late(Duration::from_secs(60), Answer::Accept));
    let request = spans::request(1);
    let end = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.signal("TERM");
    };
    let (reply, ()) = tokio::join!(async { stage.send(Via::Grpc, &request).await }, end);
    assert!(matches!(reply.verdict(Via::Grpc), Verdict::Again { .. }), "{reply:?}");
    let status = stage.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(1), "{}", stage.log());
    assert!(stage.log().lines().last().unwrap_or("").contains('1'), "no count: {}", stage.log());
}
