//! How an event stands between the user's text: `ESC _ GBX nonce ; length ; JSON ESC \`.
//!
//! Only a frame with the session's nonce is one: everything else is text, control characters included.

use crate::Event;

/// A frame longer than this is not one of ours.
const MAX_FRAME: usize = 1 << 30;
const END: &[u8] = b"\x1b\\";

/// The bytes of an event's frame.
pub fn write(event: &Event, nonce: &str) -> Vec<u8> {
    let payload = event.to_json();
    let mut frame = prefix(nonce);
    frame.extend_from_slice(format!("{};", payload.len()).as_bytes());
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(END);
    frame
}

/// What a session's frames begin with.
pub fn prefix(nonce: &str) -> Vec<u8> {
    format!("\x1b_GBX{nonce};").into_bytes()
}

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Something else.
    None,
    /// Perhaps a frame: more has to come.
    Incomplete,
    /// A frame.
    Complete {
        /// Its JSON.
        payload: &'a [u8],
        /// The bytes of the whole frame.
        length: usize,
    },
}

/// Looks for a frame at the beginning of `bytes`; `prefix` is that of [`prefix`].
pub fn read<'a>(bytes: &'a [u8], prefix: &[u8]) -> Frame<'a> {
    let common = bytes.len().min(prefix.len());
    if bytes[..common] != prefix[..common] {
        return Frame::None;
    }
    let Some(header) = bytes.get(prefix.len()..) else {
        return Frame::Incomplete;
    };
    let digits = header.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 && !header.is_empty() || digits > 10 {
        return Frame::None;
    }
    match header.get(digits) {
        None => return Frame::Incomplete,
        Some(b';') => {}
        Some(_) => return Frame::None,
    }
    let length = std::str::from_utf8(&header[..digits])
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    let Some(length) = length.filter(|&length| length <= MAX_FRAME) else {
        return Frame::None;
    };
    let body = &header[digits + 1..];
    if body.len() < length + END.len() {
        return Frame::Incomplete;
    }
    if &body[length..length + END.len()] != END {
        return Frame::None;
    }
    Frame::Complete {
        payload: &body[..length],
        length: prefix.len() + digits + 1 + length + END.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back_and_its_beginnings_wait() {
        let event = Event::Clear { wait: true };
        let (frame, prefix) = (write(&event, "n0nce"), prefix("n0nce"));
        let Frame::Complete { payload, length } = read(&frame, &prefix) else {
            panic!("{frame:?} is no frame");
        };
        assert_eq!(length, frame.len());
        assert_eq!(Event::from_json(payload), Some(event));
        for end in 0..frame.len() {
            assert_eq!(read(&frame[..end], &prefix), Frame::Incomplete, "{end}");
        }
    }

    #[test]
    fn what_only_looks_like_a_frame_is_none() {
        let prefix = prefix("n0nce");
        for text in [
            "\x1b_GBXother;2;{}\x1b\\",
            "\x1b_GBXn0nce;;{}\x1b\\",
            "\x1b_GBXn0nce;99999999999;",
            "\x1b_GBXn0nce;1;{}\x1b\\",
            "text",
        ] {
            assert_eq!(read(text.as_bytes(), &prefix), Frame::None, "{text:?}");
        }
    }
}
