//! One Parquet table: named columns, the metadata that every file of ours carries, tuned encodings.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

/// Changes when a column changes its meaning or goes; new columns do not count.
pub const SCHEMA_VERSION: &str = "1";

/// What every file says of itself.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Display name of the reference clock.
    pub reference: Option<String>,
    /// The settings that shaped the run, as JSON.
    pub settings: String,
}

impl Metadata {
    pub(super) fn key_values(&self, table: &str) -> Vec<KeyValue> {
        let sign = "offset_ns = clock - reference, positive is ahead; written = original - offset_ns";
        [
            ("unskew.schema_version", SCHEMA_VERSION),
            ("unskew.table", table),
            ("unskew.sign_convention", sign),
            ("unskew.settings", &self.settings),
            ("unskew.reference", self.reference.as_deref().unwrap_or("")),
        ]
        .map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// zstd at its quickest: ids and times do not shrink further, and text hardly.
pub(super) fn properties(metadata: &Metadata, table: &str, schema: &Schema) -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_key_value_metadata(Some(metadata.key_values(table)));
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        let name = field.name().as_str();
        if name.ends_with("_unix_nano") || name == "time" || name.ends_with("_time") || name.ends_with("_ns") {
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        } else if matches!(name, "span_id" | "parent_span_id" | "trace_id") {
            // Hardly a value comes twice, so a dictionary is built for nothing.
            properties = properties.set_column_dictionary_enabled(column, false);
        }
    }
    properties
}

/// A table that fits in memory, column by column.
pub(super) struct Table {
    name: &'static str,
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Table {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, fields: Vec::new(), columns: Vec::new() }
    }

    fn column(mut self, name: &str, nullable: bool, column: ArrayRef) -> Self {
        self.fields.push(Field::new(name, column.data_type().clone(), nullable));
        self.columns.push(column);
        self
    }

    pub(super) fn text<'a>(self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.column(name, false, Arc::new(StringArray::from_iter_values(values)))
    }

    pub(super) fn maybe_text<'a>(self, name: &str, values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        self.column(name, true, Arc::new(values.into_iter().collect::<StringArray>()))
    }

    pub(super) fn texts<'a>(self, name: &str, values: impl IntoIterator<Item = &'a Vec<String>>) -> Self {
        let mut list = ListBuilder::new(StringBuilder::new());
        for texts in values {
            texts.iter().for_each(|text| list.values().append_value(text));
            list.append(true);
        }
        self.column(name, false, Arc::new(list.finish()))
    }

    pub(super) fn ints(self, name: &str, values: impl IntoIterator<Item = i64>) -> Self {
        self.column(name, false, Arc::new(Int64Array::from_iter_values(values)))
    }

    pub(super) fn maybe_ints(self, name: &str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        self.column(name, true, Arc::new(values.into_iter().collect::<Int64Array>()))
    }

    pub(super) fn maybe_doubles(self, name: &str, values: impl IntoIterator<Item = Option<f64>>) -> Self {
        self.column(name, true, Arc::new(values.into_iter().collect::<Float64Array>()))
    }

    /// Nanoseconds as a timestamp in µs, UTC: for plotting.
    pub(super) fn time(self, name: &str, nanos: impl IntoIterator<Item = i64>) -> Self {
        let micros = nanos.into_iter().map(|nanos| nanos.div_euclid(1_000));
        self.column(name, false, Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")))
    }

    /// The file's bytes.
    pub(super) fn parquet(self, metadata: &Metadata) -> Result<Vec<u8>> {
        let schema = Arc::new(Schema::new(self.fields));
        let context = || format!("table {}", self.name);
        let batch = RecordBatch::try_new(schema.clone(), self.columns).with_context(context)?;
        let mut bytes = Vec::new();
        let properties = properties(metadata, self.name, &schema).build();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).with_context(context)?;
        writer.write(&batch).with_context(context)?;
        writer.close().with_context(context)?;
        Ok(bytes)
    }
}
