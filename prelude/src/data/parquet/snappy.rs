//! Snappy, the compression that Parquet files mostly have: bytes → the bytes they were made of.

/// At most so many bytes come out of one: a copy of 64 bytes takes three.
const RATIO: usize = 32;

/// Decompresses all of `bytes`; `None` if they are damaged.
pub(super) fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut length, mut at) = (0_usize, 0);
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length > bytes.len().saturating_mul(RATIO) {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    while at < bytes.len() {
        let tag = bytes[at];
        at += 1;
        let number = |at: usize, count: usize| -> Option<usize> {
            let part = bytes.get(at..at + count)?;
            Some(
                part.iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | usize::from(*byte)),
            )
        };
        let (count, offset) = match tag & 3 {
            0 => {
                let mut count = usize::from(tag >> 2);
                if count >= 60 {
                    let more = count - 59;
                    count = number(at, more)?;
                    at += more;
                }
                let literal = bytes.get(at..at.checked_add(count + 1)?)?;
                out.extend_from_slice(literal);
                at += count + 1;
                if out.len() > length {
                    return None;
                }
                continue;
            }
            1 => {
                let low = number(at, 1)?;
                at += 1;
                (
                    usize::from(tag >> 2 & 7) + 4,
                    usize::from(tag >> 5) << 8 | low,
                )
            }
            2 => {
                at += 2;
                (usize::from(tag >> 2) + 1, number(at - 2, 2)?)
            }
            _ => {
                at += 4;
                (usize::from(tag >> 2) + 1, number(at - 4, 4)?)
            }
        };
        if offset == 0 || offset > out.len() || out.len() + count > length {
            return None;
        }
        // May overlap what it writes.
        let start = out.len() - offset;
        for index in start..start + count {
            out.push(out[index]);
        }
    }
    (out.len() == length).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_copies_that_overlap() {
        // "abab" + literal "!": length 9; literal "ab"; copy 6 from 2 back; literal "!".
        let bytes = [9, 1 << 2, b'a', b'b', 5 << 2 | 2, 2, 0, 0, b'!'];
        assert_eq!(decompress(&bytes).as_deref(), Some(b"abababab!".as_slice()));
        for broken in [
            &bytes[..3],
            &[9, 5 << 2 | 2, 2, 0],
            &[255, 255, 255, 255, 15, 0],
            &[],
            &[3, 0, b'a'],
        ] {
            assert_eq!(decompress(broken), None, "{broken:?}");
        }
    }
}
