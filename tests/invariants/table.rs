//! The traces table from any record: what is built from its bytes is what Arrow's builders make of it once prost, or
//! the full decoding of JSON, has decoded it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Builder, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StructBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use proptest::prelude::*;
use prost::Message;
use unskew::otlp::{self, Encoding};
use unskew::report::{Row, Rows, schema};
use unskew::span::SpanKind;

use super::agree::told;
use super::wire::{json_record, record};

/// What is said of one span in eight is that it has no row.
fn said(dice: &[u64]) -> Vec<Option<Row<'static>>> {
    let row = |&dice: &u64| Row {
        clock: if dice.is_multiple_of(2) { "web-1" } else { "é" },
        start: dice as i64,
        end: (dice >> 3) as i64,
        original_start: (dice >> 5) as i64,
        original_end: -1,
        offset_ns: 5,
        nudge_ns: None,
        uncertainty_ns: (!dice.is_multiple_of(3)).then_some(7),
        correction: "moved",
    };
    dice.iter().map(|dice| (!dice.is_multiple_of(8)).then(|| row(dice))).collect()
}

fn check(encoding: Encoding, bytes: &[u8], data: &TracesData, dice: &[u64]) {
    let record = otlp::view(encoding, bytes).unwrap();
    let said: Vec<_> = said(dice).into_iter().cycle().take(record.spans.len()).collect();
    let mut rows = Rows::of(&record, false);
    for (span, row) in record.spans.iter().zip(&said) {
        let Some(row) = row else { continue };
        let times = |nanos: u64| (nanos as i64, !nanos as i64);
        rows.push(span, row, |event| times(event.unix_nano.unwrap_or(0))).unwrap();
    }
    let rows = concat_batches(&schema(false), &rows.finish().unwrap()).unwrap();
    assert_eq!(rows, batch(data, &said));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_protobuf_has_the_rows_that_prost_would_give_it(bytes in record(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        check(Encoding::Protobuf, &bytes, &TracesData::decode(&bytes[..]).unwrap(), &dice);
    }

    #[test]
    fn any_json_has_the_rows_that_decoding_would_give_it(text in json_record(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        check(Encoding::Json, text.as_bytes(), &otlp::json::decode(text.as_bytes()).unwrap(), &dice);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn present(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The fields of a list's items.
fn fields_of(column: &str) -> Fields {
    match schema(false).field_with_name(column).unwrap().data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.clone(),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

type Attributes = MapBuilder<StringBuilder, StringBuilder>;

fn attributes_builder() -> Attributes {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

fn append_attributes(map: &mut Attributes, attributes: &[KeyValue]) {
    for attribute in attributes {
        map.keys().append_value(&attribute.key);
        map.values().append_value(told(&attribute.value));
    }
    map.append(true).unwrap();
}

fn struct_list(fields: Fields, builders: Vec<Box<dyn arrow::array::ArrayBuilder>>) -> ListBuilder<StructBuilder> {
    let item = Field::new_list_field(DataType::Struct(fields.clone()), false);
    ListBuilder::new(StructBuilder::new(fields, builders)).with_field(item)
}

/// The rows of one record, as Arrow's own builders make them. `None` leaves the span out.
fn batch(record: &TracesData, rows: &[Option<Row<'_>>]) -> RecordBatch {
    let mut texts: Vec<StringBuilder> = (0..13).map(|_| StringBuilder::new()).collect();
    let mut ints: Vec<Int64Builder> = (0..8).map(|_| Int64Builder::new()).collect();
    let mut start_time = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let (mut resource_attributes, mut attributes) = (attributes_builder(), attributes_builder());
    let mut events = struct_list(
        fields_of("events"),
        vec![
            Box::new(Int64Builder::new()),
            Box::new(Int64Builder::new()),
            Box::new(StringBuilder::new()),
            Box::new(attributes_builder()),
        ],
    );
    let mut links = struct_list(
        fields_of("links"),
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
        let service = service.map(|attribute| told(&attribute.value)).unwrap_or_default();
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
                append_attributes(&mut resource_attributes, resource);
                append_attributes(&mut attributes, &span.attributes);
                append_events(&mut events, span);
                append_links(&mut links, span);
            }
        }
    }
    let mut texts = texts.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
    let mut ints = ints.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(26);
    for field in schema(false).fields() {
        columns.push(match field.name().as_str() {
            "start_time" => Arc::new(start_time.finish()),
            "resource_attributes" => Arc::new(resource_attributes.finish()),
            "attributes" => Arc::new(attributes.finish()),
            "events" => Arc::new(events.finish()),
            "links" => Arc::new(links.finish()),
            _ => match field.data_type() {
                DataType::Int64 => ints.next().unwrap(),
                _ => texts.next().unwrap(),
            },
        });
    }
    RecordBatch::try_new(schema(false), columns).unwrap()
}

/// The text columns up to the scope's, in the table's order.
fn append_texts(texts: &mut [StringBuilder], span: &Span, row: &Row<'_>, service: &str) {
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
    texts[7].append_value(row.clock);
    texts[8].append_value(row.correction);
    texts[9].append_value(code);
    texts[10].append_option(status.and_then(|status| present(&status.message)));
}

fn append_events(list: &mut ListBuilder<StructBuilder>, span: &Span) {
    for event in span.events.iter() {
        let (entry, time) = (list.values(), event.time_unix_nano);
        for (column, value) in [(0, time as i64), (1, !time as i64)] {
            if let Some(times) = entry.field_builder::<Int64Builder>(column) {
                times.append_value(value);
            }
        }
        if let Some(names) = entry.field_builder::<StringBuilder>(2) {
            names.append_value(&event.name);
        }
        if let Some(map) = entry.field_builder::<Attributes>(3) {
            append_attributes(map, &event.attributes);
        }
        entry.append(true);
    }
    list.append(true);
}

fn append_links(list: &mut ListBuilder<StructBuilder>, span: &Span) {
    for link in &span.links {
        let entry = list.values();
        for (column, value) in [(0, hex(&link.trace_id)), (1, hex(&link.span_id)), (2, link.trace_state.clone())] {
            if let Some(texts) = entry.field_builder::<StringBuilder>(column) {
                texts.append_value(value);
            }
        }
        if let Some(map) = entry.field_builder::<Attributes>(3) {
            append_attributes(map, &link.attributes);
        }
        entry.append(true);
    }
    list.append(true);
}
