//! A static of a cell exists once a session, whatever cell its code is called from.

mod session_support;

use std::path::Path;

use glassbox::session::{Event, StreamName};
use session_support::{Run, TestSession};

fn stream(run: &Run, wanted: StreamName) -> String {
    let texts = run.events.iter().filter_map(|event| match event {
        Event::Stream { name, text } if *name == wanted => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// What a cell prints.
fn printed(session: &mut TestSession, code: &str) -> String {
    let run = session.run(code);
    assert!(run.outcome.status.is_ok(), "{code}: {run:#?}");
    let notes = stream(&run, StreamName::Stderr);
    assert_eq!(notes, "", "{code}");
    stream(&run, StreamName::Stdout).trim_end().to_owned()
}

/// What the session says of a cell besides its output.
fn notes(session: &mut TestSession, code: &str) -> Vec<String> {
    let run = session.run(code);
    assert!(run.outcome.status.is_ok(), "{code}: {run:#?}");
    let notes = stream(&run, StreamName::Stderr);
    notes.lines().map(str::to_owned).collect()
}

/// Runs cells that define something, of which nothing is said.
fn define(session: &mut TestSession, code: &str) {
    assert_eq!(printed(session, code), "", "{code}");
}

const COUNTER: &str = "use std::sync::atomic::{AtomicUsize, Ordering};
static CALLS: AtomicUsize = AtomicUsize::new(0);
fn next_id() -> usize { CALLS.fetch_add(1, Ordering::Relaxed) + 1 }";

#[test]
fn a_counter_counts_on_from_cell_to_cell() {
    let mut session = TestSession::start();
    define(&mut session, COUNTER);
    for wanted in ["1", "2", "3"] {
        assert_eq!(session.result_of("next_id()"), wanted);
    }
    // By its own name, from another function, and in a cell with a function of its own.
    assert_eq!(session.result_of("CALLS.load(Ordering::Relaxed)"), "3");
    assert_eq!(
        session.result_of("fn two() -> usize { next_id(); next_id() }\ntwo()"),
        "5"
    );
    assert_eq!(
        session.result_of("two() + CALLS.load(Ordering::SeqCst)"),
        "14"
    );
    // A cell that panics and one that fails have counted too.
    assert!(session.run("next_id(); panic!()").outcome.status.is_err());
    assert!(
        session
            .run("next_id(); \"x\".parse::<u8>()?;")
            .outcome
            .status
            .is_err()
    );
    assert_eq!(session.result_of("next_id()"), "10");
    // One that does not compile has not.
    assert!(session.run("next_id(); nowhere()").outcome.status.is_err());
    assert_eq!(session.result_of("next_id()"), "11");
}

#[test]
fn every_kind_of_static_is_kept() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, Once, OnceLock, RwLock};
use std::sync::atomic::*;
#[derive(Clone, Debug, Default, PartialEq)]
struct Note { text: String, weight: u8 }
/// What was written.
pub static NOTES: Mutex<Vec<Note>> = Mutex::new(Vec::new());
static NAME: OnceLock<String> = OnceLock::new();
#[allow(dead_code)]
static TABLE: LazyLock<RwLock<HashMap<String, Note>>> = LazyLock::new(|| {
    println!(\"made\");
    RwLock::new(HashMap::new())
});
static mut RAW: [u32; 2] = [0; 2];
static ONCE: Once = Once::new();
static FLAG: AtomicBool = AtomicBool::new(false);
pub(crate) static BOXED: Mutex<Option<Box<dyn Fn(u8) -> u8 + Send>>> = Mutex::new(None);
static LAST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
fn note(text: &str) -> usize {
    let mut notes = NOTES.lock().unwrap();
    notes.push(Note { text: text.to_owned(), weight: 1 });
    notes.len()
}",
    );
    assert_eq!(session.result_of("note(\"a\")"), "1");
    assert_eq!(session.result_of("note(\"b\")"), "2");
    assert_eq!(
        session.result_of(
            "NOTES.lock().unwrap().iter().map(|note| note.text.as_str()).collect::<String>()"
        ),
        "\"ab\""
    );
    assert_eq!(
        session.result_of("NAME.get_or_init(|| \"first\".to_owned())"),
        "\"first\""
    );
    assert_eq!(
        session.result_of("NAME.get_or_init(|| \"second\".to_owned())"),
        "\"first\""
    );
    assert_eq!(
        printed(
            &mut session,
            "TABLE.write().unwrap().insert(\"x\".to_owned(), Note::default());"
        ),
        "made"
    );
    assert_eq!(session.result_of("TABLE.read().unwrap().len()"), "1");
    define(&mut session, "unsafe { RAW[1] += 7 }");
    assert_eq!(
        session.result_of("unsafe { RAW[1] += 1; *(&raw const RAW) }"),
        "[0, 8]"
    );
    assert_eq!(
        printed(&mut session, "ONCE.call_once(|| println!(\"once\"))"),
        "once"
    );
    assert_eq!(
        printed(&mut session, "ONCE.call_once(|| println!(\"twice\"))"),
        ""
    );
    define(&mut session, "FLAG.store(true, Ordering::Relaxed);");
    assert_eq!(session.result_of("FLAG.load(Ordering::Relaxed)"), "true");
    define(
        &mut session,
        "*BOXED.lock().unwrap() = Some(Box::new(|x| x + 1));",
    );
    assert_eq!(
        session.result_of("BOXED.lock().unwrap().as_ref().unwrap()(4)"),
        "5"
    );
    assert_eq!(
        session.result_of("let text: &'static OnceLock<String> = &NAME; text.get().unwrap().len()"),
        "5"
    );
}

#[test]
fn statics_are_kept_wherever_they_stand() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
fn one() -> u32 { static N: AtomicU32 = AtomicU32::new(0); N.fetch_add(1, Relaxed) + 1 }
fn generic<T: Default>() -> u32 { static N: AtomicU32 = AtomicU32::new(100); N.fetch_add(1, Relaxed) + 1 }
mod shapes {
    use std::sync::atomic::*;
    pub static MADE: AtomicU32 = AtomicU32::new(0);
    pub mod inner {
        pub(in super::super) fn bump() -> u32 {
            static N: std::sync::atomic::AtomicU32 =
                std::sync::atomic::AtomicU32::new(
                    200, // from here
                );
            super::MADE.fetch_add(10, super::Ordering::Relaxed);
            N.fetch_add(1, super::Ordering::Relaxed) + 1
        }
    }
}
struct Counter;
impl Counter {
    fn bump(&self) -> u32 {
        static N: AtomicU32 = AtomicU32::new(300);
        let more = || { static N: AtomicU32 = AtomicU32::new(0); N.fetch_add(1, Relaxed) };
        more();
        N.fetch_add(1, Relaxed) + more()
    }
}
trait Bump { fn bumped(&self) -> u32 { static N: AtomicU32 = AtomicU32::new(400); N.fetch_add(1, Relaxed) + 1 } }
impl Bump for Counter {}
impl Bump for u8 { fn bumped(&self) -> u32 { static N: AtomicU32 = AtomicU32::new(500); N.fetch_add(1, Relaxed) + 1 } }
static ALIAS: &AtomicU32 = { static HIDDEN: AtomicU32 = AtomicU32::new(600); &HIDDEN };
const fn shared() -> &'static AtomicU32 { static N: AtomicU32 = AtomicU32::new(700); &N }",
    );
    let cell = "println!(\"{} {} {} {} {} {} {} {} {}\", one(), generic::<u8>(), generic::<String>(), shapes::inner::bump(), Counter.bump(),
        Counter.bumped(), 1u8.bumped(), ALIAS.fetch_add(1, Relaxed) + 1, shared().fetch_add(1, Relaxed) + 1);";
    assert_eq!(
        printed(&mut session, cell),
        "1 101 102 201 301 401 501 601 701"
    );
    assert_eq!(
        printed(&mut session, cell),
        "2 103 104 202 304 402 502 602 702"
    );
    assert_eq!(session.result_of("shapes::MADE.load(Relaxed)"), "20");
}

#[test]
fn a_thread_local_is_one_for_each_thread() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::cell::{Cell, RefCell};
mod random {
    use std::cell::*;
    thread_local! {
        /// The seed.
        pub static SEED: Cell<u64> = const { Cell::new(1) };
        #[allow(dead_code)]
        static LOG: RefCell<Vec<u64>> = RefCell::new(Vec::new())
    }
    pub fn roll() -> u64 {
        SEED.set(SEED.get() * 5 % 97);
        LOG.with_borrow_mut(|log| log.push(SEED.get()));
        SEED.get()
    }
    pub fn log() -> Vec<u64> { LOG.with_borrow(Clone::clone) }
}
fn calls() -> u32 {
    std::thread_local!(static CALLS: Cell<u32> = Cell::new(0));
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}
fn of(key: &'static std::thread::LocalKey<Cell<u64>>) -> u64 { key.with(|value| value.get()) }",
    );
    assert_eq!(session.result_of("random::roll()"), "5");
    assert_eq!(session.result_of("random::roll()"), "25");
    assert_eq!(
        session.result_of("random::SEED.get() + of(&random::SEED)"),
        "50"
    );
    assert_eq!(
        session.result_of("std::thread::spawn(|| random::roll()).join().unwrap()"),
        "5"
    );
    assert_eq!(session.result_of("random::log()"), "[5, 25]");
    assert_eq!(session.result_of("calls() * 10 + calls()"), "12");
    assert_eq!(session.result_of("calls()"), "3");
}

#[test]
fn a_thread_that_still_runs_sees_the_same_static() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::sync::{Condvar, Mutex};
static STEP: Mutex<u32> = Mutex::new(0);
static MOVED: Condvar = Condvar::new();
fn await_step(wanted: u32) {
    let mut step = STEP.lock().unwrap();
    while *step < wanted { step = MOVED.wait(step).unwrap(); }
}
fn go(step: u32) { *STEP.lock().unwrap() = step; MOVED.notify_all(); }",
    );
    define(
        &mut session,
        "let worker = std::thread::spawn(|| { await_step(1); go(2); 7 });",
    );
    define(&mut session, "go(1);");
    assert_eq!(
        session.result_of("await_step(2); worker.join().unwrap()"),
        "7"
    );
}

#[test]
fn a_static_defined_again_begins_anew_and_says_so() {
    let mut session = TestSession::start();
    // Nobody has used it: nothing begins anew.
    define(&mut session, COUNTER);
    define(&mut session, COUNTER);
    assert_eq!(session.result_of("next_id() + next_id()"), "3");
    // Another value, and the same text once more.
    let changed = COUNTER.replace("new(0)", "new(10)");
    for cell in [changed.as_str(), COUNTER, COUNTER] {
        let told = notes(&mut session, cell);
        assert_eq!(
            told,
            ["`CALLS` begins anew: this cell defines it again."],
            "{cell}"
        );
        let first = if cell == changed { "11" } else { "1" };
        assert_eq!(session.result_of("next_id()"), first);
        assert_eq!(
            session.result_of("next_id()").parse::<u8>().unwrap(),
            first.parse::<u8>().unwrap() + 1
        );
    }
    // A cell that does not compile defines nothing.
    let run = session.run(&format!("{COUNTER}\nnowhere()"));
    assert!(
        run.outcome.status.is_err() && !stream(&run, StreamName::Stderr).contains("anew"),
        "{run:?}"
    );
    assert_eq!(session.result_of("next_id()"), "3");
    // A function with statics in it, and a cell that defines and uses at once.
    let function = "fn step() -> usize { static N: AtomicUsize = AtomicUsize::new(0); N.fetch_add(1, Ordering::Relaxed) }
static SUM: AtomicUsize = AtomicUsize::new(0);
SUM.fetch_add(step(), Ordering::Relaxed);
println!(\"{}\", step());";
    assert_eq!(printed(&mut session, function), "1");
    assert_eq!(session.result_of("step()"), "2");
    let run = session.run(function);
    assert_eq!(stream(&run, StreamName::Stdout), "1\n");
    assert_eq!(
        stream(&run, StreamName::Stderr).trim_end(),
        "`N` in `step`, `SUM` begin anew: this cell defines them again."
    );
    // What no one can change needs no word.
    define(
        &mut session,
        "static NAMES: [&str; 2] = [\"a\", \"b\"];\nNAMES[0];",
    );
    define(
        &mut session,
        "static NAMES: [&str; 2] = [\"a\", \"b\"];\nNAMES[0];",
    );
}

#[test]
fn a_static_whose_type_is_defined_again_begins_anew_and_says_so() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::sync::Mutex;\n#[derive(Debug, Clone)]\nstruct P { x: u8 }\ntype Points = Vec<P>;\nconst SIZE: usize = 2;",
    );
    define(
        &mut session,
        "static ALL: Mutex<Points> = Mutex::new(Vec::new());\nstatic GRID: Mutex<[u8; SIZE]> = Mutex::new([0; SIZE]);\nstatic OTHER: Mutex<u8> = Mutex::new(0);",
    );
    define(
        &mut session,
        "ALL.lock().unwrap().push(P { x: 1 });\n*OTHER.lock().unwrap() += 1;\nGRID.lock().unwrap()[1] = 3;",
    );
    assert_eq!(
        session.result_of("(ALL.lock().unwrap().len(), *OTHER.lock().unwrap())"),
        "(1, 1)"
    );
    let told = notes(
        &mut session,
        "#[derive(Debug, Clone)]\nstruct P { x: u8, y: [u64; 9] }",
    );
    assert_eq!(
        told,
        ["`ALL` begins anew: this cell changes `Points`, which its type mentions."]
    );
    assert_eq!(
        session.result_of("ALL.lock().unwrap().push(P { x: 1, y: [2; 9] }); (ALL.lock().unwrap().clone(), *OTHER.lock().unwrap())"),
        "([P { x: 1, y: [2, 2, 2, 2, 2, 2, 2, 2, 2] }], 1)"
    );
    let told = notes(&mut session, "const SIZE: usize = 400;");
    assert_eq!(
        told,
        ["`GRID` begins anew: this cell changes `SIZE`, which its type mentions."]
    );
    assert_eq!(
        session.result_of("GRID.lock().unwrap()[399] += 1; GRID.lock().unwrap().len()"),
        "400"
    );
    // What an import means can change as well.
    define(
        &mut session,
        "use std::cell::Cell as Inner;\nstruct Sync2<T>(T);\nunsafe impl<T> Sync for Sync2<T> {}\nstatic HELD: Sync2<Inner<u8>> = Sync2(Inner::new(3));",
    );
    assert_eq!(session.result_of("HELD.0.get()"), "3");
    let told = notes(&mut session, "use std::cell::RefCell as Inner;");
    assert_eq!(
        told,
        ["`HELD` begins anew: this cell changes `Inner`, which its type mentions."]
    );
}

#[test]
fn what_a_static_begins_with_may_change_until_it_is_used() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::sync::LazyLock;\nfn first() -> u8 { 1 }\nstatic VALUE: LazyLock<u8> = LazyLock::new(|| first());",
    );
    assert_eq!(session.result_of("1 + 1"), "2");
    define(&mut session, "fn first() -> u8 { 5 }");
    assert_eq!(session.result_of("*VALUE"), "5");
    define(&mut session, "fn first() -> u8 { 9 }");
    assert_eq!(session.result_of("*VALUE"), "5");
}

#[test]
fn statics_end_with_their_process() {
    let mut session = TestSession::start();
    define(&mut session, COUNTER);
    assert_eq!(session.result_of("next_id() + next_id()"), "3");
    session.run(":restart");
    assert_eq!(session.result_of("next_id()"), "1");
    assert_eq!(session.result_of("next_id()"), "2");
    let run = session.run("next_id(); std::process::abort()");
    let report = run.outcome.status.unwrap_err().traceback.join("\n");
    assert!(report.contains("`CALLS` begins anew"), "{report}");
    assert_eq!(session.result_of("next_id()"), "1");
    session.run(":env SOME=thing");
    assert_eq!(session.result_of("next_id()"), "1");
    session.run(":clear");
    define(&mut session, COUNTER);
    assert_eq!(session.result_of("next_id()"), "1");
    assert_eq!(session.result_of("next_id()"), "2");
}

#[test]
fn a_cell_that_was_stopped_has_counted_and_one_that_never_ran_has_not() {
    let mut session = TestSession::start();
    define(&mut session, COUNTER);
    let (run, _) = session.run_interrupted(
        "next_id(); println!(\"on\"); loop { std::hint::spin_loop() }",
        1,
    );
    assert!(run.outcome.status.is_err(), "{run:?}");
    assert_eq!(session.result_of("next_id()"), "2");
}

#[test]
fn data_that_is_read_at_compile_time_is_read_in_later_cells_too() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "struct Config { size: usize }
static LIMIT: usize = 3;
mod settings { pub static CONFIG: super::Config = super::Config { size: 2 }; }
static NEXT: usize = LIMIT + settings::CONFIG.size;
const TABLE: [u8; LIMIT] = [1; LIMIT];",
    );
    for _ in 0..2 {
        assert_eq!(
            session.result_of("(NEXT, TABLE.len(), LIMIT, settings::CONFIG.size)"),
            "(5, 3, 3, 2)"
        );
    }
    let place = "&raw const LIMIT as usize";
    assert_eq!(
        session.result_of("static ALONE: u8 = 1;\n&raw const ALONE as usize"),
        session.result_of("&raw const ALONE as usize")
    );
    session.result_of(place);
}

#[test]
fn errors_and_panics_stand_where_the_user_wrote_them() {
    let mut session = TestSession::start();
    define(&mut session, "1;");
    let text = |run: &Run| match &run.outcome.status {
        Err(error) => console::strip_ansi_codes(&error.traceback.join("\n")).into_owned(),
        Ok(()) => panic!("{run:?}"),
    };
    let cell = "fn fails() { static N: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0); let x: u8 = \"text\"; }\nfails()";
    let run = text(&session.run(cell));
    let column = cell.find("\"text\"").unwrap() + 1;
    assert!(
        run.contains(&format!("cell:1:{column}")) && !run.contains("glassbox_static"),
        "{run}"
    );
    let cell = "fn fails() { static N: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0); panic!(\"here\") }\nfails()";
    let run = text(&session.run(cell));
    let column = cell.find("panic!").unwrap() + 1;
    assert!(run.contains(&format!("cell:1:{column}")), "{run}");
    // The compiler's words are those for the static that the user wrote.
    define(&mut session, "static mut RAW: u8 = 0;");
    define(&mut session, "unsafe { RAW += 1 }");
    let run = text(&session.run("RAW += 1;"));
    assert!(
        run.contains("mutable static") && !run.contains("extern"),
        "{run}"
    );
    // And a static may be wrong in itself.
    let run = text(&session.run("static WRONG: Nowhere = 1;\n1"));
    assert!(
        run.contains("cannot find type `Nowhere`") && run.contains("cell:1:15"),
        "{run}"
    );
}

#[test]
fn symbols_of_the_users_own_are_kept() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
#[unsafe(no_mangle)]
pub static MY_COUNT: AtomicU32 = AtomicU32::new(0);
#[unsafe(export_name = \"my_other\")] static OTHER: AtomicU32 = AtomicU32::new(5);
unsafe extern \"C\" { static environ: *const *const u8; }
mod found { unsafe extern \"C\" { pub(super) static MY_COUNT: std::sync::atomic::AtomicU32; } }
#[unsafe(no_mangle)]
pub extern \"C\" fn my_count() -> u32 { MY_COUNT.fetch_add(1, Relaxed) }",
    );
    assert_eq!(
        session.result_of(
            "unsafe { my_count() + found::MY_COUNT.load(Relaxed) + OTHER.fetch_add(1, Relaxed) }"
        ),
        "6"
    );
    assert_eq!(
        session.result_of(
            "unsafe { my_count() + found::MY_COUNT.load(Relaxed) + OTHER.fetch_add(1, Relaxed) }"
        ),
        "9"
    );
    assert_eq!(session.result_of("unsafe { environ.is_null() }"), "false");
    // A function under a symbol that an earlier library has too is the new one.
    define(
        &mut session,
        "#[unsafe(no_mangle)]\npub extern \"C\" fn my_count() -> u32 { 40 }",
    );
    assert_eq!(session.result_of("my_count()"), "40");
    let told = notes(
        &mut session,
        "#[unsafe(export_name = \"my_other\")] static OTHER: AtomicU32 = AtomicU32::new(9);",
    );
    assert_eq!(told, ["`OTHER` begins anew: this cell defines it again."]);
    assert_eq!(session.result_of("OTHER.fetch_add(1, Relaxed)"), "9");
    assert_eq!(session.result_of("OTHER.fetch_add(1, Relaxed)"), "10");
}

#[test]
fn a_large_session_compiles_what_a_cell_needs_and_keeps_its_statics() {
    let mut session = TestSession::start();
    let filler: String = (0..80).map(|n| format!("fn filler_{n}() -> usize {{ static N: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new({n}); N.fetch_add(1, std::sync::atomic::Ordering::Relaxed) }}\n")).collect();
    define(&mut session, &filler);
    define(&mut session, COUNTER);
    assert_eq!(session.result_of("next_id()"), "1");
    assert_eq!(session.result_of("filler_7() + next_id()"), "9");
    assert_eq!(session.result_of("filler_7() * 100 + next_id()"), "803");
}

/// A crate in a folder, and the command that adds it.
fn krate(folder: &Path, name: &str, code: &str) -> String {
    let folder = folder.join(name);
    let source = folder.join("src");
    std::fs::create_dir_all(&source).unwrap();
    let manifest =
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(source.join("lib.rs"), code).unwrap();
    format!(
        ":dep {name} = {{ path = {:?} }}\n",
        folder.display().to_string()
    )
}

/// What `lazy_static!` makes, in short.
const LAZY: &str = "pub trait LazyStatic { fn initialize(lazy: &Self); }
pub fn initialize<T: LazyStatic>(lazy: &T) { LazyStatic::initialize(lazy) }
#[macro_export]
macro_rules! lazy_static {
    ($($(#[$a:meta])* $v:vis static ref $n:ident : $t:ty = $e:expr;)*) => {$(
        #[allow(non_camel_case_types)] $v struct $n { __private_field: () }
        $v static $n: $n = $n { __private_field: () };
        impl ::std::ops::Deref for $n {
            type Target = $t;
            fn deref(&self) -> &$t {
                static LAZY: ::std::sync::OnceLock<$t> = ::std::sync::OnceLock::new();
                LAZY.get_or_init(|| $e)
            }
        }
        impl $crate::LazyStatic for $n { fn initialize(lazy: &Self) { let _ = &**lazy; } }
    )*};
}
";

#[test]
fn a_session_with_crates_keeps_its_statics() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    define(&mut session, COUNTER);
    assert_eq!(session.result_of("next_id()"), "1");
    let added = krate(
        folder.path(),
        "tally",
        "#[derive(Debug, Default)]\npub struct Tally { pub marks: Vec<u8> }\n",
    ) + &krate(folder.path(), "lazy_static", LAZY);
    let run = session.run(&added);
    assert!(run.outcome.status.is_ok(), "{run:?}");
    define(
        &mut session,
        "use std::sync::Mutex;\nstatic TALLY: Mutex<tally::Tally> = Mutex::new(tally::Tally { marks: Vec::new() });\nmod own { thread_local! { pub static N: std::cell::Cell<u8> = const { std::cell::Cell::new(0) } } }",
    );
    for wanted in ["2", "3"] {
        assert_eq!(
            session.result_of(
                "TALLY.lock().unwrap().marks.push(1); own::N.set(own::N.get() + 1); next_id()"
            ),
            wanted
        );
    }
    assert_eq!(
        session.result_of("(TALLY.lock().unwrap().marks.len(), own::N.get())"),
        "(2, 2)"
    );
    define(
        &mut session,
        "use lazy_static::lazy_static;
lazy_static! {
    /// What was said.
    pub static ref SAID: Mutex<Vec<&'static str>> = { println!(\"made\"); Mutex::new(vec![]) };
    static ref SIZE: usize = SAID.lock().unwrap().len();
}
fn say(text: &'static str) -> usize { SAID.lock().unwrap().push(text); SAID.lock().unwrap().len() }",
    );
    assert_eq!(
        printed(&mut session, "println!(\"{}\", say(\"a\"));"),
        "made\n1"
    );
    assert_eq!(
        printed(
            &mut session,
            "lazy_static::initialize(&SAID); println!(\"{} {}\", say(\"b\"), *SIZE);"
        ),
        "2 2"
    );
    assert_eq!(
        printed(&mut session, "println!(\"{} {}\", say(\"c\"), *SIZE);"),
        "3 2"
    );
    // And where the user asks for a native library, which needs the system's linker.
    let native = "#[link(name = \"m\")] unsafe extern \"C\" { safe fn cos(x: f64) -> f64; }\nstatic LAST: Mutex<f64> = Mutex::new(0.0);\n*LAST.lock().unwrap() = cos(0.0);";
    define(&mut session, native);
    assert_eq!(
        session.result_of("*LAST.lock().unwrap() + next_id() as f64"),
        "5.0"
    );
}

#[test]
fn statics_that_macros_hide_are_told() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::sync::atomic::*;
macro_rules! count { () => {{ static HITS: AtomicU8 = AtomicU8::new(0); HITS.fetch_add(1, Ordering::Relaxed) + 1 }} }
fn hit() -> u8 { count!() }",
    );
    let told = notes(&mut session, "hit();");
    assert_eq!(
        told,
        [
            "`hit::HITS` begins anew in every cell: a macro makes it; a static that is written out is kept."
        ]
    );
    define(&mut session, "hit();");
}

#[test]
fn an_exported_program_has_plain_statics() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    define(&mut session, COUNTER);
    assert_eq!(session.result_of("next_id()"), "1");
    let file = folder.path().join("out/src/main.rs");
    session.run(&format!(":export {}", folder.path().join("out").display()));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("static CALLS: AtomicUsize = AtomicUsize::new(0);")
            && !text.contains("glassbox_static"),
        "{text}"
    );
}

#[test]
fn a_thread_local_at_the_top_of_a_cell_is_one_for_all_cells() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::cell::Cell;
thread_local! { static SEED: Cell<u64> = const { Cell::new(1) }; pub static OTHER: Cell<u8> = Cell::new(7) }
fn roll() -> u64 { SEED.set(SEED.get() * 5 % 97); SEED.get() }",
    );
    assert_eq!(session.result_of("roll()"), "5");
    assert_eq!(session.result_of("roll()"), "25");
    assert_eq!(
        session.result_of("SEED.get() + u64::from(OTHER.replace(1))"),
        "32"
    );
    assert_eq!(session.result_of("OTHER.get()"), "1");
    let told = notes(
        &mut session,
        "thread_local! { static SEED: Cell<u64> = const { Cell::new(2) }; pub static OTHER: Cell<u8> = Cell::new(7) }",
    );
    assert_eq!(
        told,
        ["`SEED`, `OTHER` begin anew: this cell defines them again."]
    );
    assert_eq!(session.result_of("roll()"), "10");
}

#[test]
fn statics_that_a_macro_of_the_session_makes_are_kept() {
    let mut session = TestSession::start();
    define(
        &mut session,
        "use std::sync::atomic::*;
use std::cell::Cell;
macro_rules! counter { ($n:ident, $from:expr) => { pub static $n: AtomicUsize = AtomicUsize::new($from); } }
macro_rules! local { ($n:ident: $t:ty = $v:expr) => { thread_local! { static $n: Cell<$t> = const { Cell::new($v) } } } }
counter!(HITS, 3);
local!(SEED: u64 = 1);
fn hit() -> usize { SEED.set(SEED.get() * 5); HITS.fetch_add(1, Ordering::Relaxed) + 1 }",
    );
    assert_eq!(session.result_of("hit()"), "4");
    assert_eq!(session.result_of("hit()"), "5");
    assert_eq!(
        session.result_of("(HITS.load(Ordering::Relaxed), SEED.get())"),
        "(5, 25)"
    );
    let told = notes(&mut session, "counter!(HITS, 3);");
    assert_eq!(told, ["`HITS` begins anew: this cell defines it again."]);
    assert_eq!(session.result_of("(hit(), SEED.get())"), "(4, 125)");
}
