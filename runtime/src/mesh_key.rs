//! The key of the speaker mesh.

use ring::hmac;

/// The signed text. Datagrams of the mesh begin with another octet, so no fingerprint is a valid signature of
/// one.
const CONTEXT: &[u8] = b"fairlead mesh key fingerprint";

/// The number of octets of a fingerprint.
const LENGTH: usize = 8;

/// Returns the fingerprint of a key: 16 hexadecimal digits, by which two keys can be compared without
/// publishing them. It is the beginning of an HMAC-SHA256 with the key. A key of 32 random octets cannot be
/// derived from it; a password can be guessed.
pub fn fingerprint(key: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), CONTEXT);
    tag.as_ref().iter().take(LENGTH).map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_the_beginning_of_the_hmac() {
        // printf 'fairlead mesh key fingerprint' | openssl dgst -sha256 -hmac secret
        assert_eq!(fingerprint(b"secret"), "1a30ee5d22fa3af2");
        assert_ne!(fingerprint(b"secret"), fingerprint(b"secret\n"));
    }
}
