//! Crates in cells: those that `:dep` adds are one shared library of the session, those of the prelude are there by name, and what cargo
//! can't do changes nothing. Only small crates are built; those that are not made here are in the project's own lock file.

mod session_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use glassbox::session::{CellErrorKind, Event};
use session_support::{TestSession, ok};

/// Why a cell was refused.
fn refused(session: &mut TestSession, code: &str) -> String {
    let run = session.run(code);
    let error = run.outcome.status.expect_err("the cell is refused");
    let text = format!("{}\n{}", error.evalue, error.traceback.join("\n"));
    text.chars().filter(|c| *c != '\u{1b}').collect()
}

/// Writes a package; returns the line that adds it.
fn package(root: &Path, name: &str, manifest: &str, source: &str) -> String {
    let dir: PathBuf = root.join(name);
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(
        dir.join("Cargo.toml"),
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{manifest}"
        ),
    )
    .unwrap();
    fs::write(dir.join("src/lib.rs"), source).unwrap();
    format!(
        ":dep {name} = {{ path = {:?} }}\n",
        dir.display().to_string()
    )
}

const COUNTER: &str = "use std::cell::Cell;\nuse std::sync::atomic::{AtomicUsize, Ordering};\n\
    static CALLS: AtomicUsize = AtomicUsize::new(0);\n\
    thread_local! { static HERE: Cell<usize> = const { Cell::new(0) }; }\n\
    pub fn next() -> usize { CALLS.fetch_add(1, Ordering::Relaxed) + 1 }\n\
    #[inline(always)] pub fn here() -> usize { HERE.with(|here| { here.set(here.get() + 1); here.get() }) }\n\
    #[derive(Debug, Clone)] pub struct Mark(pub usize);\n\
    pub fn mark() -> Mark { Mark(next()) }\n";

#[test]
fn a_static_of_an_added_crate_is_one_for_all_cells() {
    let root = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    let add = package(root.path(), "gb_counter", "", COUNTER);
    assert_eq!(
        session.result_of(&format!("{add}(gb_counter::next(), gb_counter::here())")),
        "(1, 1)"
    );
    assert_eq!(
        session.result_of("(gb_counter::next(), gb_counter::here())"),
        "(2, 2)"
    );
    ok(&mut session, "fn again() -> usize { gb_counter::next() }");
    assert_eq!(session.result_of("again()"), "3");
    ok(&mut session, ":restart");
    assert_eq!(session.result_of("again()"), "1");
}

#[test]
fn a_later_dep_loses_nothing_of_an_earlier_one() {
    let root = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    let counter = package(root.path(), "gb_first", "", COUNTER);
    let on_it = format!(
        "[dependencies]\ngb_first = {{ path = {:?} }}\n",
        root.path().join("gb_first").display().to_string()
    );
    let second = package(
        root.path(),
        "gb_second",
        &on_it,
        "pub fn both() -> usize { gb_first::next() }",
    );
    ok(
        &mut session,
        &format!("{counter}let mark = gb_first::mark();"),
    );
    let said = ok(
        &mut session,
        &format!("{second}let more = gb_second::both();"),
    );
    assert_eq!(said, "");
    assert_eq!(
        session.result_of("(more, mark.0, gb_first::next(), gb_second::both())"),
        "(2, 1, 3, 4)"
    );
    // Nothing to do.
    assert_eq!(ok(&mut session, &counter), "");
    assert_eq!(session.result_of("gb_first::next()"), "5");
}

#[test]
fn a_crate_whose_files_changed_is_built_anew_and_says_what_goes() {
    let root = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    let add = package(root.path(), "gb_edited", "", COUNTER);
    ok(
        &mut session,
        &format!("{add}let mark = gb_edited::mark(); let kept = gb_edited::next();"),
    );
    let changed = COUNTER
        .replace("+ 1 }", "+ 100 }")
        .replace("pub usize", "pub u8, pub usize");
    package(
        root.path(),
        "gb_edited",
        "",
        &changed.replace("Mark(next())", "Mark(0, next())"),
    );
    let said = ok(&mut session, &add);
    assert!(
        said.contains("statics begin anew: `gb_edited`") && said.contains("`mark` is not kept"),
        "{said}"
    );
    assert_eq!(session.result_of("(gb_edited::next(), kept)"), "(100, 2)");
    assert_eq!(session.result_of("gb_edited::mark()"), "Mark(0, 101)");
    let why = refused(&mut session, "mark");
    assert!(
        why.contains("went when `gb_edited` was built anew"),
        "{why}"
    );
}

#[test]
fn a_logger_s_level_is_seen_by_later_cells_and_by_the_prelude() {
    let mut session = TestSession::start();
    let said = ok(
        &mut session,
        ":dep log = \"0.4\"\n:dep once_cell = \"1\"\nlog::set_max_level(log::LevelFilter::Info);",
    );
    assert_eq!(said, "");
    assert_eq!(session.result_of("log::max_level()"), "Info");
    ok(
        &mut session,
        "let cell: once_cell::sync::OnceCell<u8> = once_cell::sync::OnceCell::new();\n\
         cell.set(3).unwrap();",
    );
    assert_eq!(
        session.result_of("(cell.get(), log::max_level())"),
        "(Some(3), Info)"
    );
}

#[test]
fn crates_of_the_prelude_are_there_by_their_names_and_are_its_own() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        "use rand::Rng;\n\
         use serde::{Serialize, Deserialize};\n\
         #[derive(Debug, Serialize, Deserialize)] struct Point { x: u8 }\n\
         let text = serde_json::to_string(&Point { x: 1 })?;\n\
         let roll = rand::rng().random_range(0..6);\n\
         let t: candle_core::Tensor = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;\n\
         let layer = candle_nn::ops::softmax(&t, 1)?;\n\
         let picture = image::RgbImage::new(2, 2);\n\
         let threads = rayon::current_num_threads();",
    );
    assert_eq!(session.result_of("text"), r#""{\"x\":1}""#);
    assert_eq!(
        session.result_of("glassbox_prelude::image::RgbImage::new(2, 2) == picture"),
        "true"
    );
    assert_eq!(session.result_of("let v: glassbox_prelude::serde_json::Value = serde_json::json!({\"a\": [1]}); v[\"a\"][0].as_u64()"), "Some(1)");
    // A module of the session is nearer.
    ok(
        &mut session,
        "mod image { pub fn name() -> &'static str { \"mine\" } }",
    );
    assert_eq!(session.result_of("image::name()"), "\"mine\"");
}

#[test]
fn an_added_crate_that_the_prelude_has_is_the_preludes_copy() {
    let root = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    let add = package(
        root.path(),
        "gb_serial",
        "[dependencies]\nserde = { version = \"1\", features = [\"derive\"] }\n",
        "#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)] pub struct Shape { pub sides: u8 }",
    );
    let said = ok(&mut session, &format!("{add}:dep serde = \"1\"\n"));
    assert_eq!(said, "");
    assert_eq!(
        session.result_of("serde_json::to_string(&gb_serial::Shape { sides: 3 })?"),
        r#""{\"sides\":3}""#
    );
    assert_eq!(
        session.result_of("fn is<T: serde::Serialize>(_: &T) -> bool { true }\nis(&glassbox_prelude::serde_json::json!(1))"),
        "true"
    );
}

#[test]
fn macros_features_names_and_build_scripts_work() {
    let root = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    let make = package(
        root.path(),
        "gb_macros",
        "[lib]\nproc-macro = true\n",
        "use proc_macro::TokenStream;\n#[proc_macro] pub fn seven(_: TokenStream) -> TokenStream { \"7u8\".parse().unwrap() }\n\
         #[proc_macro_derive(Name)] pub fn name(_: TokenStream) -> TokenStream { \"impl Thing { fn name() -> u8 { 9 } }\".parse().unwrap() }",
    );
    let featured = package(
        root.path(),
        "gb_featured",
        "[features]\nmore = []\n",
        "pub const BUILT: &str = env!(\"GB_BUILT\");\n#[cfg(feature = \"more\")] pub fn more() -> u8 { 8 }\n\
         #[macro_export] macro_rules! twice { ($e:expr) => { $crate::double($e) } }\npub fn double(n: u8) -> u8 { 2 * n }",
    );
    fs::write(
        root.path().join("gb_featured/build.rs"),
        "fn main() { println!(\"cargo::rustc-env=GB_BUILT=yes\"); }",
    )
    .unwrap();
    let renamed = featured.replace(":dep gb_featured", ":dep other").replace(
        "{ path",
        "{ package = \"gb_featured\", features = [\"more\"], path",
    );
    ok(&mut session, &format!("{make}{renamed}"));
    assert_eq!(
        session.result_of("(gb_macros::seven!(), other::more(), other::twice!(3), other::BUILT)"),
        "(7, 8, 6, \"yes\")"
    );
    assert_eq!(
        session.result_of("#[derive(gb_macros::Name)] struct Thing;\nThing::name()"),
        "9"
    );
}

#[test]
fn what_cargo_cannot_do_is_told_in_its_words_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    let add = package(root.path(), "gb_there", "", COUNTER);
    ok(&mut session, &format!("{add}let one = gb_there::next();"));
    let nowhere = format!(
        ":dep gb_gone = {{ path = {:?} }}",
        root.path().join("gone").display().to_string()
    );
    let why = refused(&mut session, &nowhere);
    assert!(
        why.contains("gb_gone") && why.contains("gone/Cargo.toml"),
        "{why}"
    );
    let why = refused(&mut session, ":dep gb_there = { path = 7 }");
    assert!(why.contains("gb_there"), "{why}");
    let broken = package(
        root.path(),
        "gb_broken",
        "",
        "pub fn f() -> u8 { \"text\" }",
    );
    let why = refused(&mut session, &broken);
    assert!(
        why.contains("mismatched types") && why.contains("gb_broken"),
        "{why}"
    );
    let program = package(root.path(), "gb_program", "", "");
    fs::rename(
        root.path().join("gb_program/src/lib.rs"),
        root.path().join("gb_program/src/main.rs"),
    )
    .unwrap();
    let why = refused(&mut session, &program);
    assert!(why.contains("gb_program"), "{why}");
    assert_eq!(session.result_of("(one, gb_there::next())"), "(1, 2)");
    assert!(session.result_of(":show_deps").lines().count() == 1);
}

#[test]
fn an_unknown_crate_is_proposed_as_a_dep() {
    let mut session = TestSession::start();
    for code in [
        "use gb_unknown::Thing;",
        "gb_unknown::f()",
        "use gb_unknown;",
    ] {
        let why = refused(&mut session, code);
        assert!(why.contains("`:dep gb_unknown`"), "{why}");
    }
    let why = refused(&mut session, "Unknown::f()");
    assert!(!why.contains(":dep"), "{why}");
}

#[test]
fn a_build_can_be_stopped_and_says_how_far_it_is() {
    let root = tempfile::tempdir().unwrap();
    let mut session = TestSession::start();
    let add = package(root.path(), "gb_quick", "", COUNTER);
    ok(&mut session, &format!("{add}let one = gb_quick::next();"));
    let slow = package(root.path(), "gb_slow", "", "");
    fs::write(
        root.path().join("gb_slow/build.rs"),
        "fn main() { std::thread::sleep(std::time::Duration::from_secs(120)); }",
    )
    .unwrap();
    let interrupter = session.session.interrupter();
    let stopped = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        interrupter.interrupt();
        Instant::now()
    });
    let run = session.run(&slow);
    let took = stopped.join().unwrap().elapsed();
    let error = run.outcome.status.as_ref().expect_err("it was stopped");
    assert_eq!(error.kind, CellErrorKind::Interrupted, "{run:#?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let told = run.events.iter().any(|event| match event {
        Event::Display(display) => display.plain().is_some_and(|text| !text.is_empty()),
        _ => false,
    });
    assert!(told, "{run:#?}");
    assert_eq!(session.result_of("(one, gb_quick::next())"), "(1, 2)");
    fs::remove_file(root.path().join("gb_slow/build.rs")).unwrap();
    ok(&mut session, &slow);
}

#[test]
fn two_sessions_can_add_crates_at_once() {
    let root = tempfile::tempdir().unwrap();
    let adds: Vec<String> = ["gb_left", "gb_right"]
        .iter()
        .map(|name| package(root.path(), name, "", COUNTER))
        .collect();
    let all = adds.concat();
    let threads = ["gb_left", "gb_right"].map(|name| {
        let all = all.clone();
        std::thread::spawn(move || {
            let mut session = TestSession::start();
            ok(&mut session, &all);
            session.result_of(&format!("{name}::next()"))
        })
    });
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "1");
    }
}

#[test]
fn a_tokio_runtime_of_one_cell_serves_later_ones() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        ":dep tokio = { version = \"1\", features = [\"rt-multi-thread\", \"time\", \"sync\", \"macros\"] }\n\
         let rt = tokio::runtime::Runtime::new()?;\n\
         let guard = Box::leak(Box::new(tokio::runtime::Runtime::new()?)).enter();",
    );
    ok(
        &mut session,
        "rt.block_on(async { tokio::time::sleep(std::time::Duration::from_millis(1)).await });\n\
         let task = tokio::spawn(async { 6 * 7 });",
    );
    // `.await` runs on one runtime of the session: what one cell spawns is there for the next.
    assert_eq!(session.result_of("task.await?"), "42");
    ok(
        &mut session,
        "let (send, mut receive) = tokio::sync::mpsc::channel::<u8>(1);\n\
         tokio::time::sleep(std::time::Duration::from_millis(1)).await;\n\
         let job = tokio::spawn(async move { tokio::time::sleep(std::time::Duration::from_millis(20)).await; send.send(5).await.is_ok() });",
    );
    assert_eq!(
        session.result_of("(receive.recv().await, job.await?)"),
        "(Some(5), true)"
    );
}
