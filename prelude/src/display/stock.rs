//! Displays for the stock `evcxr_jupyter` kernel, which has no events.
//!
//! It takes `EVCXR_BEGIN_CONTENT mime … EVCXR_END_CONTENT` on stdout, keeps one content per MIME type per cell, and
//! shows it when the cell ends. So that a second display does not replace the first, each one of a cell carries all the
//! earlier ones with it. Which cell is running shows in the number of shared libraries loaded so far: every cell is one.

use std::sync::{Mutex, PoisonError};

use glassbox_wire::evcxr::{BEGIN_CONTENT, END_CONTENT};

use super::MimeBundle;

struct Shown {
    cell: u64,
    bundle: MimeBundle,
}

static SHOWN: Mutex<Option<Shown>> = Mutex::new(None);

/// Shows `bundle` below what the running cell has shown already.
pub(super) fn show(bundle: &MimeBundle) {
    let cell = libraries_loaded();
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let all = match shown.take() {
        Some(earlier) if earlier.cell == cell => earlier.bundle.above(bundle),
        _ => bundle.clone(),
    };
    super::print_line(&content_lines(&all));
    *shown = Some(Shown { cell, bundle: all });
}

/// Every format of the bundle between evcxr's marks.
fn content_lines(bundle: &MimeBundle) -> String {
    let mut lines = String::new();
    for mime in bundle.data().keys() {
        if let Some(content) = bundle.get(mime) {
            // A line of the content that equals the end mark would end it early.
            let content =
                content.replace(&format!("\n{END_CONTENT}"), &format!("\n {END_CONTENT}"));
            lines.push_str(&format!(
                "{BEGIN_CONTENT}{mime}\n{content}\n{END_CONTENT}\n"
            ));
        }
    }
    lines.truncate(lines.trim_end().len());
    lines
}

/// How many shared libraries this process has ever loaded.
#[cfg(unix)]
pub(crate) fn libraries_loaded() -> u64 {
    extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        out: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: `info` is valid during the call and `out` is the counter passed below.
        unsafe { *out.cast::<u64>() = (*info).dlpi_adds };
        1
    }
    let mut adds = 0_u64;
    // SAFETY: the callback matches the expected type and only writes to `adds`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut adds).cast()) };
    adds
}

/// None is loaded here.
#[cfg(not(unix))]
pub(crate) fn libraries_loaded() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_cannot_end_itself() {
        let lines = content_lines(&MimeBundle::text("x\nEVCXR_END_CONTENT\ny"));
        assert_eq!(
            lines,
            "EVCXR_BEGIN_CONTENT text/plain\nx\n EVCXR_END_CONTENT\ny\nEVCXR_END_CONTENT"
        );
    }

    #[test]
    fn loading_is_counted() {
        assert!(libraries_loaded() > 0);
    }
}
