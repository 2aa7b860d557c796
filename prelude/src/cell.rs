//! What the code around a cell calls. Nothing here is meant to be called by hand.
//!
//! The host wraps each cell in a function. That function takes the variables that the cell names out of a store, runs
//! the cell through [`run`], and puts them back:
//!
//! ```text
//! take ─▶ local variables ─▶ run { the cell, put new ones } ─▶ put back what the cell did not consume
//! ```
//! So a panic, a failed `?` or an interrupt leaves every variable that the cell had not taken over. The cell shows the
//! value of its last expression through [`ShowDebug`] where the value is not a [`crate::display::Render`]. A failed `?`
//! becomes a [`Failed`], which reports the error.
//!
//! What is generic here is compiled again in each cell, so it hands over to code that is not as soon as it can.

#[cfg(unix)]
pub(crate) mod by_name;

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use glassbox_wire::Control;

use crate::data::{CocoCaptions, Sample};
use crate::display::containers::{self, ADD_QUESTION_MARK};
use crate::display::{self, MimeBundle, Render, Table, limits};
use crate::error::Error;
use crate::language::{Decoder, DecoderLayer, LlmProcessor};
use crate::nn::{Embedding, LayerNorm, Linear, Lora, LoraConfig, Parameter, RmsNorm, Weight};
use crate::projector::Projector;
use crate::session::stop::{self, Stop};
use crate::session::{self, Surroundings};
use crate::trail;
use crate::train::{Trainer, TrainerConfig};
use crate::vision::{Encoder, Image, ImageProcessor, Tiles, Tower, Vit, VitLayer};
use crate::vlm::{Vlm, VlmSettings};
use candle_core::{Tensor, Var};

thread_local! {
    /// The variables between two cells. They are not dropped when the process ends: their destructors may need what is
    /// already gone then.
    static STORE: ManuallyDrop<RefCell<BTreeMap<String, Box<dyn Any>>>> =
        const { ManuallyDrop::new(RefCell::new(BTreeMap::new())) };
}

/// Runs a cell, and says how it ended if it did not end well.
pub fn run(cell: Box<dyn FnOnce() -> Result<(), Failed> + '_>) {
    CELLS.fetch_add(1, Ordering::Relaxed);
    trail::entered();
    let (mut cell, mut outcome) = (Some(cell), None);
    let stopped = stop::guarded(&mut || {
        outcome = cell.take().map(|cell| catch_unwind(AssertUnwindSafe(cell)));
    });
    if let Some(stop) = stopped {
        return was_stopped(stop);
    }
    match outcome {
        None | Some(Ok(Ok(()))) => {}
        Some(Ok(Err(Failed { .. }))) => session::control(&Control::Failed),
        Some(Err(payload)) => {
            session::control(&Control::Panicked);
            // Threads may have panicked as well: this is what unwound the cell.
            session::send(&session::Event::Error {
                message: session::panic_message(&*payload),
                chain: Vec::new(),
                trail: Vec::new(),
            });
            // A payload's own destructor may panic, outside of any cell.
            std::mem::forget(payload);
        }
    }
}

/// How many cells have run.
static CELLS: AtomicU64 = AtomicU64::new(0);

/// A number for the cell that runs, `None` in a program of its own.
pub(crate) fn number() -> Option<u64> {
    match session::surroundings() {
        Surroundings::Glassbox { .. } => Some(CELLS.load(Ordering::Relaxed)),
        Surroundings::StockEvcxr => Some(crate::display::libraries_loaded()),
        Surroundings::Program => None,
    }
}

/// Says that a cell was stopped by force.
fn was_stopped(stop: Stop) {
    let place = match stop {
        Stop::AtCall => "after a call",
        Stop::Anywhere => "in its own code",
    };
    let message = format!("interrupted: stopped {place}, which looks for no interrupt");
    session::control(&Control::Interrupted);
    // It came from no `?`.
    trail::entered();
    session::cell_error_with_chain(&message, Vec::new());
    session::control(&Control::Failed);
}

/// Keeps a variable for later cells.
pub fn put<T: 'static>(name: &str, value: T) {
    let function = put::<T> as *const ();
    put_boxed(name, std::any::type_name::<T>(), function, Box::new(value));
}

fn put_boxed(name: &str, type_name: &str, function: *const (), value: Box<dyn Any>) {
    if says_less_than_its_symbol(type_name)
        && let Some(offset) = offset_in_library(function)
    {
        let name = name.to_owned();
        session::control(&Control::PutAt { name, offset });
    }
    let before = STORE.with(|store| store.borrow_mut().insert(name.to_owned(), value));
    session::control(&Control::Stored {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
    });
    // Dropped when the store is free again: a destructor is the user's code.
    drop(before);
}

/// Whether the text of a type leaves open which lifetimes the type binds, or whether it is a function's own: then the symbol of the
/// function that puts it away says more.
fn says_less_than_its_symbol(type_name: &str) -> bool {
    let binds = type_name.contains("'_") && ["fn(", "dyn "].iter().any(|t| type_name.contains(t));
    let path = type_name.split('<').next().unwrap_or_default();
    let function = path
        .rsplit_once("::")
        .is_some_and(|(_, last)| last.starts_with(|c: char| c.is_lowercase() || c == '_'));
    binds || function
}

/// How far behind the beginning of the library that it is in a function stands.
#[cfg(unix)]
fn offset_in_library(function: *const ()) -> Option<usize> {
    // SAFETY: zero is valid for every field of this plain structure.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the call only compares the address, and fills the structure, which is alive.
    let known = unsafe { libc::dladdr(function.cast(), &raw mut found) };
    (known != 0).then(|| (function as usize).wrapping_sub(found.dli_fbase as usize))
}

/// No function is in a library here.
#[cfg(not(unix))]
fn offset_in_library(_function: *const ()) -> Option<usize> {
    None
}

/// Puts a variable of an earlier cell back, unless the cell has made a new one of the same name.
pub fn put_back<T: 'static>(name: &str, value: T) {
    if STORE.with(|store| store.borrow().contains_key(name)) {
        return;
    }
    put(name, value);
}

/// Puts a variable of an earlier cell back that this one could change, unless it was stopped in the middle of something: then the value
/// may be half changed, and is lost.
pub fn put_back_changed<T: 'static>(name: &str, value: T) {
    if stop::stopped() == Some(Stop::Anywhere) {
        std::mem::forget(value);
    } else {
        put_back(name, value);
    }
}

/// Whether the variable is there and of the type `T`. Says so to the host if it is not.
pub fn check<T: 'static>(name: &str) -> bool {
    check_identity(name, TypeId::of::<T>())
}

fn check_identity(name: &str, identity: TypeId) -> bool {
    let same = STORE.with(|store| {
        let store = store.borrow();
        let value = store.get(name);
        value.is_some_and(|value| (**value).type_id() == identity)
    });
    if !same {
        session::control(&Control::Changed {
            name: name.to_owned(),
        });
    }
    same
}

/// Takes a variable out of the store.
///
/// # Panics
/// If [`check`] was not asked before, or its answer was no.
pub fn take<T: 'static>(name: &str) -> T {
    let value = take_checked(name, TypeId::of::<T>());
    // SAFETY: its type was compared with `T`.
    unsafe { *Box::from_raw(Box::into_raw(value).cast::<T>()) }
}

fn take_checked(name: &str, identity: TypeId) -> Box<dyn Any> {
    let taken = STORE.with(|store| store.borrow_mut().remove(name));
    match taken {
        Some(value) if (*value).type_id() == identity => value,
        _ => panic!("the variable `{name}` is not in the store"),
    }
}

/// Forgets a variable.
pub fn forget(name: &str) {
    let value = STORE.with(|store| store.borrow_mut().remove(name));
    drop(value);
}

/// What `?` turns every error of a cell into; by then the error is reported.
pub struct Failed {
    _private: (),
}

impl<E: fmt::Display> From<E> for Failed {
    #[track_caller]
    fn from(error: E) -> Failed {
        failed(&error);
        Failed { _private: () }
    }
}

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
        show_debug(self, std::any::type_name::<T>(), &Erased::of::<T>(self));
    }
}

/// Called by generated code before and after the value of a cell's last expression shows itself.
pub fn showing(begins: bool) {
    session::send(&session::Event::Showing { begins });
}

/// Until it goes, what is written in the way of crates made for evcxr is shown; see [`by_hand`].
pub struct ByHand {
    _private: (),
}

/// Called by generated code before a call of the cell's own of `evcxr_display`.
pub fn by_hand() -> ByHand {
    session::send(&session::Event::ByHand { begins: true });
    ByHand { _private: () }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        session::send(&session::Event::ByHand { begins: false });
    }
}

/// What a reference leads to as a value that shows itself, for the types that cells borrow most.
fn known<'a>(value: &Erased<'a>) -> Option<&'a dyn Render> {
    macro_rules! one_of {
        ($($type:ty),+) => {
            $(if let Some(value) = value.get::<$type>() {
                return Some(value);
            })+
        };
    }
    one_of!(
        Tensor,
        Var,
        Image,
        Vlm,
        VlmSettings,
        Decoder,
        DecoderLayer,
        LlmProcessor,
        ImageProcessor,
        Encoder,
        Vit,
        VitLayer,
        Tower,
        Tiles,
        Projector,
        Weight,
        Parameter,
        Linear,
        Lora,
        LoraConfig,
        LayerNorm,
        RmsNorm,
        Embedding,
        Trainer,
        TrainerConfig,
        CocoCaptions,
        Sample,
        MimeBundle,
        Table,
        Vec<Tensor>,
        Vec<Image>,
        Vec<Parameter>,
        Vec<DecoderLayer>
    );
    None
}

/// What lists and options of references show, of the types that cells borrow most.
fn borrowed(value: &Erased<'_>) -> Option<MimeBundle> {
    macro_rules! one_of {
        ($($type:ty),+) => {
            $(if let Some(shown) = borrowed_of::<$type>(value) {
                return Some(shown);
            })+
        };
    }
    one_of!(Tensor, Var, Image, Parameter, Weight, Linear, Vlm, Sample);
    None
}

fn borrowed_of<T: Render + 'static>(value: &Erased<'_>) -> Option<MimeBundle> {
    let of_map = |entries: &mut dyn Iterator<Item = (&String, &&'static T)>| {
        let entries = entries.map(|(key, value)| (limits::debug(key), *value as &dyn Render));
        let all: Vec<_> = entries.collect();
        let count = all.len();
        containers::map(&mut all.into_iter(), count)
    };
    value
        .while_borrowed(|list: &Vec<&'static T>| T::render_all(list))
        .or_else(|| {
            value.while_borrowed(|option: &Option<&'static T>| match option {
                Some(value) => value.render(),
                None => MimeBundle::text("None"),
            })
        })
        .or_else(|| {
            value.while_borrowed(|map: &BTreeMap<String, &'static T>| of_map(&mut map.iter()))
        })
        .or_else(|| {
            value.while_borrowed(|map: &HashMap<String, &'static T>| of_map(&mut map.iter()))
        })
}

fn show_debug(value: &dyn fmt::Debug, type_name: &str, erased: &Erased<'_>) {
    if let Some(value) = known(erased) {
        return display::show_value(value.render());
    }
    if let Some(shown) = borrowed(erased) {
        return display::show_value(shown);
    }
    let text = limits::debug(value);
    if text == "()" {
        return;
    }
    if !type_name.starts_with("core::result::Result<") {
        return session::send_result(&text);
    }
    // A `Result` whose value or error shows itself by `{:?}` alone.
    let inside = |name: &str| text.strip_prefix(name)?.strip_suffix(')');
    let shown = match (inside("Ok("), inside("Err(")) {
        (Some(value), _) => containers::with_note(MimeBundle::text(value), ADD_QUESTION_MARK),
        (_, Some(error)) => containers::error_without_question_mark(error),
        _ => containers::with_note(MimeBundle::text(text), ADD_QUESTION_MARK),
    };
    display::show_result(shown);
}

/// The message of an error with those of its causes, one a line, as far as its type is known.
pub(crate) fn error_text<E: fmt::Display>(error: &E) -> String {
    error_text_of(error, &Erased::of(error))
}

fn error_text_of(error: &dyn fmt::Display, erased: &Erased<'_>) -> String {
    let message = error.to_string();
    let Some(known) = as_error(erased).or_else(|| registered(erased)) else {
        // `anyhow` and its kind write the whole chain in the alternate form.
        return format!("{error:#}");
    };
    let (mut text, mut cause) = (message, known.source());
    while let Some(error) = cause {
        let error_text = error.to_string();
        // Some messages tell their cause themselves.
        if !text.ends_with(&error_text) {
            text += &format!("\n  caused by: {error_text}");
        }
        cause = error.source();
    }
    text
}

/// Reports the error of a `?` that ended the cell: where, its message, and those of its sources if its type is known.
#[track_caller]
pub fn failed<T: fmt::Display>(error: &T) {
    report(error, &Erased::of(error), std::panic::Location::caller());
}

fn report(
    error: &dyn fmt::Display,
    erased: &Erased<'_>,
    place: &'static std::panic::Location<'static>,
) {
    session::control(&Control::FailedAt {
        line: place.line(),
        column: place.column(),
    });
    let known = as_error(erased).or_else(|| registered(erased));
    let interrupted = known.is_some_and(|error| match error.downcast_ref() {
        Some(Error::Interrupted) => true,
        _ => error.downcast_ref().is_some_and(Error::is_interrupt),
    });
    if interrupted {
        session::control(&Control::Interrupted);
    }
    match known {
        Some(error) => session::cell_error_with_sources(error),
        None => {
            // `anyhow` and its kind write the whole chain in the alternate form.
            let message = error.to_string();
            let chain = format!("{error:#}");
            let causes = chain
                .strip_prefix(message.as_str())
                .and_then(|rest| rest.strip_prefix(": "))
                .map(str::to_owned);
            session::cell_error_with_chain(&message, causes.into_iter().collect());
        }
    }
}

// ---- error types that cells define -------------------------------------------------------------------------------

/// Turns a pointer to a value of the registered type into the error that it is.
type Upcast = unsafe fn(*const ()) -> *const (dyn StdError + 'static);

static REGISTERED: Mutex<Vec<(TypeId, Upcast)>> = Mutex::new(Vec::new());

/// A type of which a cell says that it may be an error: `(&Candidate::<E>::new()).register()` compiles for any type and
/// registers those that are, through [`IsError`] or [`IsNoError`].
pub struct Candidate<E>(PhantomData<E>);

impl<E> Candidate<E> {
    /// The type, without a value of it.
    #[allow(clippy::new_without_default)] // generated code writes it in full
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// Of types that are errors.
pub trait IsError {
    /// From now on [`failed`] shows the sources of such an error.
    fn register(&self);
}

impl<E: StdError + 'static> IsError for Candidate<E> {
    fn register(&self) {
        unsafe fn upcast<E: StdError + 'static>(
            value: *const (),
        ) -> *const (dyn StdError + 'static) {
            value.cast::<E>() as *const (dyn StdError + 'static)
        }
        let id = TypeId::of::<E>();
        let mut all = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
        // A type that was defined anew may have the identity of the old one, but not its code.
        all.retain(|(other, _)| *other != id);
        all.push((id, upcast::<E>));
    }
}

/// Of types that are not.
pub trait IsNoError {
    /// Does nothing.
    fn register(&self);
}

impl<E> IsNoError for &Candidate<E> {
    fn register(&self) {}
}

/// The error of a type that the cell registered.
fn registered<'a>(error: &Erased<'a>) -> Option<&'a (dyn StdError + 'static)> {
    let id = error.identity;
    let all = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, upcast) = all.iter().find(|(other, _)| *other == id)?;
    // SAFETY: the value has the identity of the registered type, which holds no reference of a shorter life than 'static; the
    // result lives as long as `error`, from which it comes.
    Some(unsafe { &*upcast(error.value) })
}

/// The error as [`std::error::Error`], for the types that cells meet most.
fn as_error<'a>(error: &Erased<'a>) -> Option<&'a (dyn StdError + 'static)> {
    fn plain<'a, E: StdError + 'static>(
        error: &Erased<'a>,
    ) -> Option<&'a (dyn StdError + 'static)> {
        error.get::<E>().map(|error| error as _)
    }
    plain::<Error>(error)
        .or_else(|| plain::<candle_core::Error>(error))
        .or_else(|| plain::<std::io::Error>(error))
        .or_else(|| plain::<serde_json::Error>(error))
        .or_else(|| plain::<image::ImageError>(error))
        .or_else(|| error.get::<Box<dyn StdError>>().map(|error| &**error))
        .or_else(|| {
            error
                .get::<Box<dyn StdError + Send + Sync>>()
                .map(|error| &**error as _)
        })
}

/// `value` as an `E` if that is its type.
pub(crate) fn as_type<T, E: 'static>(value: &T) -> Option<&E> {
    Erased::of(value).get()
}

/// A reference whose type is known only at run time, and may be one that holds references.
struct Erased<'a> {
    identity: TypeId,
    value: *const (),
    life: PhantomData<&'a ()>,
}

impl<'a> Erased<'a> {
    fn of<T: ?Sized>(value: &'a T) -> Erased<'a> {
        Erased {
            identity: identity_of::<T>(),
            value: std::ptr::from_ref(value).cast(),
            life: PhantomData,
        }
    }

    /// The value as an `E` if that is its type.
    fn get<E: 'static>(&self) -> Option<&'a E> {
        // SAFETY: both types have the same identity, and `E` holds no reference of a shorter life than 'static, so the
        // value holds none either. The value lives for 'a.
        (self.identity == TypeId::of::<E>()).then(|| unsafe { &*self.value.cast::<E>() })
    }

    /// What `look` makes of the value if its type is `E`, in which every lifetime stands for any: nothing of the value outlives the call.
    fn while_borrowed<E: 'static, R: 'static>(&self, look: impl Fn(&E) -> R) -> Option<R> {
        // SAFETY: both types have the same identity but for lifetimes. What is borrowed is alive for 'a and so during the call, and what
        // the call gives back is made of nothing that it borrows for longer than that.
        (self.identity == TypeId::of::<E>()).then(|| look(unsafe { &*self.value.cast::<E>() }))
    }
}

/// The identity of a type that may hold references, with every lifetime taken for `'static`.
fn identity_of<T: ?Sized>() -> TypeId {
    trait Identity {
        fn identity(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Identity for PhantomData<T> {
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
        assert!(as_error(&Erased::of(&Error::Interrupted)).is_some());
        let boxed: Box<dyn StdError + Send + Sync> = "boxed".into();
        assert_eq!(
            as_error(&Erased::of(&boxed))
                .map(ToString::to_string)
                .as_deref(),
            Some("boxed")
        );
        let text = String::from("borrowed");
        assert!(as_error(&Erased::of(&text.as_str())).is_none());
        assert!(Erased::of(&text).get::<Error>().is_none());
    }

    #[test]
    fn a_variable_comes_back_as_what_it_was_and_only_so() {
        put("a", vec![1u8, 2]);
        assert!(check::<Vec<u8>>("a") && !check::<Vec<i8>>("a") && !check::<Vec<u8>>("b"));
        assert_eq!(take::<Vec<u8>>("a"), [1, 2]);
        assert!(!check::<Vec<u8>>("a"));
        put("a", 1u8);
        put_back("a", 2u8);
        assert_eq!(take::<u8>("a"), 1);
        put_back("a", 2u8);
        assert_eq!(take::<u8>("a"), 2);
    }

    #[test]
    fn a_destructor_may_use_the_store() {
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                put("farewell", 1u8);
            }
        }
        put("last", Last);
        put("last", 0u8);
        assert_eq!(take::<u8>("farewell"), 1);
        put("last", Last);
        forget("last");
        assert_eq!(take::<u8>("farewell"), 1);
    }

    #[test]
    fn errors_of_cells_are_known_once_they_are_registered() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);
        struct NoError;
        assert!(registered(&Erased::of(&Outer(std::fmt::Error))).is_none());
        // The references are what generated code writes; they order the two traits.
        #[allow(clippy::needless_borrow)]
        {
            (&Candidate::<Outer>::new()).register();
            (&Candidate::<NoError>::new()).register();
        }
        let error = Outer(std::fmt::Error);
        let found = registered(&Erased::of(&error)).unwrap();
        assert_eq!(found.to_string(), "outer");
        assert!(found.source().is_some());
        assert!(registered(&Erased::of(&NoError)).is_none());
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
