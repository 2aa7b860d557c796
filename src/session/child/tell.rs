//! Events that the child itself has to tell, besides those of the prelude in it, and those of the host that go the same way, so that
//! they stand in order with what cells show.

use std::io::Write;

use glassbox_wire::{Event, frame};

/// What stands before, and with 0 behind, what a thread of another cell writes than the one that runs.
pub(crate) fn mark(nonce: &str, cell: u64) -> Vec<u8> {
    frame::write(&Event::Of { cell }, nonce)
}

/// Writes an event of our own between the cell's text. If nobody reads any more there is no one to tell.
pub(crate) fn send_frame(nonce: &str, event: &Event) {
    let frame = frame::write(event, nonce);
    let mut rest = frame.as_slice();
    while !rest.is_empty() {
        // SAFETY: the pointer and length are those of a live slice.
        match unsafe { libc::write(libc::STDOUT_FILENO, rest.as_ptr().cast(), rest.len()) } {
            count @ 1.. => rest = rest.get(count as usize..).unwrap_or_default(),
            _ if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// Writes an event into the pipe by which those of the child come.
pub(crate) fn send_into(pipe: &mut impl Write, nonce: &str, event: &Event) {
    // If nobody reads any more there is no one to tell.
    let _ = pipe.write_all(&frame::write(event, nonce));
}
