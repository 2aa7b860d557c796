//! FNV-1a: bytes, or words of up to 64 bits, one by one → 64 bits, the same in every build and on every machine.

/// What it is before anything was taken in.
pub(crate) const START: u64 = 0xcbf2_9ce4_8422_2325;

/// A hash that has taken in one more byte or word.
pub(crate) fn step(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0100_0000_01b3)
}

/// A hash that has taken in bytes one by one.
pub(crate) fn bytes(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash, |hash, byte| step(hash, u64::from(*byte)))
}

/// Words of eight bytes, the last filled up with zeros.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_hash() {
        // From the tables of Fowler, Noll and Vo.
        assert_eq!(bytes(START, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(bytes(START, b""), START);
        let both: Vec<u64> = words(&[1, 0, 0, 0, 0, 0, 0, 0, 2]).collect();
        assert_eq!(both, [1, 2]);
    }
}
