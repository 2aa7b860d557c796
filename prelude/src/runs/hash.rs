//! What a set of examples is known by: names, captions and token ids → 64 bits. Pictures are not read.

use crate::fnv;

/// FNV-1a over 64 bits: the same in every build and on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(fnv::START)
    }
}

impl Hash {
    /// Takes in bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0 = fnv::bytes(self.0, bytes);
    }

    /// Takes in a text and its end, so that `ab`, `c` is not `a`, `bc`.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(&[0xff]); // in no UTF-8 text
    }

    /// Takes in numbers and their end.
    pub fn numbers(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.bytes(&number.to_le_bytes());
        }
        self.bytes(&(numbers.len() as u64).to_le_bytes());
    }

    /// The 64 bits.
    pub(crate) fn value(&self) -> u64 {
        self.0
    }

    /// Sixteen hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

crate::display::facts::shown_by_fields!(Hash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_fnv_and_knows_where_texts_end() {
        let mut hash = Hash::default();
        hash.bytes(b"foobar");
        assert_eq!(hash.hex(), "85944171f73967e8");
        let of = |texts: &[&str]| {
            let mut hash = Hash::default();
            texts.iter().for_each(|text| hash.text(text));
            hash
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
