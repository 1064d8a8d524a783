//! The committed samples are what their scenarios make.

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};

use unskew::score::{self, Gauge};
use unskew::settings::Write;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-traces")
}

fn unpacked(path: &Path) -> Vec<u8> {
    let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    match path.extension().and_then(|name| name.to_str()) {
        Some("zst") => zstd::Decoder::new(&file[..]).unwrap().read_to_end(&mut bytes).unwrap(),
        Some("gz") => flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut bytes).unwrap(),
        _ => return file,
    };
    bytes
}

/// The packing itself may change with a new release of its library; what is packed may not.
#[test]
fn simulating_again_gives_the_same_samples() {
    let mut checked = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let sample = entry.unwrap().path();
        let scenario = sample.join("scenario.toml");
        if !scenario.exists() {
            continue;
        }
        let out = tempfile::tempdir().unwrap();
        let made = unskew::simulate::write(&scenario, out.path(), None).unwrap();
        assert!((1_000..=3_000).contains(&made.spans), "{}: {} spans", sample.display(), made.spans);
        for name in made.files {
            let (committed, again) = (sample.join(name), out.path().join(name));
            assert!(
                unpacked(&committed) == unpacked(&again),
                "{} is not what its scenario makes; make it again with sample-traces/make",
                committed.display()
            );
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
}

/// Whoever reads the README of the samples finds each of them, and the reverse.
#[test]
fn every_sample_is_described() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let mut described: Vec<&str> =
        readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    let mut present: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    described.sort_unstable();
    present.sort_unstable();
    assert_eq!(described, present);
}

/// Every sample is wrong by far more than what is left of it, and better than one trace at a time makes it.
#[test]
fn every_sample_comes_out_right() {
    for (name, gauge, most_ms) in [
        ("offsets", Gauge::None, 0.3),
        ("drift", Gauge::None, 0.3),
        ("healthy", Gauge::None, 0.02),
        ("step", Gauge::None, 0.3),
        ("queues", Gauge::None, 0.3),
        ("milliseconds", Gauge::None, 0.3),
        ("laboratory", Gauge::Median, 1.5),
    ] {
        let sample = folder().join(name);
        let traces = std::fs::read_dir(&sample).unwrap().map(|entry| entry.unwrap().path());
        let traces = traces.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("traces"));
        let traces: Vec<PathBuf> = traces.collect();
        let out = tempfile::tempdir().unwrap();
        let mut settings = common::settings(&traces, &out.path().join("out"), &[Write::Parquet]);
        settings.reference = Some(if name == "laboratory" { "lg-1" } else { "gateway-1" }.to_owned());
        unskew::run::fix(&settings, &mut std::io::empty(), |_| {}).unwrap();
        let score = score::score(&settings.out, &sample.join("truth.parquet"), gauge).unwrap();
        let [ours, nothing, centring] =
            [&score.corrected, &score.doing_nothing, &score.centring].map(|way| way.error.p95_ns / 1e6);
        assert!(ours <= most_ms, "{name}: p95 {ours} ms");
        assert!(
            ours <= nothing && ours <= centring,
            "{name}: p95 {ours}, as recorded {nothing}, centred {centring} ms"
        );
    }
}
