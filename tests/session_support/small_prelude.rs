//! The smallest crate that a session accepts as its prelude, so that tests of the cache build it in a second or two.
//!
//! It speaks the same protocol as the real one: what the host calls and what generated code calls is here, nothing else.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

pub mod session {
    use super::*;

    pub(crate) static CONTROL: AtomicI32 = AtomicI32::new(-1);

    pub fn control(line: &str) {
        write_all(CONTROL.load(Ordering::Relaxed), format!("{line}\n").as_bytes());
    }

    pub fn send_result(text: &str) {
        send(1, &format!("{{\"event\":\"result\",\"data\":{{\"text/plain\":{text:?}}},\"metadata\":{{}}}}"));
    }

    pub(crate) fn send(fd: i32, payload: &str) {
        let _ = std::io::stdout().flush();
        let nonce = std::env::var("GLASSBOX_NONCE").unwrap_or_default();
        write_all(fd, format!("\x1b_GBX{nonce};{};{payload}\x1b\\", payload.len()).as_bytes());
    }

    fn write_all(fd: i32, bytes: &[u8]) {
        unsafe extern "C" {
            fn write(fd: i32, bytes: *const u8, count: usize) -> isize;
        }
        // SAFETY: the pointer and length are those of a live slice.
        unsafe { write(fd, bytes.as_ptr(), bytes.len()) };
    }
}

pub mod display {
    pub trait EvcxrDisplay {
        fn evcxr_display(&self);
    }
}

pub mod cell {
    pub trait ShowDebug {
        fn evcxr_display(&self);
    }

    impl<T: std::fmt::Debug + ?Sized> ShowDebug for &T {
        fn evcxr_display(&self) {
            crate::session::send_result(&format!("{self:?}"));
        }
    }

    pub fn failed<T: std::fmt::Display>(error: &T) {
        crate::session::send(1, &format!("{{\"event\":\"error\",\"message\":{:?},\"chain\":[]}}", error.to_string()));
    }
}

pub mod prelude {
    /// Counts its own calls in a static: one for all cells if the library is loaded once.
    pub fn count() -> u64 {
        static CALLS: super::AtomicU64 = super::AtomicU64::new(0);
        CALLS.fetch_add(1, super::Ordering::Relaxed) + 1
    }
}

pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_session_start(control: i32) {
    session::CONTROL.store(control, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_cell_begin() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_cell_end(_cell: u64) {
    let _ = std::io::stdout().flush();
}
