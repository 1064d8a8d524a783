//! A request's body as it arrives: each piece is claimed from the budget before it is kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::stage::answer::Refusal;
use crate::stage::budget::Claim;
use crate::stage::framing::{HEAD_BYTES, Head};

/// A body that ends with an error where there is no room for it.
pub struct Metered {
    body: Incoming,
    claim: Arc<Claim>,
}

impl Metered {
    pub fn of(body: Incoming, claim: Arc<Claim>) -> Self {
        Self { body, claim }
    }

    /// All of it, but at most so many bytes.
    ///
    /// # Errors
    /// Where it is longer, or there is no room, or the sender went.
    pub async fn collect_up_to(mut self, most: usize) -> Result<Bytes, Refusal> {
        let expected = self.body.size_hint().lower();
        if expected > most as u64 {
            return self.refuse(most).await;
        }
        let mut whole = Whole::of(expected as usize);
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > most {
                drop(whole);
                return self.refuse(most).await;
            }
            whole.add(piece);
        }
        Ok(whole.into_bytes())
    }

    /// The one message of a gRPC call, of at most so many bytes as it is sent, and whether it is compressed.
    ///
    /// # Errors
    /// As [`Metered::collect_up_to`]; or where it is not one message.
    pub async fn message(mut self, most: usize) -> Result<(bool, Bytes), Refusal> {
        let (mut bytes, mut length) = ([0; HEAD_BYTES], 0);
        let (mut head, mut whole) = (None, Whole::default());
        while let Some(mut piece) = self.piece().await? {
            let part = piece.len().min(HEAD_BYTES - length);
            piece.copy_to_slice(&mut bytes[length..length + part]);
            length += part;
            if length < HEAD_BYTES {
                continue;
            }
            if head.is_none() {
                let read = Head::read(bytes).ok_or_else(|| Refusal::invalid("not a message of gRPC"))?;
                if read.length > most {
                    self.refuse(most).await?;
                }
                head = Some(read);
                whole = Whole::of(read.length);
            }
            whole.add(piece);
            if head.is_some_and(|head| whole.len() > head.length) {
                return Err(Refusal::invalid("more than one message in a call that takes one"));
            }
        }
        match head {
            Some(head) if head.length == whole.len() => Ok((head.is_compressed, whole.into_bytes())),
            _ => Err(Refusal::invalid("the call ended before its message did")),
        }
    }

    /// The next piece, claimed.
    async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| Refusal::unavailable(format!("the request broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                self.claim.more(data.len()).map_err(|_| Refusal::full())?;
                return Ok(Some(data));
            }
        }
    }

    /// Refuses a body that is too long, when what comes of it has been read and let go: a sender that is still writing when
    /// the connection ends does not see the answer, and tries again for ever.
    async fn refuse(&mut self, most: usize) -> Result<Bytes, Refusal> {
        let mut left = most;
        let rest = async {
            while left > 0 {
                let Some(Ok(frame)) = self.body.frame().await else { return };
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            }
        };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
        Err(Refusal::too_large_for(most))
    }
}

/// How long the rest of a request that is refused is read.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pieces put together. One alone is not copied.
#[derive(Default)]
struct Whole {
    one: Bytes,
    several: BytesMut,
    /// How long it will be, as far as that was said.
    expected: usize,
}

impl Whole {
    fn of(expected: usize) -> Self {
        Self { expected, ..Self::default() }
    }

    fn len(&self) -> usize {
        self.one.len() + self.several.len()
    }

    fn add(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.one = piece;
            return;
        }
        if self.several.is_empty() {
            // What is only said to come is not made room for without end.
            self.several.reserve(self.expected.clamp(self.one.len() + piece.len(), MOST_EXPECTED));
            self.several.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.several.extend_from_slice(&piece);
    }

    fn into_bytes(self) -> Bytes {
        if self.several.is_empty() { self.one } else { self.several.freeze() }
    }
}

/// Room that is made for a body before it is there.
const MOST_EXPECTED: usize = 1 << 20;
