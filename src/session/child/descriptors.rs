//! Descriptors for the session itself, in a process whose cells may hold all that they may have.
//!
//! To load a cell's library a file has to be opened. So cells may have a few less than the system allows the process, and the
//! limit is lifted while one is loaded: a cell that drops what the others hold can always begin.

/// So many are needed at once, and some more.
const OWN: libc::rlim_t = 16;

/// Takes the session's own descriptors away from what cells may have.
pub(crate) fn start() {
    change(|limit| limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max.saturating_sub(OWN)));
}

/// Does `work` with the session's own descriptors.
pub(crate) fn with_own<T>(work: impl FnOnce() -> T) -> T {
    let mut cells = None;
    change(|limit| {
        cells = Some(limit.rlim_cur);
        limit.rlim_cur = limit.rlim_cur.saturating_add(OWN).min(limit.rlim_max);
    });
    let done = work();
    // Whatever they set it to themselves.
    change(|limit| limit.rlim_cur = cells.unwrap_or(limit.rlim_cur));
    done
}

/// How many cells may have.
pub(crate) fn of_cells() -> libc::rlim_t {
    let mut now = 0;
    change(|limit| now = limit.rlim_cur);
    now
}

fn change(how: impl FnOnce(&mut libc::rlimit)) {
    // SAFETY: zero is valid for every field of this plain structure.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is alive. Without the limit nothing is changed, and loading fails with the system's words.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            how(&mut limit);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
