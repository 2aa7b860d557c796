//! What stands in the place of `stop.rs` where there are no signals: nothing is stopped.

/// Where a cell was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A function that it had called returned, or called it back.
    #[allow(dead_code)] // nothing is stopped here
    AtCall,
    /// In the middle of its own code.
    #[allow(dead_code)] // nothing is stopped here
    Anywhere,
}

pub(super) fn looked() {}

/// Nothing was stopped.
pub(crate) fn stopped() -> Option<Stop> {
    None
}

/// Runs the code to its end.
pub(crate) fn guarded(code: &mut dyn FnMut()) -> Option<Stop> {
    code();
    None
}
