//! The traces table: one row per span, every attribute, original and written times.

use std::sync::{Arc, LazyLock};

use anyhow::Result;
use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::columns::{Ends, Maps, MaybeTexts, Texts};
use super::table::{Metadata, properties};
use crate::otlp::{AttributeView, EventView, RecordView, SpanView};

/// What the table says of a span besides what the span says itself.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub clock: &'a str,
    pub start: i64,
    pub end: i64,
    pub original_start: i64,
    pub original_end: i64,
    pub offset_ns: i64,
    /// `None` where no span was nudged and the table has no such column.
    pub nudge_ns: Option<i64>,
    pub uncertainty_ns: Option<i64>,
    pub correction: &'a str,
}

fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time_unix_nano", DataType::Int64, false),
        Field::new("original_time_unix_nano", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("attributes", Maps::data_type(), false),
    ])
}

fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Utf8, false),
        Field::new("span_id", DataType::Utf8, false),
        Field::new("trace_state", DataType::Utf8, false),
        Field::new("attributes", Maps::data_type(), false),
    ])
}

/// The table's columns, in order; those of a run that enforced causality tell nudges.
pub fn schema(enforced: bool) -> SchemaRef {
    static SCHEMAS: LazyLock<[SchemaRef; 2]> = LazyLock::new(|| [columns(false), columns(true)]);
    SCHEMAS[usize::from(enforced)].clone()
}

fn columns(enforced: bool) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let maybe_text = |name: &str| Field::new(name, DataType::Utf8, true);
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    let list = |name: &str, fields: Fields| {
        let item = Field::new_list_field(DataType::Struct(fields), false);
        Field::new(name, DataType::List(Arc::new(item)), false)
    };
    let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    let mut columns = vec![
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
        Field::new("resource_attributes", Maps::data_type(), false),
        Field::new("attributes", Maps::data_type(), false),
        list("events", event_fields()),
        list("links", link_fields()),
    ];
    if enforced {
        columns.push(int("nudge_ns"));
    }
    Arc::new(Schema::new(columns))
}

/// Ids and times inside of lists, for which [`properties`] does not look.
const LISTED_IDS: [[&str; 4]; 2] = [["links", "list", "item", "trace_id"], ["links", "list", "item", "span_id"]];
const LISTED_TIMES: [[&str; 4]; 2] =
    [["events", "list", "item", "time_unix_nano"], ["events", "list", "item", "original_time_unix_nano"]];

/// How the file is written. Only numbers have statistics: every row group holds every service and host, and the least
/// and greatest of its ids say nothing, but to find them is a sixth of the writing.
pub fn writer_properties(metadata: &Metadata, enforced: bool) -> WriterProperties {
    let schema = schema(enforced);
    let mut writer = properties(metadata, "traces", &schema)
        .set_max_row_group_row_count(Some(1 << 18))
        .set_statistics_enabled(EnabledStatistics::None);
    for field in schema.fields() {
        if matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..)) {
            writer = writer.set_column_statistics_enabled(field.name().as_str().into(), EnabledStatistics::Page);
        }
    }
    let path = |parts: [&str; 4]| ColumnPath::from(parts.map(str::to_owned).to_vec());
    for column in LISTED_IDS.into_iter().chain(LISTED_TIMES).map(path) {
        writer = writer.set_column_dictionary_enabled(column, false);
    }
    for column in LISTED_TIMES.map(path) {
        writer = writer.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    writer.build()
}

/// So much text makes a batch: an offset in Arrow reaches 2 GiB, and a resource's attributes stand in every row.
const BATCH_BYTES: usize = 64 << 20;

/// The rows of one record.
pub struct Rows<'a> {
    record: &'a RecordView<'a>,
    enforced: bool,
    batches: Vec<RecordBatch>,
    /// The resource of the row before, its attributes and its service.
    resource: Option<(u32, Maps, Vec<u8>)>,
    trace_id: Texts,
    span_id: Texts,
    parent_span_id: MaybeTexts,
    trace_state: MaybeTexts,
    flags: Vec<i64>,
    name: Texts,
    kind: Texts,
    service_name: Texts,
    clock: Texts,
    start: Vec<i64>,
    end: Vec<i64>,
    original_start: Vec<i64>,
    original_end: Vec<i64>,
    offset_ns: Vec<i64>,
    nudge_ns: Vec<i64>,
    uncertainty_ns: Vec<Option<i64>>,
    correction: Texts,
    status_code: Texts,
    status_message: MaybeTexts,
    scope_name: Texts,
    scope_version: Texts,
    resource_attributes: Maps,
    attributes: Maps,
    events: Events,
    links: Links,
}

impl<'a> Rows<'a> {
    /// No rows yet.
    pub fn of(record: &'a RecordView<'a>, enforced: bool) -> Self {
        let (rows, (events, links, [attributes, event_attributes, link_attributes])) =
            (record.spans.len(), record.lists());
        let texts = |each: usize| Texts::with_room(rows, rows * each);
        let maybe_texts = |each: usize| MaybeTexts::with_room(rows, rows * each);
        let ints = || Vec::with_capacity(rows);
        Self {
            record,
            enforced,
            batches: Vec::new(),
            resource: None,
            trace_id: texts(32),
            span_id: texts(16),
            parent_span_id: maybe_texts(16),
            trace_state: maybe_texts(0),
            flags: ints(),
            name: texts(24),
            kind: texts(8),
            service_name: texts(16),
            clock: texts(16),
            start: ints(),
            end: ints(),
            original_start: ints(),
            original_end: ints(),
            offset_ns: ints(),
            nudge_ns: Vec::new(),
            uncertainty_ns: Vec::with_capacity(rows),
            correction: texts(8),
            status_code: texts(5),
            status_message: maybe_texts(0),
            scope_name: texts(24),
            scope_version: texts(8),
            resource_attributes: Maps::with_room(rows, &[]),
            attributes: Maps::with_room(rows, attributes),
            events: Events::with_room(rows, events, event_attributes),
            links: Links::with_room(rows, links, link_attributes),
        }
    }

    /// The row of a span of the record; `times` gives the written and the original time of each of its events.
    ///
    /// # Errors
    /// Where text is not UTF-8.
    pub fn push(
        &mut self,
        span: &SpanView<'_>,
        row: &Row<'_>,
        times: impl FnMut(&EventView<'_>) -> (i64, i64),
    ) -> Result<()> {
        self.trace_id.push_hex(span.trace_id.bytes());
        self.span_id.push_hex(span.span_id.bytes());
        self.parent_span_id.push_hex(span.parent_span_id.bytes());
        self.trace_state.push(&span.trace_state);
        self.flags.push(i64::from(span.flags));
        self.name.push(&span.name);
        self.kind.push(span.kind.name().as_bytes());
        self.clock.push(row.clock.as_bytes());
        self.start.push(row.start);
        self.end.push(row.end);
        self.original_start.push(row.original_start);
        self.original_end.push(row.original_end);
        self.offset_ns.push(row.offset_ns);
        self.nudge_ns.extend(row.nudge_ns);
        self.uncertainty_ns.push(row.uncertainty_ns);
        self.correction.push(row.correction.as_bytes());
        self.status_code.push(match span.status_code {
            1 => b"OK",
            2 => b"ERROR",
            _ => b"UNSET",
        });
        self.status_message.push(&span.status_message);
        let scope = self.record.scope(span);
        self.scope_name.push(&scope.name);
        self.scope_version.push(&scope.version);
        self.push_resource(span);
        self.attributes.push(self.record.attributes(span));
        self.events.push(self.record, span, times);
        self.links.push(self.record, span);
        if self.resource_attributes.size() + self.attributes.size() > BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// A resource is the same for all its spans, which follow each other.
    fn push_resource(&mut self, span: &SpanView<'_>) {
        if self.resource.as_ref().is_none_or(|(known, ..)| *known != span.resource()) {
            let attributes = self.record.resource_attributes(span);
            let (mut map, mut service) = (Maps::with_room(1, attributes), Vec::new());
            map.push(attributes);
            self.resource_attributes.reserve(&map, self.record.spans.len() - self.flags.len());
            if let Some(named) = attributes.iter().rev().find(|attribute| *attribute.key == *b"service.name") {
                named.value.write(&mut service);
            }
            self.resource = Some((span.resource(), map, service));
        }
        if let Some((_, map, service)) = &self.resource {
            self.service_name.push(service);
            self.resource_attributes.push_all(map);
        }
    }

    /// The rows, in order.
    ///
    /// # Errors
    /// Where text is not UTF-8.
    pub fn finish(mut self) -> Result<Vec<RecordBatch>> {
        if !self.flags.is_empty() {
            self.flush()?;
        }
        Ok(self.batches)
    }

    fn flush(&mut self) -> Result<()> {
        let ints = |column: &mut Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(std::mem::take(column))) };
        let micros = self.start.iter().map(|start| start.div_euclid(1_000)).collect::<Vec<_>>();
        let durations = self.start.iter().zip(&self.end).map(|(start, end)| end.saturating_sub(*start));
        let durations = durations.collect::<Vec<_>>();
        let mut columns: Vec<ArrayRef> = vec![
            self.trace_id.finish()?,
            self.span_id.finish()?,
            self.parent_span_id.finish()?,
            self.trace_state.finish()?,
            ints(&mut self.flags),
            self.name.finish()?,
            self.kind.finish()?,
            self.service_name.finish()?,
            self.clock.finish()?,
            ints(&mut self.start),
            ints(&mut self.end),
            Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")),
            Arc::new(Int64Array::from(durations)),
            ints(&mut self.original_start),
            ints(&mut self.original_end),
            ints(&mut self.offset_ns),
            Arc::new(Int64Array::from(std::mem::take(&mut self.uncertainty_ns))),
            self.correction.finish()?,
            self.status_code.finish()?,
            self.status_message.finish()?,
            self.scope_name.finish()?,
            self.scope_version.finish()?,
            self.resource_attributes.finish()?,
            self.attributes.finish()?,
            self.events.finish()?,
            self.links.finish()?,
        ];
        if self.enforced {
            columns.push(ints(&mut self.nudge_ns));
        }
        self.batches.push(RecordBatch::try_new(schema(self.enforced), columns)?);
        Ok(())
    }
}

struct Events {
    written: Vec<i64>,
    original: Vec<i64>,
    name: Texts,
    attributes: Maps,
    ends: Ends,
}

impl Events {
    fn with_room(rows: usize, events: usize, attributes: &[AttributeView<'_>]) -> Self {
        Self {
            written: Vec::with_capacity(events),
            original: Vec::with_capacity(events),
            name: Texts::with_room(events, 16 * events),
            attributes: Maps::with_room(events, attributes),
            ends: Ends::with_room(rows),
        }
    }

    fn push(
        &mut self,
        record: &RecordView<'_>,
        span: &SpanView<'_>,
        mut times: impl FnMut(&EventView<'_>) -> (i64, i64),
    ) {
        for event in record.events(span) {
            let (written, original) = times(event);
            self.written.push(written);
            self.original.push(original);
            self.name.push(&event.name);
            self.attributes.push(record.event_attributes(event));
        }
        self.ends.push(self.written.len());
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let ends = self.ends.finish(self.written.len())?;
        let ints = |column: &mut Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(std::mem::take(column))) };
        let (written, original) = (ints(&mut self.written), ints(&mut self.original));
        list(event_fields(), ends, vec![written, original, self.name.finish()?, self.attributes.finish()?])
    }
}

struct Links {
    trace_id: Texts,
    span_id: Texts,
    trace_state: Texts,
    attributes: Maps,
    ends: Ends,
    count: usize,
}

impl Links {
    fn with_room(rows: usize, links: usize, attributes: &[AttributeView<'_>]) -> Self {
        Self {
            trace_id: Texts::with_room(links, 32 * links),
            span_id: Texts::with_room(links, 16 * links),
            trace_state: Texts::with_room(links, 0),
            attributes: Maps::with_room(links, attributes),
            ends: Ends::with_room(rows),
            count: 0,
        }
    }

    fn push(&mut self, record: &RecordView<'_>, span: &SpanView<'_>) {
        for link in record.links(span) {
            self.trace_id.push_hex(link.trace_id.bytes());
            self.span_id.push_hex(link.span_id.bytes());
            self.trace_state.push(&link.trace_state);
            self.attributes.push(record.link_attributes(link));
            self.count += 1;
        }
        self.ends.push(self.count);
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let ends = self.ends.finish(std::mem::take(&mut self.count))?;
        let ids = [self.trace_id.finish()?, self.span_id.finish()?];
        list(link_fields(), ends, [ids.into(), vec![self.trace_state.finish()?, self.attributes.finish()?]].concat())
    }
}

fn list(fields: Fields, ends: arrow::buffer::OffsetBuffer<i32>, columns: Vec<ArrayRef>) -> Result<ArrayRef> {
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), false));
    Ok(Arc::new(ListArray::try_new(item, ends, Arc::new(StructArray::try_new(fields, columns, None)?), None)?))
}
