//! The committed samples are what their scenarios make.

use std::io::Read;
use std::path::{Path, PathBuf};

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
