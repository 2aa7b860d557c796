//! How much memory this process has: what the system counts as resident, in bytes.

/// Resident memory, where the system says it (Linux).
#[cfg(unix)]
pub(crate) fn bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: no memory is involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

/// Nothing says it here.
#[cfg(not(unix))]
pub(crate) fn bytes() -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_process_has_some_memory() {
        let bytes = super::bytes().unwrap_or_default();
        assert!(bytes > 1_000_000, "{bytes}");
    }
}
