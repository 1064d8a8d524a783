//! `truth.parquet`: what every written span's times were on a perfect clock, and what the fleet was made of.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::{Value as Json, json};

use super::fleet::{Fleet, HostId, REFERENCE};
use super::traffic::Span;

/// One row per span, links and steps in the metadata.
pub(super) fn table(spans: &[Span], links: &[(HostId, HostId)], fleet: &Fleet) -> Result<Vec<u8>> {
    let text = |of: &dyn Fn(&Span) -> String| Arc::new(StringArray::from_iter_values(spans.iter().map(of))) as ArrayRef;
    let times = |of: &dyn Fn(&Span) -> i64| Arc::new(Int64Array::from_iter_values(spans.iter().map(of))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("trace_id", text(&|span| format!("{:032x}", span.trace))),
        ("span_id", text(&|span| format!("{:016x}", span.id))),
        ("host", text(&|span| fleet.hosts[span.host].name.clone())),
        ("true_start_ns", times(&|span| span.stamp.true_start.nanos())),
        ("true_end_ns", times(&|span| span.stamp.true_end.nanos())),
    ])?;
    let note = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_key_value_metadata(Some(vec![
            note("unskew.links", links.iter().map(|link| json_link(*link, fleet)).collect::<Json>().to_string()),
            note("unskew.steps", steps(fleet).to_string()),
            note("unskew.reference", fleet.hosts[REFERENCE].name.clone()),
        ]))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

fn json_link((client, server): (HostId, HostId), fleet: &Fleet) -> Json {
    let link = fleet.link(client, server);
    json!({
        "client_host": fleet.hosts[client].name,
        "server_host": fleet.hosts[server].name,
        "base_ns": link.base_ns,
        "asymmetry": link.asymmetry,
    })
}

fn steps(fleet: &Fleet) -> Json {
    let of = |host: &super::fleet::Host| {
        let changes: Vec<Json> = host
            .clock
            .changes()
            .iter()
            .map(|change| {
                json!({
                    "host": host.name,
                    "time_unix_nano": change.at.nanos(),
                    "kind": if change.duration_ns == 0 { "step" } else { "slew" },
                    "duration_ns": change.duration_ns,
                    "size_ns": change.size_ns,
                })
            })
            .collect();
        changes
    };
    fleet.hosts.iter().flat_map(of).collect()
}
