//! What the code around a cell calls. Nothing here is meant to be called by hand.
//!
//! The host wraps each cell in a function. That function shows the value of the last expression through [`ShowDebug`]
//! where the value is not a [`crate::display::Render`], and reports the error of a failed `?` through [`failed`].

use std::any::TypeId;
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;

use crate::error::Error;
use crate::session;

/// Control line that says that a cell ended because the user interrupted it.
const INTERRUPTED_LINE: &str = "GLASSBOX_INTERRUPTED";
/// Begins the control line that says where in the generated source the `?` stands: line and column follow.
const FAILED_AT: &str = "GLASSBOX_FAILED_AT ";

/// Shows a value by its `{:?}`.
///
/// For a receiver `&value` the compiler first looks for an `evcxr_display` of the value's own type and of
/// [`crate::display::EvcxrDisplay`], and only then finds this one, which is implemented for the reference: so each
/// expression compiles once, whatever it can do.
pub trait ShowDebug {
    /// Shows the value as the cell's result; `()` shows nothing.
    fn evcxr_display(&self);
}

impl<T: fmt::Debug + ?Sized> ShowDebug for &T {
    fn evcxr_display(&self) {
        show_debug(self);
    }
}

fn show_debug(value: &dyn fmt::Debug) {
    let text = format!("{value:?}");
    if text != "()" {
        session::send_result(&text);
    }
}

/// Reports the error of a `?` that ended the cell: where, its message, and those of its sources if its type is known.
#[track_caller]
pub fn failed<T: fmt::Display>(error: &T) {
    let place = std::panic::Location::caller();
    session::control(&format!("{FAILED_AT}{} {}", place.line(), place.column()));
    if let Some(Error::Interrupted) = as_type::<T, Error>(error) {
        session::control(INTERRUPTED_LINE);
    }
    match as_error(error) {
        Some(error) => session::cell_error_with_sources(error),
        None => session::cell_error(&error.to_string()),
    }
}

/// The error as [`std::error::Error`], for the types that cells meet most.
fn as_error<T>(error: &T) -> Option<&(dyn StdError + 'static)> {
    fn plain<T, E: StdError + 'static>(error: &T) -> Option<&(dyn StdError + 'static)> {
        as_type::<T, E>(error).map(|error| error as &(dyn StdError + 'static))
    }
    plain::<T, Error>(error)
        .or_else(|| plain::<T, candle_core::Error>(error))
        .or_else(|| plain::<T, std::io::Error>(error))
        .or_else(|| plain::<T, serde_json::Error>(error))
        .or_else(|| plain::<T, image::ImageError>(error))
        .or_else(|| as_type::<T, Box<dyn StdError>>(error).map(|error| &**error))
        .or_else(|| {
            as_type::<T, Box<dyn StdError + Send + Sync>>(error)
                .map(|error| &**error as &(dyn StdError + 'static))
        })
}

/// `value` as an `E` if that is its type.
fn as_type<T, E: 'static>(value: &T) -> Option<&E> {
    // SAFETY: both types have the same identity, and `E` holds no reference of a shorter life than 'static, so `T`
    // holds none either.
    (identity_of::<T>() == TypeId::of::<E>())
        .then(|| unsafe { &*std::ptr::from_ref(value).cast::<E>() })
}

/// The identity of a type that may hold references, with every lifetime taken for `'static`.
fn identity_of<T>() -> TypeId {
    trait Identity {
        fn identity(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T> Identity for PhantomData<T> {
        fn identity(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let marker = PhantomData::<T>;
    // SAFETY: only the lifetime changes, and the method reads nothing through it.
    unsafe { std::mem::transmute::<&dyn Identity, &(dyn Identity + 'static)>(&marker) }.identity()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_errors_are_recognised_and_borrowing_ones_are_not() {
        assert!(as_error(&Error::Interrupted).is_some());
        let boxed: Box<dyn StdError + Send + Sync> = "boxed".into();
        assert_eq!(
            as_error(&boxed).map(ToString::to_string).as_deref(),
            Some("boxed")
        );
        let text = String::from("borrowed");
        assert!(as_error(&text.as_str()).is_none());
        assert!(as_type::<_, Error>(&text).is_none());
    }

    #[test]
    fn every_kind_of_value_finds_its_own_way_to_show_itself() {
        use crate::display::{EvcxrDisplay as _, MimeBundle, Render};
        struct Picture;
        impl Render for Picture {
            fn render(&self) -> MimeBundle {
                MimeBundle::text("picture")
            }
        }
        struct OwnWay;
        impl OwnWay {
            fn evcxr_display(&self) {}
        }
        // That these three lines compile is what is tested.
        #[allow(clippy::needless_borrow)]
        {
            (&(Picture)).evcxr_display();
            (&(OwnWay)).evcxr_display();
            (&(vec![1, 2])).evcxr_display();
        }
    }
}
