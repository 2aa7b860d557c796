//! Signatures of Jupyter's messages, with the key of the connection file: checked once each, and made.
//!
//! A signature that came before is that of a message which somebody recorded and sends again: what it asks for is not done twice.
//! So many are remembered as `jupyter_client` does.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use ring::hmac;

/// Signatures that are remembered.
const KEPT: usize = 1 << 16;

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it has no <IDS|MSG>, signature, header, parent, metadata and content")]
    Malformed,
    #[error("the connection file's key does not give this signature")]
    Forged,
    #[error("a message with this signature came before: it is not done again")]
    Replayed,
}

/// Checks and signs. All sockets share one.
pub struct Signer {
    /// None if the connection file has an empty key: nothing is signed.
    key: Option<hmac::Key>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    all: HashSet<[u8; 32]>,
    in_order: VecDeque<[u8; 32]>,
}

impl Signer {
    pub fn new(key: &str) -> Signer {
        Signer {
            key: (!key.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())),
            seen: Mutex::default(),
        }
    }

    /// Checks the signature of these four parts, in hexadecimal, and that it is the first such.
    pub fn check(&self, parts: &[Vec<u8>], signature: &[u8]) -> Result<(), Refused> {
        let Some(key) = &self.key else { return Ok(()) };
        let signature = bytes(signature).ok_or(Refused::Forged)?;
        hmac::verify(key, &parts.concat(), &signature).map_err(|_| Refused::Forged)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.all.insert(signature) {
            return Err(Refused::Replayed);
        }
        seen.in_order.push_back(signature);
        if seen.in_order.len() > KEPT
            && let Some(oldest) = seen.in_order.pop_front()
        {
            seen.all.remove(&oldest);
        }
        Ok(())
    }

    /// The signature of these parts, in hexadecimal.
    pub fn sign(&self, parts: &[Vec<u8>]) -> Vec<u8> {
        let Some(key) = &self.key else {
            return Vec::new();
        };
        let mut context = hmac::Context::with_key(key);
        parts.iter().for_each(|part| context.update(part));
        let tag = context.sign();
        let text: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        text.into_bytes()
    }
}

/// What 64 small hexadecimal digits say.
fn bytes(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<Vec<u8>> {
        vec![text.as_bytes().to_vec(), Vec::new(), Vec::new(), Vec::new()]
    }

    #[test]
    fn a_signature_is_good_once() {
        let signer = Signer::new("a key");
        let (one, other) = (parts("one"), parts("other"));
        let signature = signer.sign(&one);
        assert_eq!(signer.check(&other, &signature), Err(Refused::Forged));
        assert_eq!(signer.check(&one, &signature), Ok(()));
        assert_eq!(signer.check(&one, &signature), Err(Refused::Replayed));
        let large = signature.to_ascii_uppercase();
        assert_eq!(signer.check(&one, &large), Err(Refused::Forged));
        assert_eq!(signer.check(&other, &signer.sign(&other)), Ok(()));
    }

    #[test]
    fn the_oldest_signatures_are_forgotten() {
        let signer = Signer::new("a key");
        for number in 0..=KEPT {
            let parts = parts(&number.to_string());
            assert_eq!(signer.check(&parts, &signer.sign(&parts)), Ok(()));
        }
        let check = |number: usize| {
            let parts = parts(&number.to_string());
            signer.check(&parts, &signer.sign(&parts))
        };
        assert_eq!(check(KEPT), Err(Refused::Replayed));
        assert_eq!(check(1), Err(Refused::Replayed));
        assert_eq!(check(0), Ok(()));
        let seen = signer.seen.lock().expect("nobody panicked");
        assert_eq!((seen.all.len(), seen.in_order.len()), (KEPT, KEPT));
    }
}
