//! CPU per span of `fix`, pass by pass, beside a plain copy of the file and a prost round trip, in one run.
//!
//! The machine's pace changes from day to day: the ratios are what to compare. Counts CPU time of all threads, user
//! and system, in ticks of 10 ms, so every line repeats its work until that is fine enough.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use unskew::fix::{self, Outputs, Reading};
use unskew::io::{self, Inputs};
use unskew::report::Metadata;
use unskew::run;
use unskew::settings::{Annotate, Fix, Write};

use common::shape::{self, Shape};
use common::{Known, Sample, sample};

/// CPU time of this process so far, seconds.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("needs Linux");
    let after_name = &stat[stat.rfind(')').unwrap() + 2..];
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// Least CPU of three rounds, each of a second and more, after one that counts for nothing; seconds.
fn least_cpu(mut work: impl FnMut()) -> f64 {
    work();
    let mut round = || {
        let (began, mut times) = (cpu(), 0u32);
        while cpu() - began < 1.0 {
            work();
            times += 1;
        }
        (cpu() - began) / f64::from(times)
    };
    (0..3).map(|_| round()).fold(f64::MAX, f64::min)
}

struct Bench {
    sample: Sample,
    folder: tempfile::TempDir,
    copy: Option<f64>,
    /// Only lines that say this are worked on.
    only: String,
}

impl Bench {
    /// Least CPU per span.
    fn line(&mut self, what: &str, target: Option<f64>, mut work: impl FnMut(&Self)) -> f64 {
        if !what.contains(&self.only) {
            return 0.0;
        }
        let nanos = least_cpu(|| work(self)) * 1e9 / self.sample.spans as f64;
        let copy = *self.copy.get_or_insert(nanos);
        let target = target.map_or_else(String::new, |target| format!("  (target {target:.0})"));
        println!("{what:<52} {nanos:>7.0} ns/span {:>7.2} x copy{target}", nanos / copy);
        nanos
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn inputs(&self, name: &str) -> Inputs {
        io::resolve(&[self.path(name).to_str().unwrap().to_owned()], &mut std::io::empty()).unwrap()
    }

    fn read(&self, name: &str) -> Reading {
        fix::read(&self.inputs(name).inputs, 1 << 30, |_| ())
    }

    fn settings(&self, name: &str, write: Write, annotate: Annotate) -> Fix {
        Fix {
            inputs: vec![self.path(name).to_str().unwrap().to_owned()],
            out: self.path("out"),
            write: vec![write],
            annotate,
            reference: Some("gateway-1".into()),
            after: None,
            context: Vec::new(),
            clock_keys: Vec::new(),
            max_correction_ns: None,
            dry_run: false,
            enforce_causality: false,
            exchanges: false,
            max_record: 1 << 30,
            force: false,
        }
    }
}

fn outputs(folder: &Path, parquet: bool, annotate: bool) -> Outputs<'_> {
    Outputs { folder, parquet, same: !parquet, otlp_proto: false, annotate, max_record: 1 << 30 }
}

fn main() {
    // `cargo test --benches` only asks whether it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let sample = sample(60_000);
    let spans = sample.spans as f64;
    println!(
        "{spans} spans in {} records, {:.0} bytes each in protobuf, {:.0} in JSON",
        sample.requests.len(),
        sample.protobuf.len() as f64 / spans,
        sample.json.len() as f64 / spans
    );
    let mut bench = Bench { sample, folder: tempfile::tempdir().unwrap(), copy: None, only };
    fs::write(bench.path("dump.binpb"), &bench.sample.protobuf).unwrap();
    fs::write(bench.path("dump.jsonl"), &bench.sample.json).unwrap();

    bench.line("plain copy of the protobuf file", None, |bench| {
        let bytes = fs::read(bench.path("dump.binpb")).unwrap();
        fs::write(bench.path("copy"), bytes).unwrap();
    });
    bench.line("prost decode and encode, in memory", None, |bench| {
        for request in &bench.sample.requests {
            std::hint::black_box(TracesData::decode(&request[..]).unwrap().encode_to_vec());
        }
    });

    let mut passes = Vec::new();
    for (name, marks, parquet, target) in [
        ("dump.binpb", false, false, Some(300.0)),
        ("dump.binpb", true, false, Some(450.0)),
        ("dump.jsonl", false, false, None),
        ("dump.jsonl", false, true, None),
        ("dump.binpb", false, true, None),
    ] {
        let Reading { dump, files } = bench.read(name);
        let known = Known::of(&dump);
        let inputs = bench.inputs(name).inputs;
        let how = if parquet {
            "Parquet, all columns"
        } else if marks {
            "same, marks"
        } else {
            "same, no marks"
        };
        let write = |bench: &Bench| {
            let folder = bench.path("applied");
            let outputs = outputs(&folder, parquet, marks);
            let problems =
                fix::write(&inputs, &files, known.written(), &outputs, &Metadata::default(), |_| ()).unwrap();
            assert!(problems.is_empty());
        };
        passes.push(bench.line(&format!("apply  {name} → {how}"), target, write));
    }
    let read_protobuf =
        bench.line("read   dump.binpb: scan, and what is kept of it", None, |bench| drop(bench.read("dump.binpb")));
    let read_json = bench.line("read   dump.jsonl", None, |bench| drop(bench.read("dump.jsonl")));
    let dump = bench.read("dump.binpb").dump;
    let pair = bench.line("pair   whose clock, calls between clocks", None, |_| drop(Known::of(&dump)));
    let whole = [
        ("protobuf → protobuf, no marks, without the estimator", read_protobuf + pair + passes[0], 600.0),
        ("protobuf → protobuf, marks, without the estimator", read_protobuf + pair + passes[1], 600.0),
        ("JSON → Parquet, all columns, without the estimator", read_json + pair + passes[3], 2_000.0),
    ];
    for (what, nanos, target) in whole.into_iter().filter(|_| bench.only.is_empty()) {
        println!(
            "{:<52} {nanos:>7.0} ns/span {:>7.2} x copy  (target {target:.0})",
            format!("sum    {what}"),
            nanos / bench.copy.unwrap_or(1.0)
        );
    }
    for (name, write, annotate) in [
        ("dump.binpb", Write::Same, Annotate::None),
        ("dump.binpb", Write::Same, Annotate::Moved),
        ("dump.jsonl", Write::Parquet, Annotate::None),
    ] {
        bench.line(&format!("fix    {name}, {write:?}, {annotate:?}, with the estimator"), None, |bench| {
            run::fix(&bench.settings(name, write, annotate), &mut std::io::empty(), |_| ()).unwrap();
        });
    }
    if "deep".contains(&bench.only) {
        deep_beside_wide(&bench);
    }
}

/// One trace whose every span is the child of the last, beside one of as many side by side: what a trace's depth costs.
fn deep_beside_wide(bench: &Bench) {
    const SPANS: usize = 100_000;
    let [deep, wide] = [("deep.binpb", Shape::Deep), ("wide.binpb", Shape::Wide)].map(|(name, shape)| {
        fs::write(bench.path(name), shape::calls(SPANS, shape)).unwrap();
        let settings = Fix { reference: Some("a".into()), ..bench.settings(name, Write::Parquet, Annotate::Moved) };
        least_cpu(|| drop(run::fix(&settings, &mut std::io::empty(), |_| ()).unwrap()))
    });
    println!(
        "{:<52} {:>7.0} ns/span {:>7.2} x as many side by side  (target 3)",
        format!("fix    {SPANS} spans, each the child of the last"),
        deep * 1e9 / SPANS as f64,
        deep / wide
    );
}
