//! The places that an error passed on its way out of the functions of cells. Nothing here is meant to be called by hand.
//!
//! The host writes each `f(x)?` inside a function of a cell as `Tried::at(f(x))?`, so that it is known where the error came from when it
//! reaches the cell's own `?`:
//!
//! ```text
//! entered() ─ the function begins: what was noted before is another matter
//! made()    ─ `Err(…)` is written here                                      ─▶ the trail of this thread ─▶ the report of the error
//! at(…)     ─ a `?` gives an error back
//! ```

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::panic::Location;
use std::task::Poll;

use glassbox_wire::event::Passed;

use crate::session;

/// So many places are remembered: an error that is handled, in a loop, leaves its own behind.
const KEPT: usize = 64;
/// What the source of cells is called in their code.
const SOURCE: &str = "lib.rs";

type Place = &'static Location<'static>;

thread_local! {
    /// Innermost first.
    static TRAIL: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// What `?` can be applied to.
pub trait Tried {
    /// The same value; where it is one that `?` gives back, the place is noted.
    #[track_caller]
    fn at(self) -> Self;
}

macro_rules! tried {
    ($(<$($name:ident),+> $type:ty: $fails:pat),+ $(,)?) => {$(
        impl<$($name),+> Tried for $type {
            #[inline]
            #[track_caller]
            fn at(self) -> Self {
                if let $fails = &self {
                    note(Location::caller());
                }
                self
            }
        }
    )+};
}
tried!(
    <T, E> Result<T, E>: Err(_),
    <T> Option<T>: None,
    <B, C> ControlFlow<B, C>: ControlFlow::Break(_),
    <T, E> Poll<Result<T, E>>: Poll::Ready(Err(_)),
    <T, E> Poll<Option<Result<T, E>>>: Poll::Ready(Some(Err(_))),
);

/// A function of a cell begins.
pub fn entered() {
    // A thread that ends may have lost it already.
    let _ = TRAIL.try_with(|trail| trail.borrow_mut().clear());
}

/// An error is made here.
#[track_caller]
pub fn made() {
    note(Location::caller());
}

fn note(place: Place) {
    let _ = TRAIL.try_with(|trail| {
        let mut trail = trail.borrow_mut();
        if trail.len() == KEPT {
            trail.remove(0);
        }
        trail.push(place);
    });
}

/// What was noted in this thread, innermost first; it is forgotten.
pub(crate) fn take() -> Vec<Passed> {
    let places = TRAIL.try_with(|trail| std::mem::take(&mut *trail.borrow_mut()));
    let places = places.unwrap_or_default().into_iter();
    let of_cells = places.filter(|place| place.file().ends_with(SOURCE));
    of_cells
        .map(|place| Passed {
            library: session::library_of(std::ptr::from_ref(place).cast()).unwrap_or_default(),
            line: place.line(),
            column: place.column(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(text: &str) -> Option<i32> {
        entered();
        let number: i32 = Tried::at(Tried::at(text.parse::<i32>()).ok())?;
        Some(number)
    }

    #[test]
    fn what_gives_an_error_back_is_noted_and_a_function_forgets_what_was_before() {
        assert_eq!(inner("7"), Some(7));
        let noted = || TRAIL.with(|trail| trail.borrow().len());
        assert_eq!(noted(), 0);
        assert_eq!(Tried::at(inner("x")), None);
        assert_eq!(noted(), 3);
        let _ = Tried::at(ControlFlow::<i32, i32>::Break(1));
        let _ = Tried::at(Poll::<std::result::Result<i32, i32>>::Pending);
        assert_eq!(noted(), 4);
        made();
        assert_eq!(noted(), 5);
        assert_eq!(take(), [], "none of these is a cell's");
        assert_eq!(noted(), 0);
        for _ in 0..2 * KEPT {
            made();
        }
        assert_eq!(noted(), KEPT);
        entered();
        assert_eq!(noted(), 0);
    }
}
