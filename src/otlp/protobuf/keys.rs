//! Keys of the fields that we read (number and wire type, as they stand before a field), after OTLP's `.proto` files.

/// A text, bytes or a message.
pub(super) const fn delimited(number: u32) -> u32 {
    number << 3 | 2
}

const fn fixed64(number: u32) -> u32 {
    number << 3 | 1
}

const fn fixed32(number: u32) -> u32 {
    number << 3 | 5
}

const fn varint(number: u32) -> u32 {
    number << 3
}

/// Each message with the keys of its fields; `ALL` of them, for [`Fields::pass_over`](super::wire::Fields::pass_over).
macro_rules! messages {
    ($($message:ident { $($field:ident = $wire:ident $number:literal),* })*) => {
        $(pub(super) mod $message {
            $(pub const $field: u32 = super::$wire($number);)*
            pub const ALL: &[u32] = &[$($field),*];
        })*
    };
}

messages! {
    request { RESOURCE_SPANS = delimited 1 }
    resource_spans { RESOURCE = delimited 1, SCOPE_SPANS = delimited 2 }
    resource { ATTRIBUTE = delimited 1 }
    scope_spans { SCOPE = delimited 1, SPAN = delimited 2 }
    scope { NAME = delimited 1, VERSION = delimited 2 }
    span {
        TRACE_ID = delimited 1, SPAN_ID = delimited 2, TRACE_STATE = delimited 3, PARENT_SPAN_ID = delimited 4,
        NAME = delimited 5, KIND = varint 6, START = fixed64 7, END = fixed64 8, ATTRIBUTE = delimited 9,
        EVENT = delimited 11, LINK = delimited 13, STATUS = delimited 15, FLAGS = fixed32 16
    }
    event { TIME = fixed64 1, NAME = delimited 2, ATTRIBUTE = delimited 3 }
    link { TRACE_ID = delimited 1, SPAN_ID = delimited 2, TRACE_STATE = delimited 3, ATTRIBUTE = delimited 4 }
    status { MESSAGE = delimited 2, CODE = varint 3 }
    key_value { KEY = delimited 1, VALUE = delimited 2 }
    any_value {
        TEXT = delimited 1, BOOL = varint 2, INT = varint 3, DOUBLE = fixed64 4, LIST = delimited 5, MAP = delimited 6,
        BYTES = delimited 7, TEXT_INDEX = varint 8
    }
}
