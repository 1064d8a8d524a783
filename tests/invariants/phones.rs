//! Phones of which little is known hold no machine in place.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use unskew::report;

use crate::common::{fix, settings};

const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;

fn resource(key: &str, value: &str, spans: Vec<Span>) -> ResourceSpans {
    let text = |key: &str, value: &str| {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    };
    let attributes = vec![text(key, value), text("service.name", if key == "host.name" { value } else { "app" })];
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// Two right hosts of which one calls the other for each call of a phone; phones are seconds off, some of them hours, and call once to eight times, over a
/// network that takes up to a second either way.
fn traffic(seed: u64) -> Vec<u8> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut bytes = Vec::new();
    let mut number = 0u64;
    for phone in 0..random.random_range(10..30) {
        let ahead = match random.random_range(0..8) {
            0 => random.random_range(-200_000..200_000) * S,
            _ => random.random_range(-3_000..3_000) * MS,
        };
        for _ in 0..random.random_range(1..9) {
            number += 1;
            let at = random.random_range(0..150 * S);
            let mut way = || 20 * MS + (random.random::<f64>().powi(3) * 980e6) as i64;
            let (out, back) = (way(), way());
            let within = |from: i64, inner: i64| [from, from + inner];
            let bff = within(at + out, 6 * MS + number as i64 % 7 * 100_000);
            let feed = within(bff[0] + MS, 3 * MS);
            let call = [bff[0] + MS / 2, feed[1] + MS / 2];
            let span = |id: u64, parent: u64, kind: i32, [start, end]: [i64; 2], ahead: i64| Span {
                trace_id: u128::from(number).to_be_bytes().to_vec(),
                span_id: (4 * number + id).to_be_bytes().to_vec(),
                parent_span_id: if parent > 0 { (4 * number + parent).to_be_bytes().to_vec() } else { Vec::new() },
                kind,
                start_time_unix_nano: (1_700_000_000 * S + start + ahead) as u64,
                end_time_unix_nano: (1_700_000_000 * S + end + ahead) as u64,
                ..Span::default()
            };
            let resource_spans = vec![
                resource("device.id", &format!("phone-{phone}"), vec![span(1, 0, 3, [at, bff[1] + back], ahead)]),
                resource("host.name", "bff-1", vec![span(2, 1, 2, bff, 0), span(3, 2, 3, call, 0)]),
                resource("host.name", "feed-1", vec![span(4, 3, 2, feed, 0)]),
            ];
            let record = TracesData { resource_spans }.encode_to_vec();
            bytes.extend((record.len() as u32).to_be_bytes());
            bytes.extend(record);
        }
    }
    bytes
}

#[test]
fn no_machine_is_moved_by_phones() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..40 {
        let input = folder.path().join(format!("{seed}.binpb"));
        std::fs::write(&input, traffic(seed)).unwrap();
        let out = folder.path().join(seed.to_string());
        let mut settings = settings(&[input], &out, &[]);
        settings.reference = None;
        fix(&settings);
        for row in
            report::load(&out).unwrap().clocks.iter().filter(|row| ["bff-1", "feed-1"].contains(&row.clock.as_str()))
        {
            // To agree with one another they may move by what their own calls leave open.
            assert!(row.moved == 0 || row.offset_largest_ns.unwrap().abs() < MS, "seed {seed}: {row:?}");
        }
    }
}
