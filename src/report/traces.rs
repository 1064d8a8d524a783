//! The traces table: one row per span, every attribute, original and written times.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Int64Builder, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StructBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};

use super::table::{Metadata, properties};
use crate::otlp::value_text;
use crate::span::SpanKind;

/// What the table says of a span besides what the span says itself.
#[derive(Clone, Debug)]
pub struct Row {
    pub clock: Arc<str>,
    pub start: i64,
    pub end: i64,
    pub original_start: i64,
    pub original_end: i64,
    pub offset_ns: i64,
    pub uncertainty_ns: Option<i64>,
    pub correction: Cow<'static, str>,
    /// Written and original time of each event.
    pub events: Vec<(i64, i64)>,
}

type Attributes = MapBuilder<StringBuilder, StringBuilder>;

fn attributes_builder() -> Attributes {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

fn attributes_type() -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
}

fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time_unix_nano", DataType::Int64, false),
        Field::new("original_time_unix_nano", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("attributes", attributes_type(), false),
    ])
}

fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Utf8, false),
        Field::new("span_id", DataType::Utf8, false),
        Field::new("trace_state", DataType::Utf8, false),
        Field::new("attributes", attributes_type(), false),
    ])
}

/// The table's columns, in order.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let maybe_text = |name: &str| Field::new(name, DataType::Utf8, true);
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    let list = |name: &str, fields: Fields| {
        let item = Field::new_list_field(DataType::Struct(fields), false);
        Field::new(name, DataType::List(Arc::new(item)), false)
    };
    let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        text("trace_id"),
        text("span_id"),
        maybe_text("parent_span_id"),
        maybe_text("trace_state"),
        int("flags"),
        text("name"),
        text("kind"),
        text("service_name"),
        text("clock"),
        int("start_unix_nano"),
        int("end_unix_nano"),
        Field::new("start_time", time, false),
        int("duration_ns"),
        int("original_start_unix_nano"),
        int("original_end_unix_nano"),
        int("offset_ns"),
        Field::new("uncertainty_ns", DataType::Int64, true),
        text("correction"),
        text("status_code"),
        maybe_text("status_message"),
        text("scope_name"),
        text("scope_version"),
        Field::new("resource_attributes", attributes_type(), false),
        Field::new("attributes", attributes_type(), false),
        list("events", event_fields()),
        list("links", link_fields()),
    ]))
}

/// How the file is written.
pub fn writer_properties(metadata: &Metadata) -> parquet::file::properties::WriterProperties {
    properties(metadata, "traces", &schema()).set_max_row_group_row_count(Some(1 << 18)).build()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn present(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn append_attributes(map: &mut Attributes, attributes: &[KeyValue]) -> Result<()> {
    for attribute in attributes {
        map.keys().append_value(&attribute.key);
        map.values().append_value(value_text(attribute.value.as_ref()));
    }
    Ok(map.append(true)?)
}

fn struct_list(fields: Fields, builders: Vec<Box<dyn arrow::array::ArrayBuilder>>) -> ListBuilder<StructBuilder> {
    let item = Field::new_list_field(DataType::Struct(fields.clone()), false);
    ListBuilder::new(StructBuilder::new(fields, builders)).with_field(item)
}

/// The rows of one record. `rows` has one entry per span, in order; `None` leaves the span out.
///
/// # Errors
/// Where Arrow refuses the columns, which would be a fault of ours.
pub fn batch(record: &TracesData, rows: &[Option<Row>]) -> Result<RecordBatch> {
    let mut texts: Vec<StringBuilder> = (0..13).map(|_| StringBuilder::new()).collect();
    let mut ints: Vec<Int64Builder> = (0..8).map(|_| Int64Builder::new()).collect();
    let mut start_time = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let (mut resource_attributes, mut attributes) = (attributes_builder(), attributes_builder());
    let mut events = struct_list(
        event_fields(),
        vec![
            Box::new(Int64Builder::new()),
            Box::new(Int64Builder::new()),
            Box::new(StringBuilder::new()),
            Box::new(attributes_builder()),
        ],
    );
    let mut links = struct_list(
        link_fields(),
        vec![
            Box::new(StringBuilder::new()),
            Box::new(StringBuilder::new()),
            Box::new(StringBuilder::new()),
            Box::new(attributes_builder()),
        ],
    );
    let mut next = rows.iter();
    for resource_spans in &record.resource_spans {
        let resource = resource_spans.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let service = resource.iter().rev().find(|attribute| attribute.key == "service.name");
        let service = service.map(|attribute| value_text(attribute.value.as_ref())).unwrap_or_default();
        for scope_spans in &resource_spans.scope_spans {
            let scope = scope_spans.scope.as_ref();
            for span in &scope_spans.spans {
                let Some(Some(row)) = next.next() else { continue };
                append_texts(&mut texts, span, row, &service);
                texts[11].append_value(scope.map_or("", |scope| &scope.name));
                texts[12].append_value(scope.map_or("", |scope| &scope.version));
                let duration = row.end.saturating_sub(row.start);
                let values = [
                    i64::from(span.flags),
                    row.start,
                    row.end,
                    duration,
                    row.original_start,
                    row.original_end,
                    row.offset_ns,
                ];
                ints.iter_mut().zip(values).for_each(|(column, value)| column.append_value(value));
                ints[7].append_option(row.uncertainty_ns);
                start_time.append_value(row.start.div_euclid(1_000));
                append_attributes(&mut resource_attributes, resource)?;
                append_attributes(&mut attributes, &span.attributes)?;
                append_events(&mut events, span, row)?;
                append_links(&mut links, span)?;
            }
        }
    }
    let mut texts = texts.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
    let mut ints = ints.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(26);
    for field in schema().fields() {
        columns.push(match field.name().as_str() {
            "start_time" => Arc::new(start_time.finish()),
            "resource_attributes" => Arc::new(resource_attributes.finish()),
            "attributes" => Arc::new(attributes.finish()),
            "events" => Arc::new(events.finish()),
            "links" => Arc::new(links.finish()),
            _ => match field.data_type() {
                DataType::Int64 => ints.next().context("an integer column too few")?,
                _ => texts.next().context("a text column too few")?,
            },
        });
    }
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// The text columns up to the scope's, in the table's order.
fn append_texts(texts: &mut [StringBuilder], span: &Span, row: &Row, service: &str) {
    let parent = span.parent_span_id.iter().any(|byte| *byte != 0).then(|| hex(&span.parent_span_id));
    let status = span.status.as_ref();
    let code = match status.map_or(0, |status| status.code) {
        1 => "OK",
        2 => "ERROR",
        _ => "UNSET",
    };
    texts[0].append_value(hex(&span.trace_id));
    texts[1].append_value(hex(&span.span_id));
    texts[2].append_option(parent);
    texts[3].append_option(present(&span.trace_state));
    texts[4].append_value(&span.name);
    texts[5].append_value(SpanKind::from_number(i64::from(span.kind)).name());
    texts[6].append_value(service);
    texts[7].append_value(&row.clock);
    texts[8].append_value(&row.correction);
    texts[9].append_value(code);
    texts[10].append_option(status.and_then(|status| present(&status.message)));
}

fn append_events(list: &mut ListBuilder<StructBuilder>, span: &Span, row: &Row) -> Result<()> {
    for (event, (written, original)) in span.events.iter().zip(&row.events) {
        let entry = list.values();
        for (column, value) in [(0, *written), (1, *original)] {
            if let Some(times) = entry.field_builder::<Int64Builder>(column) {
                times.append_value(value);
            }
        }
        if let Some(names) = entry.field_builder::<StringBuilder>(2) {
            names.append_value(&event.name);
        }
        if let Some(map) = entry.field_builder::<Attributes>(3) {
            append_attributes(map, &event.attributes)?;
        }
        entry.append(true);
    }
    list.append(true);
    Ok(())
}

fn append_links(list: &mut ListBuilder<StructBuilder>, span: &Span) -> Result<()> {
    for link in &span.links {
        let entry = list.values();
        for (column, value) in [(0, hex(&link.trace_id)), (1, hex(&link.span_id)), (2, link.trace_state.clone())] {
            if let Some(texts) = entry.field_builder::<StringBuilder>(column) {
                texts.append_value(value);
            }
        }
        if let Some(map) = entry.field_builder::<Attributes>(3) {
            append_attributes(map, &link.attributes)?;
        }
        entry.append(true);
    }
    list.append(true);
    Ok(())
}
