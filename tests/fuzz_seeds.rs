//! The fuzz targets over their seeds, and over changes of them that are the same each time.

mod common;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;

use unskew::run;
use unskew::settings::Write;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

/// Bytes that mean something to one of the decoders: tags, lengths, brackets, the ends of ranges.
const TELLING: &[u8] = b"\x00\x01\x0a\x12\x39\x41\x4a\x5a\x7a\x7f\x80\xff\x1f\x28\xef\"\\{}[],:0-eu\n ";

/// A few bytes set, dropped, doubled or brought in from another seed, and perhaps the end cut off.
fn changed(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.throw(seeds.len())].clone();
    for _ in 0..=dice.throw(4) {
        let at = dice.throw(bytes.len() + 1);
        let until = (at + dice.throw(20)).min(bytes.len());
        let byte = if dice.throw(2) == 0 { TELLING[dice.throw(TELLING.len())] } else { dice.throw(256) as u8 };
        match dice.throw(8) {
            0..=2 if at < bytes.len() => bytes[at] = byte,
            3 => bytes.insert(at, byte),
            4 => drop(bytes.drain(at..until)),
            5 => {
                let again = bytes[at..until].to_vec();
                drop(bytes.splice(until..until, again));
            }
            6 => {
                let other = &seeds[dice.throw(seeds.len())];
                let from = dice.throw(other.len());
                drop(bytes.splice(at..until, other[from..].iter().copied().take(60)));
            }
            7 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 2);
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs `one` over seeds and over so many changes of them.
fn check(seeds: &[Vec<u8>], one: fn(&[u8]), changes: usize) {
    let run = |bytes: &[u8]| {
        if let Err(panic) = std::panic::catch_unwind(|| one(bytes)) {
            eprintln!("over b\"{}\"", bytes.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    };
    seeds.iter().for_each(|seed| run(seed));
    let mut dice = Dice(seeds.len() as u64);
    (0..changes).for_each(|_| run(&changed(seeds, &mut dice)));
}

#[test]
fn protobuf() {
    check(&seeds("protobuf"), targets::protobuf::one, 20_000);
}

#[test]
fn json() {
    check(&seeds("json"), targets::json::one, 3_000);
}

#[test]
fn records() {
    check(&seeds("records"), targets::records::one, 3_000);
}

#[test]
fn detect() {
    check(&seeds("detect"), targets::detect::one, 3_000);
}

/// All of `fix` over a file: it may refuse it, and ends.
fn fix(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let (dump, out) = (folder.path().join("dump"), folder.path().join("out"));
    fs::write(&dump, bytes).unwrap();
    let mut settings = common::settings(&[dump], &out, &[Write::Parquet, Write::Same, Write::OtlpProto]);
    settings.reference = None;
    if run::fix(&settings, &mut std::io::empty(), |_| ()).is_ok() {
        assert!(out.join("summary.json").exists());
    }
}

#[test]
fn the_whole_program() {
    let seeds = ["protobuf", "json", "detect"].map(seeds).concat();
    check(&seeds, fix, 600);
}
