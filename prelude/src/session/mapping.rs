//! Names the file behind a SIGBUS: one that is mapped into memory and that another process has cut short.
//!
//! The weights of models are not mapped (`nn/checkpoint/bytes.rs`), but a cell may map what it likes. Called in a signal's handler:
//! nothing is allocated, nothing locked.

use std::sync::atomic::{AtomicBool, Ordering};

/// Once is enough: the process is about to end.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Writes a line to stderr if a file is mapped at `address`.
pub(super) fn tell(address: usize) {
    if TOLD.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the path ends in a zero.
    let maps = unsafe {
        libc::open(
            c"/proc/self/maps".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    if maps < 0 {
        return;
    }
    let mut block = [0_u8; 512];
    let mut line = [0_u8; 1024];
    let mut length = 0;
    loop {
        // SAFETY: the block is alive and as long as it is said to be.
        let read = unsafe { libc::read(maps, block.as_mut_ptr().cast(), block.len()) };
        let Some(block) = usize::try_from(read)
            .ok()
            .and_then(|read| block.get(..read))
        else {
            return;
        };
        if block.is_empty() {
            return;
        }
        for byte in block {
            if *byte != b'\n' {
                if let Some(place) = line.get_mut(length) {
                    *place = *byte;
                    length += 1;
                }
                continue;
            }
            if let Some(path) = path_of(&line[..length], address) {
                write(b"\nthe file ");
                write(path);
                write(b" is mapped into memory, and another process has cut it short: the variables of this session are lost by it\n");
                return;
            }
            length = 0;
        }
    }
}

fn write(bytes: &[u8]) {
    // SAFETY: the bytes are alive. Nothing can be done about a stderr that is gone.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

/// The path in a line of `/proc/self/maps`, if the line is about `address`: `START-END rw-p OFFSET DEVICE INODE  PATH`.
fn path_of(line: &[u8], address: usize) -> Option<&[u8]> {
    let (start, rest) = hexadecimal(line);
    let (end, rest) = hexadecimal(rest.strip_prefix(b"-")?);
    let path = rest.iter().position(|byte| *byte == b'/')?;
    (start..end).contains(&address).then(|| &rest[path..])
}

/// A number and what follows it.
fn hexadecimal(text: &[u8]) -> (usize, &[u8]) {
    let mut number = 0_usize;
    for (place, byte) in text.iter().enumerate() {
        let Some(digit) = char::from(*byte).to_digit(16) else {
            return (number, &text[place..]);
        };
        number = number.wrapping_mul(16).wrapping_add(digit as usize);
    }
    (number, &[])
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn the_line_of_an_address_gives_its_file() {
        let line =
            b"7f00a000-7f00c000 r--s 00000000 fe:00 1234                /data/my model.safetensors";
        assert_eq!(
            path_of(line, 0x7f00_b123),
            Some(&b"/data/my model.safetensors"[..])
        );
        assert_eq!(path_of(line, 0x7f00_c000), None);
        assert_eq!(
            path_of(b"7f00a000-7f00c000 rw-p 00000000 00:00 0", 0x7f00_a000),
            None
        );
        assert_eq!(path_of(b"", 0), None);
    }
}
