//! Splitting of a byte stream into messages (RFC 4271 §4.1), and header errors (§6.1).

use super::error::MessageError;
use super::header::{HEADER_LENGTH, MAX_LENGTH, MessageType};
use super::notification::code;

/// Splits a byte stream into messages. It buffers at most one message.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// True if the buffer contains a message that was returned.
    complete: bool,
}

/// A message with a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramedMessage<'a> {
    #[allow(missing_docs)]
    pub kind: MessageType,
    /// Octets after the header.
    pub body: &'a [u8],
}

impl Framer {
    /// Removes bytes from `input` until a message is complete. Returns `None` if `input` is consumed and more
    /// is needed. `limit` is the negotiated maximum length, [`MAX_LENGTH`] or [`super::MAX_EXTENDED_LENGTH`].
    pub fn next(
        &mut self,
        input: &mut &[u8],
        limit: usize,
    ) -> Result<Option<FramedMessage<'_>>, MessageError> {
        if std::mem::take(&mut self.complete) {
            self.buffer.clear();
            self.buffer.shrink_to(MAX_LENGTH);
        }
        if !self.fill(HEADER_LENGTH, input) {
            return Ok(None);
        }
        let (kind, length) = check_header(&self.buffer, limit)?;
        if !self.fill(length, input) {
            return Ok(None);
        }
        self.complete = true;
        Ok(Some(FramedMessage { kind, body: self.buffer.get(HEADER_LENGTH..).unwrap_or_default() }))
    }

    /// Discards the buffer when a new connection starts.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Moves bytes from `input` to the buffer. Returns whether the buffer now has `length` octets.
    fn fill(&mut self, length: usize, input: &mut &[u8]) -> bool {
        let missing = length.saturating_sub(self.buffer.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.buffer.extend_from_slice(taken);
        *input = rest;
        self.buffer.len() >= length
    }
}

fn check_header(buffer: &[u8], limit: usize) -> Result<(MessageType, usize), MessageError> {
    let Some((marker, [high, low, kind])) =
        buffer.first_chunk::<HEADER_LENGTH>().and_then(|header| header.split_first_chunk::<16>())
    else {
        return Err(MessageError::new(code::HEADER, 2, [], "short header"));
    };
    if *marker != [0xFF; 16] {
        return Err(MessageError::new(code::HEADER, 1, [], "the marker is not all ones"));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let bad_length = || {
        MessageError::new(
            code::HEADER,
            2,
            [*high, *low],
            format!("invalid length {length} of a message of type {kind}"),
        )
    };
    if length < HEADER_LENGTH || length > limit {
        return Err(bad_length());
    }
    let Some(kind) = MessageType::from_code(*kind) else {
        return Err(MessageError::new(code::HEADER, 3, [*kind], format!("unknown message type {kind}")));
    };
    if length < kind.min_length() || length > kind.max_length(limit) {
        return Err(bad_length());
    }
    Ok((kind, length))
}
