//! Columns of text as they are filled from bytes, one value after the other, and what Arrow makes of them.
//!
//! Arrow's own builders want text that was found to be UTF-8, and in its place; here text is put together in the column,
//! and all of it checked at the end, which is a tenth of the work.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, MapArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use crate::otlp::AttributeView;

/// So much room is made before there is anything to fill it.
const BELIEVED: usize = 1 << 20;

/// Where values end, from 0 on.
pub(super) struct Ends(Vec<i32>);

impl Ends {
    pub(super) fn with_room(values: usize) -> Self {
        let mut ends = Vec::with_capacity(values + 1);
        ends.push(0);
        Self(ends)
    }

    /// A value ends where so much is filled. What is too much for an offset is refused when the column is finished.
    pub(super) fn push(&mut self, filled: usize) {
        self.0.push(filled as i32);
    }

    pub(super) fn finish(&mut self, filled: usize) -> Result<OffsetBuffer<i32>> {
        i32::try_from(filled).context("more than 2 GiB in one column")?;
        Ok(OffsetBuffer::new(std::mem::replace(&mut self.0, vec![0]).into()))
    }
}

/// A column of text.
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Ends,
}

impl Texts {
    /// Room for so many values of so many bytes in all; it grows where that is too little.
    pub(super) fn with_room(values: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Ends::with_room(values) }
    }

    /// A value of whatever `write` appends.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(text));
    }

    /// Bytes as lower-case hex.
    pub(super) fn push_hex(&mut self, id: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.push_with(|bytes| {
            for part in id.chunks(16) {
                let mut text = [0; 32];
                for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(part) {
                    *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
                }
                bytes.extend_from_slice(&text[..2 * part.len()]);
            }
        });
    }

    /// All values of another column, which stays as it is.
    fn extend(&mut self, other: &Self) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.0.extend(other.ends.0[1..].iter().map(|end| before.wrapping_add(*end as usize) as i32));
    }

    fn size(&self) -> usize {
        self.bytes.len()
    }

    fn count(&self) -> usize {
        self.ends.0.len() - 1
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.array(None)?))
    }

    fn array(&mut self, present: Option<NullBuffer>) -> Result<StringArray> {
        let ends = self.ends.finish(self.bytes.len())?;
        let bytes = Buffer::from_vec(std::mem::take(&mut self.bytes));
        StringArray::try_new(ends, bytes, present).context("text that is not UTF-8")
    }
}

/// A column of text that may be missing.
pub(super) struct MaybeTexts {
    pub(super) texts: Texts,
    present: Vec<bool>,
}

impl MaybeTexts {
    pub(super) fn with_room(values: usize, bytes: usize) -> Self {
        Self { texts: Texts::with_room(values, bytes), present: Vec::with_capacity(values) }
    }

    /// Empty text is missing.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.texts.push(text);
        self.present.push(!text.is_empty());
    }

    /// An id of zeros is missing.
    pub(super) fn push_hex(&mut self, id: &[u8]) {
        let is_present = id.iter().any(|byte| *byte != 0);
        self.texts.push_hex(if is_present { id } else { b"" });
        self.present.push(is_present);
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let present = NullBuffer::from(std::mem::take(&mut self.present));
        Ok(Arc::new(self.texts.array(Some(present))?))
    }
}

/// A column of attributes: per row, keys and values as text.
pub(super) struct Maps {
    keys: Texts,
    values: Texts,
    ends: Ends,
}

impl Maps {
    /// Room for so many rows, which hold these attributes in all.
    pub(super) fn with_room(rows: usize, attributes: &[AttributeView<'_>]) -> Self {
        let keys = attributes.iter().map(|attribute| attribute.key.len()).sum();
        let values = attributes.iter().map(|attribute| attribute.value.size()).sum();
        Self {
            keys: Texts::with_room(attributes.len(), keys),
            values: Texts::with_room(attributes.len(), values),
            ends: Ends::with_room(rows),
        }
    }

    pub(super) fn data_type() -> DataType {
        DataType::Map(Self::entry(), false)
    }

    fn entry() -> FieldRef {
        Arc::new(Field::new("key_value", DataType::Struct(Self::fields()), false))
    }

    fn fields() -> Fields {
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)].into()
    }

    /// A row.
    pub(super) fn push(&mut self, attributes: &[AttributeView<'_>]) {
        for attribute in attributes {
            self.keys.push(&attribute.key);
            self.values.push_with(|bytes| attribute.value.write(bytes));
        }
        self.ends.push(self.keys.count());
    }

    /// Makes room for another column's rows, so many times.
    pub(super) fn reserve(&mut self, other: &Self, times: usize) {
        for (own, other) in [(&mut self.keys, &other.keys), (&mut self.values, &other.values)] {
            own.bytes.reserve(times.saturating_mul(other.bytes.len()).min(BELIEVED));
            own.ends.0.reserve(times.saturating_mul(other.count()).min(BELIEVED));
        }
    }

    /// The row or rows of another column, which stays as it is, as one row.
    pub(super) fn push_all(&mut self, other: &Self) {
        self.keys.extend(&other.keys);
        self.values.extend(&other.values);
        self.ends.push(self.keys.count());
    }

    pub(super) fn size(&self) -> usize {
        self.keys.size() + self.values.size()
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let ends = self.ends.finish(self.keys.count())?;
        let entries = StructArray::try_new(Self::fields(), vec![self.keys.finish()?, self.values.finish()?], None)?;
        Ok(Arc::new(MapArray::try_new(Self::entry(), ends, entries, None, false)?))
    }
}
