//! Messages out of a stream of bytes (RFC 4271 §4.1, errors of §6.1).

use super::error::MessageError;
use super::header::{HEADER_LENGTH, MAX_LENGTH, MessageType};
use super::notification::code;

/// Cuts a stream into messages. Holds at most one message.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// The buffer holds a message that has been handed out.
    complete: bool,
}

/// A message whose header is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramedMessage<'a> {
    /// Its type.
    pub kind: MessageType,
    /// What follows the header.
    pub body: &'a [u8],
}

impl Framer {
    /// Takes bytes off `input` until a message is whole. `None` means that all input is taken and more is needed.
    /// `limit` is the length negotiated, [`MAX_LENGTH`] or [`super::header::MAX_EXTENDED_LENGTH`].
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

    /// Forgets what it holds: a new connection begins.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Tells whether the buffer holds `length` octets now.
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
    let bad_length =
        || MessageError::new(code::HEADER, 2, [*high, *low], format!("type {kind} with length {length}"));
    if length < HEADER_LENGTH || length > limit {
        return Err(bad_length());
    }
    let Some(kind) = MessageType::from_code(*kind) else {
        return Err(MessageError::new(code::HEADER, 3, [*kind], format!("message type {kind}")));
    };
    if length < kind.min_length() || length > kind.max_length(limit) {
        return Err(bad_length());
    }
    Ok((kind, length))
}
