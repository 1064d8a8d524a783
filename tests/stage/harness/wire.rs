//! What goes over the wire besides OTLP: gRPC's frames, compression, and `google.rpc.Status`.

use std::io::{Read, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message;

/// As `google/rpc/status.proto` has it.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Status {
    pub fn new(code: i32, message: &str, retry_after: Option<Duration>) -> Self {
        let info = |after: Duration| {
            let delay = Span { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() as i32 };
            let value = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
            Any { type_url: RETRY_INFO.to_owned(), value }
        };
        Self { code, message: message.to_owned(), details: retry_after.map(info).into_iter().collect() }
    }

    /// When to try again, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        let detail = self.details.iter().find(|detail| detail.type_url == RETRY_INFO)?;
        let delay = RetryInfo::decode(&detail.value[..]).unwrap().retry_delay.unwrap_or_default();
        Some(Duration::new(delay.seconds as u64, delay.nanos as u32))
    }

    /// As the header `grpc-status-details-bin`.
    pub fn to_header(&self) -> String {
        STANDARD_NO_PAD.encode(self.encode_to_vec())
    }

    pub fn from_header(text: &str) -> Self {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let bytes = GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(text).unwrap();
        Self::decode(&bytes[..]).unwrap()
    }
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub fn named(name: Option<&str>) -> Self {
        match name {
            None | Some("identity") => Self::Plain,
            Some("gzip") => Self::Gzip,
            Some("zstd") => Self::Zstd,
            Some(other) => panic!("packed as {other}"),
        }
    }

    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip => {
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
                packer.write_all(bytes).unwrap();
                packer.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        }
    }

    pub fn unpack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip => {
                let mut plain = Vec::new();
                flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
                plain
            }
            Self::Zstd => zstd::decode_all(bytes).unwrap(),
        }
    }
}

/// A message in gRPC's frame.
pub fn frame(message: &[u8], packing: Packing) -> Vec<u8> {
    let packed = packing.pack(message);
    let mut frame = vec![u8::from(packing != Packing::Plain)];
    frame.extend((packed.len() as u32).to_be_bytes());
    frame.extend(packed);
    frame
}

/// The one message of a gRPC body.
pub fn unframe(body: &[u8], packing: Packing) -> Vec<u8> {
    let (head, rest) = body.split_first_chunk::<5>().expect("a frame");
    let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
    assert_eq!(length, rest.len(), "one message a call");
    if head[0] == 0 { rest.to_vec() } else { packing.unpack(rest) }
}

/// A length-delimited protobuf field.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut field);
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}
