//! What stands in the place of `process.rs` where no process runs cells: in a page of a browser.

use glassbox_wire::{Control, Event};

/// No session is there that could have a nonce.
pub(super) fn send(_event: &Event, _nonce: &str) {}

/// Writes the line to stdout, where stock evcxr looks for it.
#[allow(clippy::print_stdout)] // the stock protocol is lines on stdout
pub fn control(line: &Control) {
    println!("{line}");
}

/// Nothing is loaded from libraries here.
pub(crate) fn library_of(_address: *const std::ffi::c_void) -> Option<String> {
    None
}
