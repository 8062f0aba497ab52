//! Authentication of datagrams: `version (1) | payload | HMAC-SHA256 over both (32)`.
//!
//! A datagram that was recorded can be replayed. SWIM bears that: what it says about a member counts only
//! with that member's current identity and incarnation, so that a replay repeats what is known, or is refuted
//! by its subject.

use ring::hmac;

/// Version of the datagrams. Another version is another mesh.
const VERSION: u8 = 1;
const TAG: usize = 32;

/// Longest datagram: fits the smallest IPv6 link (1280) with its headers.
pub(crate) const MAX_DATAGRAM: usize = 1_232;
/// Longest payload.
pub(crate) const MAX_PAYLOAD: usize = MAX_DATAGRAM - 1 - TAG;

pub(crate) struct Seal(hmac::Key);

impl Seal {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub(crate) fn close(&self, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(1 + payload.len() + TAG);
        datagram.push(VERSION);
        datagram.extend_from_slice(payload);
        let tag = hmac::sign(&self.0, &datagram);
        datagram.extend_from_slice(tag.as_ref());
        datagram
    }

    /// The payload, if the datagram is authentic. Takes the same time wherever the code differs.
    pub(crate) fn open<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        let (signed, tag) = datagram.split_at_checked(datagram.len().checked_sub(TAG)?)?;
        let (version, payload) = signed.split_first()?;
        (*version == VERSION && hmac::verify(&self.0, signed, tag).is_ok()).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_closed_opens_with_the_same_key_only(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let seal = Seal::new(b"a key");
            let datagram = seal.close(&payload);
            prop_assert_eq!(seal.open(&datagram), Some(&payload[..]));
            prop_assert_eq!(Seal::new(b"another").open(&datagram), None);
            for len in 0..datagram.len() {
                prop_assert_eq!(seal.open(&datagram[..len]), None);
            }
            for at in 0..datagram.len() {
                let mut damaged = datagram.clone();
                damaged[at] ^= 1;
                prop_assert_eq!(seal.open(&damaged), None);
            }
        }

        #[test]
        fn random_bytes_do_not_open(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(Seal::new(b"a key").open(&bytes), None);
        }
    }
}
