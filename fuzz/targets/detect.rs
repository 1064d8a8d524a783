//! Any bytes as a file: what it holds is found out or told in an error, its records are read, and written as the file
//! was they are read again.

use unskew::io::{Record, Records};
use unskew::otlp::{Encoding, json};

use super::records::{Item, bounded, survives};

/// A few bytes of zstd can hold gigabytes: only this much of a record counts.
const LONGEST: u64 = 1 << 16;

pub fn one(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    std::fs::write(&path, bytes).unwrap();
    let (layout, records) = match Records::detect(&path, LONGEST) {
        Ok(found) => found,
        Err(error) => {
            assert!(error.to_string().starts_with(&path.display().to_string()));
            return;
        }
    };
    let items: Vec<Item> = records.collect();
    bounded(&items, LONGEST);
    let Some(layout) = layout else {
        assert!(items.len() == 1 && items[0].is_err());
        return;
    };
    let written = folder.path().join("written");
    survives(&items, layout, &written);
    // Found out anew, it holds the same, if all of it was good; brackets that match make a record, but not yet JSON.
    let is_good = |item: &Item| {
        let is_read = |record: &Record| layout.encoding == Encoding::Protobuf || json::check(&record.bytes).is_ok();
        item.as_ref().is_ok_and(is_read)
    };
    if written.exists() && items.iter().all(is_good) {
        let (_, records) = Records::detect(&written, LONGEST).unwrap();
        let bytes = |item: Item| item.map(|record| record.bytes);
        assert!(records.map(bytes).eq(items.into_iter().map(bytes)));
    }
}
