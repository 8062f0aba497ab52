//! Authentication of datagrams: `version (1 octet) | payload | HMAC-SHA256 over both (32 octets)`.
//!
//! An attacker can replay a recorded datagram. SWIM tolerates that: an update about a member applies only to
//! its current identity and incarnation, so a replayed one repeats a known state or is refuted by the member.

use ring::hmac;

/// Version of the datagram format. Speakers of different versions reject each other's datagrams.
const VERSION: u8 = 1;
/// Length of the HMAC in octets.
const TAG: usize = 32;

/// Maximum length of a datagram in octets: it fits the smallest IPv6 MTU (1280) with the IPv6 and UDP
/// headers.
const MAX_DATAGRAM: usize = 1_232;
/// Maximum length of a payload in octets.
pub(crate) const MAX_PAYLOAD: usize = MAX_DATAGRAM - 1 - TAG;

/// The key that all speakers of a cluster share.
pub(crate) struct Key(hmac::Key);

impl Key {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Returns the datagram with this payload.
    pub(crate) fn sign(&self, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(1 + payload.len() + TAG);
        datagram.push(VERSION);
        datagram.extend_from_slice(payload);
        let tag = hmac::sign(&self.0, &datagram);
        datagram.extend_from_slice(tag.as_ref());
        datagram
    }

    /// Returns the payload if the datagram is authentic. The comparison takes constant time.
    pub(crate) fn verify<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
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
        fn datagram_verifies_only_whole_and_with_same_key(
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let key = Key::new(b"a key");
            let datagram = key.sign(&payload);
            prop_assert_eq!(key.verify(&datagram), Some(&payload[..]));
            prop_assert_eq!(Key::new(b"another").verify(&datagram), None);
            for len in 0..datagram.len() {
                prop_assert_eq!(key.verify(&datagram[..len]), None);
            }
            for at in 0..datagram.len() {
                let mut damaged = datagram.clone();
                damaged[at] ^= 1;
                prop_assert_eq!(key.verify(&damaged), None);
            }
        }

        #[test]
        fn random_bytes_do_not_verify(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(Key::new(b"a key").verify(&bytes), None);
        }
    }
}
