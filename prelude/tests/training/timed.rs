//! A rank that hands everything on to another one, and counts how long sums of gradients took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use glassbox_prelude::Result;
use glassbox_prelude::parallel::Collective;

/// Ranks whose sums of gradients are timed.
pub struct Timed {
    pub ranks: Arc<dyn Collective>,
    /// Microseconds in them so far.
    pub sums: Arc<AtomicU64>,
}

impl Collective for Timed {
    fn rank(&self) -> usize {
        self.ranks.rank()
    }
    fn ranks(&self) -> usize {
        self.ranks.ranks()
    }
    fn library(&self) -> String {
        self.ranks.library()
    }
    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        let begun = Instant::now();
        let summed = self.ranks.sum_f32(values);
        let took = begun.elapsed().as_micros() as u64;
        self.sums.fetch_add(took, Ordering::Relaxed);
        summed
    }
    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.ranks.sum_f64(values)
    }
    fn sum_u64(&self, values: &mut [u64]) -> Result<()> {
        self.ranks.sum_u64(values)
    }
    fn broadcast(&self, bytes: &mut [u8], from: usize) -> Result<()> {
        self.ranks.broadcast(bytes, from)
    }
    fn abort(&self) {
        self.ranks.abort();
    }
    fn leave(&self) -> Result<()> {
        self.ranks.leave()
    }
}
