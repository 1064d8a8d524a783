//! A request's body as it arrives: each piece is claimed from the budget before it is kept.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::stage::answer::Refusal;
use crate::stage::budget::Claim;

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
        let expected = self.body.size_hint().lower().min(1 << 20) as usize;
        if self.body.size_hint().lower() > most as u64 {
            return self.refuse(most).await;
        }
        let mut whole = BytesMut::with_capacity(expected);
        while let Some(frame) = self.frame().await {
            let frame = frame.map_err(|status| Refusal::of_status(&status))?;
            if let Ok(data) = frame.into_data() {
                if whole.len() + data.len() > most {
                    drop(whole);
                    return self.refuse(most).await;
                }
                whole.extend_from_slice(&data);
            }
        }
        Ok(whole.freeze())
    }

    /// Refuses a body that is too long, when what comes of it has been read and let go: a sender that is still writing when
    /// the connection ends does not see the answer, and tries again for ever.
    async fn refuse(mut self, most: usize) -> Result<Bytes, Refusal> {
        let mut left = most;
        let rest = async {
            while left > 0 {
                let Some(Ok(frame)) = self.body.frame().await else { return };
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            }
        };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
        Err(too_large(most))
    }
}

/// How long the rest of a request that is refused is read.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is told of a request that is longer than one may be.
pub(super) fn too_large(most: usize) -> Refusal {
    Refusal::too_large(format!("larger than {most} bytes, which is the most that is taken: send smaller batches"))
}

/// What is told while others hold all the room there is.
pub(super) fn full() -> Refusal {
    Refusal::busy("as many bytes are in flight as may be: the next hop is slower than the senders")
}

impl Body for Metered {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| {
                let text = format!("the request broke off: {error}");
                Refusal::unavailable(text).to_status()
            })?;
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.claim.more(length).map_err(|_| full().to_status())?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
