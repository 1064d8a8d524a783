//! A gRPC message as it is on the wire: a byte that says whether it is compressed, its length, then the message.

/// What stands before a message.
pub const HEAD_BYTES: usize = 5;

/// What is said of a message before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub is_compressed: bool,
    /// In bytes, as it is sent.
    pub length: usize,
}

impl Head {
    /// `None` where the first byte means nothing.
    pub fn read(bytes: [u8; HEAD_BYTES]) -> Option<Self> {
        let [flag @ 0..=1, length @ ..] = bytes else { return None };
        Some(Self { is_compressed: flag == 1, length: u32::from_be_bytes(length) as usize })
    }

    /// `None` where the message is longer than gRPC can say.
    pub fn write(self) -> Option<[u8; HEAD_BYTES]> {
        let [a, b, c, d] = u32::try_from(self.length).ok()?.to_be_bytes();
        Some([u8::from(self.is_compressed), a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for head in [Head { is_compressed: true, length: 66_051 }, Head { is_compressed: false, length: 0 }] {
            assert_eq!(Head::read(head.write().unwrap()), Some(head));
        }
        assert_eq!(Head::read([2, 0, 0, 0, 0]), None);
    }
}
