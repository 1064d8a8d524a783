//! The stage corrects by a model of `fix` as `fix` did: the laboratory's traces, record by record.

use std::collections::BTreeSet;

use prost::Message;

use crate::fixed::{Fixed, json_views, protobuf_views};
use crate::harness::client::Via;
use crate::harness::sink::Received;
use crate::harness::{Config, Hop, Sink, Stage, Verdict, spans};

/// Sends every record, one after the other, and returns what the next hop got.
async fn through(stage: &Stage, sink: &Sink, via: Via, records: &[Vec<u8>]) -> Vec<Received> {
    for (nth, record) in records.iter().enumerate() {
        let reply = stage.send_bytes(via, record).await;
        assert_eq!(reply.verdict(via), Verdict::Accepted, "record {nth}: {reply:?}");
    }
    sink.take()
}

/// All ways through a stage whose encoding stays.
const WAYS: [(Via, Hop); 5] = [
    (Via::Grpc, Hop::Grpc),
    (Via::Grpc, Hop::Http),
    (Via::Protobuf, Hop::Grpc),
    (Via::Protobuf, Hop::Http),
    (Via::Json, Hop::Http),
];

/// At most so many of a thousand spans may be excepted.
async fn corrects_like_fix(scenario: &'static str, spans: usize, most_per_mille: usize) {
    for (via, hop) in WAYS {
        let json = via == Via::Json;
        let fixed = Fixed::of(scenario, json);
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop).correcting_by(fixed.models())).await;
        let received = through(&stage, &sink, via, &fixed.recorded).await;
        assert!(received.iter().all(|received| received.is_json() == json), "the encoding stays");
        let (all, excepted) = fixed.check(received.iter().map(|received| &received.body[..]), json);
        println!("{scenario}, {via:?} to {hop:?}: {all} spans, of which {excepted} are excepted");
        assert_eq!(all, spans, "{scenario}, {via:?} to {hop:?}");
        assert!(excepted * 1_000 <= most_per_mille * all, "{scenario}, {via:?} to {hop:?}: {excepted} excepted");
        assert!(stage.metric("unskew_spans_total", "outcome=\"moved\"").await > 0.0);
        assert_eq!(stage.metric("unskew_spans_total", "").await, all as f64, "each span has one outcome");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_offsets_are_corrected_as_fix_does() {
    corrects_like_fix("s1", 51_604, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_step_are_corrected_as_fix_does() {
    let spans = Fixed::of("s3", false).corrected.iter().map(|record| protobuf_views(record).len()).sum();
    corrects_like_fix("s3", spans, 9).await;
}

/// JSON on its way to a next hop that speaks gRPC: the same times as in protobuf.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_to_grpc_has_the_same_times() {
    let fixed = Fixed::of("s1", true);
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models())).await;
    let received = through(&stage, &sink, Via::Json, &fixed.recorded).await;
    let mut spans = 0;
    for (nth, (corrected, received)) in fixed.corrected.iter().zip(&received).enumerate() {
        let (corrected, received) = (json_views(corrected), protobuf_views(&received.body));
        assert_eq!(corrected.len(), received.len(), "record {nth}");
        for (corrected, received) in corrected.iter().zip(&received) {
            assert_eq!((&received.key, &received.times), (&corrected.key, &corrected.times), "record {nth}");
            spans += 1;
        }
    }
    assert_eq!(spans, 51_604);
}

/// `fix` and the stage write the same bytes, marks and all, wherever no span is excepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_those_of_fix_byte_for_byte() {
    for (via, hop) in [(Via::Grpc, Hop::Grpc), (Via::Json, Hop::Http)] {
        let fixed = Fixed::of("s1", via == Via::Json);
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop).correcting_by(fixed.models())).await;
        let received = through(&stage, &sink, via, &fixed.recorded).await;
        for (nth, (corrected, received)) in fixed.corrected.iter().zip(&received).enumerate() {
            assert!(received.body.trim_ascii_end() == corrected.trim_ascii_end(), "{via:?}: record {nth} differs");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observing_changes_nothing_and_annotating_no_time() {
    let fixed = Fixed::of("s1", false);
    let some = &fixed.recorded[..fixed.recorded.len().min(40)];
    let sink = Sink::start().await;
    let models = format!("models: \"{}\"", fixed.models().display());
    let config = Config::to(&sink, Hop::Grpc).unskew(&models);
    let stage = Stage::start(config.clone()).await;
    let received = through(&stage, &sink, Via::Grpc, some).await;
    assert!(received.iter().zip(some).all(|(received, record)| received.body == record));
    assert!(stage.log().contains("mode"), "nothing says how to begin correcting: {}", stage.log());

    let config = Config::to(&sink, Hop::Grpc).unskew(&models).unskew("mode: annotate");
    let stage = Stage::start(config).await;
    let received = through(&stage, &sink, Via::Grpc, some).await;
    let mut annotated = 0;
    for ((recorded, corrected), received) in some.iter().zip(&fixed.corrected).zip(&received) {
        let [recorded, corrected, received] = [&recorded[..], &corrected[..], &received.body[..]].map(protobuf_views);
        for ((recorded, corrected), received) in recorded.iter().zip(&corrected).zip(&received) {
            assert_eq!((&received.times, &received.rest), (&recorded.times, &recorded.rest));
            let names: BTreeSet<_> = received.marks.iter().map(|mark| mark.split(' ').next().unwrap()).collect();
            let moved = !corrected.marks.is_empty();
            annotated += usize::from(moved);
            let expected: &[&str] =
                if moved { &["unskew.clock", "unskew.estimated_offset_ns", "unskew.uncertainty_ns"] } else { &[] };
            assert_eq!(names, expected.iter().copied().collect(), "{:?}", received.key);
        }
    }
    assert!(annotated > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_may_be_left_alone_and_too_large_corrections_are_not_made() {
    let fixed = Fixed::of("s1", false);
    let some = &fixed.recorded[..fixed.recorded.len().min(40)];
    // pay-1 is 2.15 s ahead and api-1 1.02 s behind.
    for (keys, left, outcome) in
        [("leave_alone: [pay-1]", "pay-1", "left_alone"), ("max_correction: 1500ms", "pay-1", "capped")]
    {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models()).unskew(keys)).await;
        let received = through(&stage, &sink, Via::Grpc, some).await;
        let (mut counts, mut right) = ([0; 2], 0);
        for ((recorded, corrected), received) in some.iter().zip(&fixed.corrected).zip(&received) {
            let [recorded, corrected, received] =
                [&recorded[..], &corrected[..], &received.body[..]].map(protobuf_views);
            for ((recorded, corrected), received) in recorded.iter().zip(&corrected).zip(&received) {
                let of_it = corrected.marks.iter().any(|mark| mark.contains("unskew.clock") && mark.contains(left));
                counts[usize::from(of_it)] += 1;
                right += usize::from(corrected.marks.is_empty());
                assert_eq!(received, if of_it { recorded } else { corrected }, "{keys}");
            }
        }
        assert!(counts.iter().all(|count| *count > 0), "{keys}: {counts:?}");
        let counted = stage.metric("unskew_spans_total", &format!("outcome=\"{outcome}\"")).await;
        // Spans whose clocks have nothing wrong with them are left alone, too.
        let expected = counts[1] + if outcome == "left_alone" { right } else { 0 };
        assert_eq!(counted, expected as f64, "{keys}");
    }
}

/// Two stages in a row correct once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_marked_passes_as_it_is() {
    for (via, hop) in [(Via::Grpc, Hop::Grpc), (Via::Json, Hop::Http)] {
        let fixed = Fixed::of("s1", via == Via::Json);
        let some = &fixed.corrected[..fixed.corrected.len().min(40)];
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop).correcting_by(fixed.models())).await;
        let received = through(&stage, &sink, via, some).await;
        assert!(received.iter().zip(some).all(|(received, record)| received.body == record), "{via:?}");
        assert!(stage.metric("unskew_spans_total", "outcome=\"marked\"").await > 0.0);
        assert_eq!(stage.metric("unskew_spans_total", "outcome=\"moved\"").await, 0.0);
    }
}

/// The mode is another from one request to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn correcting_begins_and_ends_with_a_reload() {
    let fixed = Fixed::of("s1", false);
    let sink = Sink::start().await;
    let models = format!("models: \"{}\"", fixed.models().display());
    let observe = Config::to(&sink, Hop::Grpc).unskew(&models);
    let stage = Stage::start(observe.clone()).await;
    let nth = (0..fixed.recorded.len()).find(|&nth| fixed.recorded[nth] != fixed.corrected[nth]).unwrap();
    for (config, expected) in
        [(observe.clone().unskew("mode: correct"), &fixed.corrected[nth]), (observe, &fixed.recorded[nth])]
    {
        stage.reload(&config);
        let began = std::time::Instant::now();
        loop {
            stage.send_bytes(Via::Grpc, &fixed.recorded[nth]).await;
            if sink.only().body == expected[..] {
                break;
            }
            assert!(began.elapsed().as_secs() < 5, "the mode does not change");
        }
    }
}

/// A resource that no model is of, beside others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_nobody_knows_passes_unmoved() {
    let fixed = Fixed::of("s1", false);
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models())).await;
    let body = spans::request(6).encode_to_vec();
    assert_eq!(stage.send_bytes(Via::Grpc, &body).await.verdict(Via::Grpc), Verdict::Accepted);
    assert!(sink.only().body == body);
    assert_eq!(stage.metric("unskew_spans_total", "outcome=\"no_model\"").await, 6.0);
}
