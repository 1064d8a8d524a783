//! One line of a segment's index, of a fixed length.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::stage::request::Encoding;

/// What an index begins with: whose it is, and in which form.
pub(super) const MAGIC: [u8; 8] = *b"unskewi1";

/// Length of an entry, in bytes.
pub(super) const ENTRY_BYTES: usize = 64;

/// Where a request stands, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub encoding: Encoding,
    /// Of its first byte, in the dump of its encoding.
    pub offset: u64,
    /// In bytes.
    pub length: u32,
    pub spans: u32,
    /// By the stage's own clock, ns since 1970.
    pub arrival_ns: i64,
    /// [`hash`] of its bytes as they were received.
    pub hash: u128,
    /// The same of its bytes as they are in the dump: a request in JSON has no line breaks there.
    pub written_hash: u64,
}

/// What two requests that are equal byte for byte have in common.
pub fn hash(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// As [`Entry::written_hash`].
pub(super) fn written_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

impl Entry {
    pub fn write(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&self.offset.to_le_bytes());
        put(&self.length.to_le_bytes());
        put(&self.spans.to_le_bytes());
        put(&self.arrival_ns.to_le_bytes());
        put(&self.hash.to_le_bytes());
        put(&self.written_hash.to_le_bytes());
        put(&[u8::from(self.encoding == Encoding::Json)]);
        let check = xxh3_64(&bytes[..ENTRY_BYTES - 8]);
        bytes[ENTRY_BYTES - 8..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None` where it is not as it was written.
    pub fn read(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let (content, check) = bytes.split_last_chunk::<8>()?;
        if xxh3_64(content) != u64::from_le_bytes(*check) {
            return None;
        }
        let (offset, rest) = content.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (spans, rest) = rest.split_first_chunk()?;
        let (arrival, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let (written, rest) = rest.split_first_chunk()?;
        Some(Self {
            encoding: if rest.first() == Some(&1) { Encoding::Json } else { Encoding::Protobuf },
            offset: u64::from_le_bytes(*offset),
            length: u32::from_le_bytes(*length),
            spans: u32::from_le_bytes(*spans),
            arrival_ns: i64::from_le_bytes(*arrival),
            hash: u128::from_le_bytes(*hash),
            written_hash: u64::from_le_bytes(*written),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_comes_back_and_a_bit_that_turned_is_seen(
            offset: u64, length: u32, spans: u32, arrival_ns: i64, hash: u128, written_hash: u64, is_json: bool,
            bit in 0..ENTRY_BYTES * 8,
        ) {
            let encoding = if is_json { Encoding::Json } else { Encoding::Protobuf };
            let entry = Entry { encoding, offset, length, spans, arrival_ns, hash, written_hash };
            let mut bytes = entry.write();
            prop_assert_eq!(Entry::read(&bytes), Some(entry));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Entry::read(&bytes), None);
        }
    }
}
