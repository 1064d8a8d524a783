//! Every stage on its own, over one dump in memory.

mod common;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use unskew::correct::{self, NO_UNIT, Outcome};
use unskew::estimate::{self, Evidence};
use unskew::otlp::{self, Encoding};
use unskew::pair;

use common::{Known, paired, sample};

const SPANS: usize = 20_000;

fn decode(criterion: &mut Criterion) {
    let sample = sample(SPANS);
    let lines: Vec<&[u8]> = sample.json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(sample.spans as u64));
    let requests = || sample.requests.iter().map(Vec::as_slice);
    group.bench_function("protobuf scan", |it| {
        it.iter(|| requests().map(|record| otlp::scan(Encoding::Protobuf, record).unwrap().spans.len()).sum::<usize>())
    });
    group.bench_function("protobuf locate", |it| {
        it.iter(|| {
            requests().map(|record| otlp::locate(Encoding::Protobuf, record).unwrap().spans.len()).sum::<usize>()
        })
    });
    group.bench_function("protobuf by prost", |it| {
        it.iter(|| requests().for_each(|record| drop(black_box(TracesData::decode(record).unwrap()))))
    });
    group.bench_function("JSON scan", |it| {
        it.iter(|| lines.iter().map(|line| otlp::scan(Encoding::Json, line).unwrap().spans.len()).sum::<usize>())
    });
    group.bench_function("JSON whole", |it| {
        it.iter(|| lines.iter().for_each(|line| drop(black_box(otlp::json::decode(line).unwrap()))))
    });
    group.finish();
}

fn stages(criterion: &mut Criterion) {
    let sample = sample(SPANS);
    let mut dump = unskew::dump::Dump::default();
    for request in &sample.requests {
        let scanned = dump.scan(&otlp::scan(Encoding::Protobuf, request).unwrap()).unwrap();
        dump.add(scanned);
    }
    dump.settle();
    let services = dump.attribute("service.name");
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Elements(sample.spans as u64));
    group.sample_size(10);
    group.bench_function("pair", |it| {
        it.iter(|| {
            let (_, mut spans) = paired(&dump);
            pair::pair(&mut spans, &dump.links, &services).edges.len()
        })
    });
    let known = Known::of(&dump);
    let exchanges: Vec<_> = known.pairing.edges.iter().map(|edge| edge.exchange).collect();
    let keys: Vec<String> = known.identity.clocks.iter().map(|clock| clock.key.clone()).collect();
    group.bench_function("evidence", |it| {
        it.iter(|| Evidence::of(keys.clone(), known.pairing.classes.clone(), &exchanges).readings.len())
    });
    let evidence = Evidence::of(keys, known.pairing.classes.clone(), &exchanges);
    let mut reach = vec![None; known.identity.clocks.len()];
    for span in &known.spans {
        let start = span.head.start;
        let (first, last) = reach[span.clock.0 as usize].unwrap_or((start, start));
        reach[span.clock.0 as usize] = Some((first.min(start), last.max(start)));
    }
    group.bench_function("solve", |it| {
        it.iter(|| estimate::clocks(&evidence, &reach, &estimate::Settings::default()).map.models.len())
    });
    // Each clock moved by its own, all of them wrongly or none, so that what is put back costs as well.
    let pairs: Vec<_> = known.pairing.pairs().collect();
    let recorded = |span: &pair::Paired| (span.head.start.nanos(), span.head.end.nanos());
    let before: Vec<_> = known.spans.iter().map(recorded).collect();
    let units: Vec<_> = known.spans.iter().map(|span| [span.clock.0, NO_UNIT]).collect();
    for (name, by_ns) in [("gate, nothing put back", 1), ("gate, every clock put back", 1_000_000_000)] {
        let moved = |((start, end), [unit, _]): (&(i64, i64), &[u32; 2])| {
            let by = i64::from(*unit) * by_ns;
            (start + by, end + by)
        };
        let after: Vec<_> = before.iter().zip(&units).map(moved).collect();
        let outcome = Outcome { pairs: &pairs, before: &before, after: &after, units: &units };
        group.bench_function(name, |it| it.iter(|| correct::gate(&outcome).len()));
    }
    group.finish();
}

criterion_group!(benches, decode, stages);
criterion_main!(benches);
