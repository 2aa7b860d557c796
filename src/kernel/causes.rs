//! Which request began which cell: what its threads say later is shown under it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::wire::Request;

/// So many of the last cells are remembered; what is said of an older one goes to the oldest of them.
const KEPT: usize = 4096;

/// Cells by their numbers in the session. Clones are the same.
#[derive(Clone, Default)]
pub struct Causes(Arc<Mutex<VecDeque<Caused>>>);

/// A cell's number, and the request that began it.
type Caused = (u64, Arc<Request>);

impl Causes {
    /// The session's cell of this number is begun by `cause`.
    pub fn note(&self, number: u64, cause: &Request) {
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.len() == KEPT {
            causes.pop_front();
        }
        causes.push_back((number, Arc::new(cause.header_only())));
    }

    /// Who began the cell of this number, or as close to it as is known.
    pub fn of(&self, number: u64) -> Option<Arc<Request>> {
        let causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = causes.partition_point(|(other, _)| *other < number);
        let (_, cause) = causes.get(at).or_else(|| causes.back())?;
        Some(Arc::clone(cause))
    }

    /// Another session counts anew.
    pub fn clear(&self) {
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        causes.clear();
    }
}
