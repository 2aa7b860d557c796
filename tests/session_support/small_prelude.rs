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
    use std::any::Any;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crate::session::control;

    pub trait ShowDebug {
        fn evcxr_display(&self);
    }

    impl<T: std::fmt::Debug + ?Sized> ShowDebug for &T {
        fn evcxr_display(&self) {
            crate::session::send_result(&format!("{self:?}"));
        }
    }

    pub fn showing(begins: bool) {
        crate::session::send(1, &format!("{{\"event\":\"showing\",\"begins\":{begins}}}"));
    }

    pub struct ByHand(());

    pub fn by_hand() -> ByHand {
        crate::session::send(1, "{\"event\":\"by_hand\",\"begins\":true}");
        ByHand(())
    }

    impl Drop for ByHand {
        fn drop(&mut self) {
            crate::session::send(1, "{\"event\":\"by_hand\",\"begins\":false}");
        }
    }

    pub fn failed<T: std::fmt::Display>(error: &T) {
        crate::session::send(1, &format!("{{\"event\":\"error\",\"message\":{:?},\"chain\":[]}}", error.to_string()));
    }

    pub struct Failed(());

    impl<E: std::fmt::Display> From<E> for Failed {
        fn from(error: E) -> Failed {
            failed(&error);
            Failed(())
        }
    }

    thread_local! {
        static STORE: RefCell<BTreeMap<String, Box<dyn Any>>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub fn run(cell: Box<dyn FnOnce() -> Result<(), Failed> + '_>) {
        match catch_unwind(AssertUnwindSafe(cell)) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => control("EVCXR_ERROR_OCCURRED"),
            Err(_) => control("EVCXR_PANIC_NOTIFICATION"),
        }
    }

    pub fn put<T: 'static>(name: &str, value: T) {
        STORE.with(|store| store.borrow_mut().insert(name.to_owned(), Box::new(value)));
        control(&format!("GLASSBOX_STORED {name} {}", std::any::type_name::<T>()));
    }

    pub fn put_back_changed<T: 'static>(name: &str, value: T) {
        put_back(name, value);
    }

    pub fn put_back<T: 'static>(name: &str, value: T) {
        if !STORE.with(|store| store.borrow().contains_key(name)) {
            put(name, value);
        }
    }

    pub fn check<T: 'static>(name: &str) -> bool {
        let same = STORE.with(|store| store.borrow().get(name).is_some_and(|value| value.is::<T>()));
        if !same {
            control(&format!("GLASSBOX_CHANGED {name}"));
        }
        same
    }

    pub fn forget(name: &str) {
        STORE.with(|store| store.borrow_mut().remove(name));
    }

    pub fn take<T: 'static>(name: &str) -> T {
        let value = STORE.with(|store| store.borrow_mut().remove(name));
        *value.and_then(|value| value.downcast().ok()).unwrap()
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
pub extern "C" fn glassbox_cell_begin(_code: *const u8, _length: usize) {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_cell_end(_cell: u64) {
    let _ = std::io::stdout().flush();
}

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_watch_threads(_count: *const u8) {}

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_can_show(_name: *const u8, _length: usize) -> bool {
    false
}

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_show(_name: *const u8, _length: usize) {}

#[unsafe(no_mangle)]
pub extern "C" fn glassbox_comm(_json: *const u8, _length: usize) {}
