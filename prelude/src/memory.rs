//! What a piece of work takes of memory at its highest: the allocator is asked again and again while it runs.

use crate::Result;

/// The most that was allocated beyond what was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peak {
    /// Bytes.
    pub bytes: usize,
}

/// Runs `work`: what comes of it, and its peak; `None` where the allocator does not say. Other threads that allocate at the same
/// time are counted too.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn peak_of<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Peak>)> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    /// A layer of the smallest model takes longer.
    const EVERY: std::time::Duration = std::time::Duration::from_micros(200);
    struct Over(Arc<AtomicBool>);
    impl Drop for Over {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let before = in_use();
    // Owned: whoever leaves in the middle of the work leaves nothing that is borrowed.
    let highest = Arc::new(AtomicUsize::new(before));
    let over = Arc::new(AtomicBool::new(false));
    let thread = std::thread::Builder::new().name("memory".into());
    let seen = (highest.clone(), over.clone());
    // Also when the work panics: the thread would ask for ever.
    let over = Over(over);
    let watcher = thread.spawn(move || {
        let (highest, over) = seen;
        while !over.load(Ordering::Relaxed) {
            highest.fetch_max(in_use(), Ordering::Relaxed);
            std::thread::sleep(EVERY);
        }
    });
    let outcome = work();
    drop(over);
    let watched = watcher.is_ok_and(|watcher| watcher.join().is_ok());
    let bytes = highest.load(Ordering::Relaxed).saturating_sub(before);
    Ok((outcome?, watched.then_some(Peak { bytes })))
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn peak_of<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Peak>)> {
    Ok((work()?, None))
}

/// Bytes that are allocated now, by all threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn in_use() -> usize {
    // SAFETY: it reads the allocator's own counters, under its locks.
    let counters = unsafe { libc::mallinfo2() };
    counters.uordblks + counters.hblkhd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_was_allocated_and_freed_again_is_seen() -> Result<()> {
        const BYTES: usize = 300 << 20;
        let (sum, peak) = peak_of(|| {
            let values = vec![1_u8; BYTES];
            std::thread::sleep(std::time::Duration::from_millis(50));
            Ok(values
                .iter()
                .map(|&value| usize::from(value))
                .sum::<usize>())
        })?;
        assert_eq!(sum, BYTES);
        // Other tests allocate and free meanwhile; how near a peak comes is measured where nothing else runs (`tests/training`).
        let peak = peak.expect("it is measured here").bytes;
        assert!(peak > BYTES / 2, "{peak}");
        Ok(())
    }
}
