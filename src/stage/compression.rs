//! Bytes as they travel: gzip and zstd.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::answer::Refusal;
pub use super::config::Compression;

/// Those that are taken, in the words of headers.
pub const TAKEN: &str = "gzip,zstd";

/// By its name in a header; nothing, or `identity`: none. `None` where it is not taken.
pub fn named(name: Option<&[u8]>) -> Option<Compression> {
    match name {
        None | Some(b"" | b"identity") => Some(Compression::None),
        Some(b"gzip") => Some(Compression::Gzip),
        Some(b"zstd") => Some(Compression::Zstd),
        Some(_) => None,
    }
}

/// Its name in headers, but for none.
pub fn name(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

/// Compressed for speed, gzip and zstd at level 1: a batch of spans crosses a fast network, and is unpacked at once.
///
/// # Errors
/// Where a library refuses; writing to memory does not fail.
pub fn compress(compression: Compression, bytes: Bytes) -> io::Result<Bytes> {
    match compression {
        Compression::None => Ok(bytes),
        Compression::Gzip => {
            let room = Vec::with_capacity(bytes.len() / 4);
            let mut writer = flate2::write::GzEncoder::new(room, flate2::Compression::fast());
            writer.write_all(&bytes)?;
            Ok(writer.finish()?.into())
        }
        Compression::Zstd => Ok(zstd::bulk::compress(&bytes, 1)?.into()),
    }
}

/// So much is decompressed before it is counted, at the least and at the most.
const PIECE_BYTES: usize = 256 << 10;
const MOST_AT_ONCE: u64 = 4 << 20;

/// Decompressed, counted as it grows: a few kilobytes may hold gigabytes. `hold` is told how many bytes there are.
///
/// # Errors
/// Where they are broken, are more than `most`, or `hold` has no room for them.
pub fn decompress(
    compression: Compression,
    bytes: Bytes,
    most: usize,
    mut hold: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Refusal> {
    let invalid = |error: io::Error| Refusal::invalid(format!("cannot be decompressed: {error}"));
    let mut reader: Box<dyn Read + '_> = match compression {
        Compression::None => return Ok(bytes),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&*bytes)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&*bytes).map_err(invalid)?),
    };
    let mut whole = Vec::with_capacity((4 * bytes.len()).min(most));
    loop {
        // Twice as much each time, but never more than may be needed.
        if whole.capacity() - whole.len() < PIECE_BYTES {
            let room = whole.capacity().clamp(PIECE_BYTES, most + PIECE_BYTES - whole.len().min(most));
            whole.reserve_exact(room);
        }
        let before = whole.len();
        let piece = (whole.capacity() - before) as u64;
        let step = (&mut reader).take(piece.min(MOST_AT_ONCE)).read_to_end(&mut whole).map_err(invalid)?;
        if whole.len() > most {
            return Err(Refusal::too_large_for(most));
        }
        hold(whole.len())?;
        if step == 0 || whole.len() == before {
            drop(reader);
            return Ok(whole.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::stage::budget::Budget;

    fn decompress_within(
        compression: Compression,
        bytes: &[u8],
        most: usize,
        budget: &std::sync::Arc<Budget>,
    ) -> StatusCode {
        let claim = budget.claim();
        let hold = |length| claim.hold(length).map_err(|_| Refusal::full());
        decompress(compression, Bytes::copy_from_slice(bytes), most, hold).unwrap_err().http
    }

    #[test]
    fn a_bomb_is_put_down_before_it_is_whole() {
        let bomb = zstd::encode_all(io::repeat(0).take(1 << 30), 1).unwrap();
        let budget = Budget::of(64 << 20);
        let status = decompress_within(Compression::Zstd, &bomb, 1 << 20, &budget);
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        let other = budget.claim();
        other.more(60 << 20).unwrap();
        let status = decompress_within(Compression::Zstd, &bomb, 1 << 30, &budget);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn members_of_a_gzip_are_read_to_the_last() {
        let member = |text: &'static str| compress(Compression::Gzip, Bytes::from(text)).unwrap();
        let both = [member("one "), member("other")].concat();
        let whole = decompress(Compression::Gzip, both.into(), 100, |_| Ok(())).unwrap();
        assert_eq!(whole, "one other");
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let bytes = Bytes::from((0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let compressed = compress(compression, bytes.clone()).unwrap();
            assert!(decompress(compression, compressed, bytes.len(), |_| Ok(())).is_ok_and(|back| back == bytes));
            assert_eq!(named(name(compression).map(str::as_bytes)), Some(compression));
        }
        assert_eq!(named(Some(b"snappy")), None);
    }
}
