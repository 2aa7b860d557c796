//! Items of cells: those that macros make, those of one name in two namespaces, and those that an edit leaves behind.

mod session_support;

use session_support::{TestSession, ok};

/// The report of a cell that fails.
fn failing(session: &mut TestSession, code: &str) -> String {
    let run = session.run(code);
    let error = run.outcome.status.expect_err(code);
    error.traceback.join("\n")
}

fn is_quiet(session: &mut TestSession, code: &str) {
    assert_eq!(ok(session, code), "", "{code}");
}

#[test]
fn items_that_a_macro_makes_are_seen_by_functions_and_later_cells() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "use std::cell::Cell;\nthread_local! { static SEED: Cell<u64> = const { Cell::new(7) }; static OTHER: Cell<u8> = const { Cell::new(1) } }\n\
         fn roll() -> u64 { SEED.with(|seed| seed.get() + u64::from(OTHER.get())) }",
    );
    assert_eq!(session.result_of("roll()"), "8");
    assert_eq!(session.result_of("SEED.get()"), "7");
    is_quiet(
        &mut session,
        "macro_rules! unit { ($n:ident) => { #[derive(Debug)] struct $n; } }\nunit!(Metre);",
    );
    assert_eq!(session.result_of("Metre"), "Metre");
    // However the call is written, and wherever it stands.
    is_quiet(
        &mut session,
        "unit![Litre];\nunit! { Gram }\nlet a = 1;\nunit!(Second)",
    );
    assert_eq!(
        session.result_of("(Litre, Gram, Second, a)"),
        "(Litre, Gram, Second, 1)"
    );
    // Functions, implementations, constants, statics, modules, and macros that make macros.
    is_quiet(
        &mut session,
        "macro_rules! make { ($n:ident, $t:ident) => {\n\
             fn $n() -> u8 { limits::TOP }\n\
             trait $t { fn twice(&self) -> Self; }\n\
             impl $t for u8 { fn twice(&self) -> u8 { self * 2 } }\n\
             mod limits { pub const TOP: u8 = 9; }\n\
             static GREETING: &str = \"hello\";\n\
             macro_rules! shout { ($e:expr) => { format!(\"{}!\", $e) } }\n\
         } }\n\
         make!(top, Twice);\n\
         fn loud() -> String { shout!(GREETING) }\n\
         top().twice()",
    );
    assert_eq!(
        session.result_of("(top(), 4u8.twice(), loud(), shout!(1))"),
        "(9, 8, \"hello!\", \"1!\")"
    );
    // Through another macro, and repeated.
    is_quiet(
        &mut session,
        "macro_rules! units { ($($n:ident),*) => { $( unit!($n); )* } }\nunits!(Volt, Watt);\nfn volt() -> Volt { Volt }",
    );
    assert_eq!(session.result_of("(volt(), Watt)"), "(Volt, Watt)");
    // What is handed on as tokens.
    is_quiet(
        &mut session,
        "macro_rules! same { ($($t:tt)*) => { $($t)* } }\nsame!(fn handed() -> u8 { 3 });\nsame!(println!(\"said\"));",
    );
    assert_eq!(session.result_of("handed()"), "3");
}

#[test]
fn a_macro_from_a_module_or_an_import_makes_items_too() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "mod kit { macro_rules! pair { ($a:ident $b:ident) => { pub struct $a(pub u8); impl $a { pub fn $b(&self) -> u8 { self.0 } } } }\n pub(crate) use pair; }\n\
         use kit::pair;",
    );
    is_quiet(&mut session, "pair! { Left get }\nkit::pair!(Right take);");
    is_quiet(&mut session, "let (left, right) = (Left(1), Right(2));");
    assert_eq!(session.result_of("left.get() + right.take()"), "3");
}

#[test]
fn calls_that_are_statements_stay_statements_and_keep_their_variables() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "macro_rules! set { ($n:ident = $e:expr) => { let mut $n = $e; let hidden = 1; } }\nset!(count = 4);\ncount += 1;",
    );
    assert_eq!(session.result_of("count"), "5");
    assert_eq!(session.result_of("{ count += 1; count }"), "6");
    let names = session.session.variables();
    let names: Vec<&str> = names
        .iter()
        .map(|variable| variable.name.as_str())
        .collect();
    assert_eq!(names, ["count"]);
    assert_eq!(
        session.result_of(
            "macro_rules! double { ($e:expr) => {{ let d = $e * 2; d }} }\ndouble!(count)"
        ),
        "12"
    );
    is_quiet(
        &mut session,
        "macro_rules! say { ($($t:tt)*) => { println!($($t)*) } }\nsay!(\"fn {}\", 1);",
    );
    assert_eq!(session.result_of("vec![1, 2]"), "[1, 2]");
    // The last of a cell, without a semicolon.
    is_quiet(
        &mut session,
        "macro_rules! vars { ($($n:ident = $e:expr);*) => { $( let $n = $e; )* } }\nvars! { one = 1; two = one + 1 }",
    );
    is_quiet(&mut session, "vars!(three = one + two)");
    assert_eq!(session.result_of("(one, two, three)"), "(1, 2, 3)");
    // A macro that makes both: what it defines ends with the cell, and that is said.
    let said = ok(
        &mut session,
        "macro_rules! both { () => { fn inner() -> u8 { 1 } println!(\"{}\", inner()); } }\nboth!();",
    );
    assert!(
        said.contains("`both!()`") && said.contains("ends with this cell"),
        "{said}"
    );
}

#[test]
fn a_call_that_makes_items_can_be_run_again_and_replaced() {
    let mut session = TestSession::start();
    let cell = "macro_rules! unit { ($n:ident, $v:expr) => { #[derive(Debug, Clone)] struct $n; impl $n { fn value(&self) -> i32 { $v } } impl Default for $n { fn default() -> $n { $n } } } }\nunit!(Metre, 1);";
    is_quiet(&mut session, cell);
    is_quiet(&mut session, cell);
    is_quiet(&mut session, "let metre = Metre::default();");
    assert_eq!(session.result_of("metre.value()"), "1");
    // The same name made by another call.
    let said = ok(&mut session, "unit!(Metre, 2);");
    assert!(said.contains("`metre` is lost"), "{said}");
    assert_eq!(session.result_of("Metre.value()"), "2");
    // The same call of another macro: other values than those that are kept.
    is_quiet(&mut session, "let metre = Metre;");
    let said = ok(
        &mut session,
        "macro_rules! unit { ($n:ident, $v:expr) => { #[derive(Debug)] struct $n(pub i32); impl $n { fn value(&self) -> i32 { self.0 } } } }",
    );
    assert!(said.contains("`metre` is lost"), "{said}");
    assert_eq!(session.result_of("Metre(5).value()"), "5");
    // Made by hand after all.
    is_quiet(&mut session, "#[derive(Debug)] struct Metre { x: u8 }");
    assert_eq!(session.result_of("Metre { x: 1 }"), "Metre { x: 1 }");
    // Of several names one is taken: the rest is not forgotten silently.
    is_quiet(
        &mut session,
        "macro_rules! checks { ($($n:ident => $e:expr),*) => { $( fn $n() -> bool { $e } )* } }\nchecks! { adds => 1 + 1 == 2, subtracts => 3 - 1 == 2 }",
    );
    let said = ok(&mut session, "checks! { adds => 1 + 1 == 3 }");
    assert!(
        said.contains("set aside") && said.contains("subtracts"),
        "{said}"
    );
    assert_eq!(session.result_of("adds()"), "false");
    is_quiet(
        &mut session,
        "macro_rules! two { () => { fn one() -> u8 { 1 } fn other() -> u8 { one() } } }\ntwo!();",
    );
    let said = ok(&mut session, "fn one() -> u8 { 11 }");
    assert!(
        said.contains("set aside") && said.contains("two!()"),
        "{said}"
    );
    assert_eq!(session.result_of("one()"), "11");
    let report = failing(&mut session, "other()");
    assert!(
        report.contains("two!()") && report.contains("`one` is defined anew"),
        "{report}"
    );
}

#[test]
fn a_cell_with_such_a_call_asks_the_compiler_once_more_only_the_first_time() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "macro_rules! unit { ($n:ident) => { struct $n; } }",
    );
    // Code that no earlier run of this test has left in the cache: what is kept there is not asked again.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap().as_nanos();
    ok(&mut session, &format!("unit!(Metre{now});"));
    let folder = session.result_of(":last_compile_dir");
    let asked = std::path::Path::new(&folder).join("glassbox/calls.rs");
    assert!(asked.is_file(), "{}", asked.display());
    std::fs::remove_file(&asked).unwrap();
    for cell in [
        format!("unit!(Metre{now});"),
        format!("println!(\"{now}\");"),
        format!("assert!({now} > 0_u128);\nvec![1]"),
        format!("fn f{now}() {{}}"),
        format!("let a = {now}_u128;"),
    ] {
        ok(&mut session, &cell);
        assert!(!asked.exists(), "{cell}");
    }
}

#[test]
fn one_name_in_two_namespaces_is_two_items() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "mod area { pub fn circle(r: f64) -> f64 { 3.0 * r * r } }",
    );
    is_quiet(&mut session, "fn area(r: f64) -> f64 { area::circle(r) }");
    assert_eq!(session.result_of("area(2.0) + area::circle(1.0)"), "15.0");
    is_quiet(&mut session, "use std::env;");
    is_quiet(&mut session, "fn env() -> u8 { 1 }");
    assert_eq!(
        session.result_of("env::args().count() > 0 && env() == 1"),
        "true"
    );
    // The other way round, and with a macro of the name.
    is_quiet(
        &mut session,
        "fn fmt() -> u8 { 2 }\nmacro_rules! fmt { () => { 3 } }",
    );
    is_quiet(&mut session, "use std::fmt;");
    assert_eq!(
        session.result_of("(fmt(), fmt!(), std::any::type_name::<fmt::Error>().len() > 0)"),
        "(2, 3, true)"
    );
    // A record is in one namespace, a unit or tuple struct in two.
    is_quiet(&mut session, "struct Point { x: i32 }");
    is_quiet(
        &mut session,
        "#[allow(non_snake_case)] fn Point(x: i32) -> Point { Point { x } }",
    );
    assert_eq!(session.result_of("Point(4).x"), "4");
    is_quiet(&mut session, "struct Point(u8);");
    assert_eq!(session.result_of("Point(5).0"), "5");
    is_quiet(
        &mut session,
        "const SIZE: usize = 3;\ntype SIZE_OF = [u8; SIZE];\ntrait Named { fn named(&self) -> u8; }",
    );
    is_quiet(
        &mut session,
        "#[allow(non_snake_case)] fn Named() -> u8 { 6 }\nimpl Named for u8 { fn named(&self) -> u8 { Named() } }",
    );
    assert_eq!(session.result_of("0u8.named()"), "6");
    // An import of all names gives way, as in Rust.
    is_quiet(
        &mut session,
        "#[derive(Debug)] enum Colour { Red, Green }\nuse Colour::*;",
    );
    is_quiet(&mut session, "#[derive(Debug)] struct Red;");
    assert_eq!(session.result_of("(Red, Green)"), "(Red, Green)");
}

#[test]
fn a_definition_replaces_what_rust_would_call_its_duplicate() {
    let mut session = TestSession::start();
    // An import and an item, both ways; an import and another.
    is_quiet(
        &mut session,
        "use std::collections::HashMap;\nuse std::mem::swap;",
    );
    is_quiet(
        &mut session,
        "#[derive(Debug)] struct HashMap(u8);\nfn swap() -> u8 { 1 }",
    );
    assert_eq!(session.result_of("(HashMap(2), swap())"), "(HashMap(2), 1)");
    is_quiet(
        &mut session,
        "use std::collections::BTreeMap as HashMap;\nuse std::mem::{size_of_val as swap};",
    );
    assert_eq!(
        session.result_of("(HashMap::from([(1, 2)]), swap(&1u8))"),
        "({1: 2}, 1)"
    );
    is_quiet(&mut session, "use std::collections::BTreeSet as HashMap;");
    assert_eq!(session.result_of("HashMap::from([1])"), "{1}");
    is_quiet(&mut session, "mod tools { pub fn one() -> u8 { 1 } }");
    is_quiet(&mut session, "use std::fmt as tools;");
    assert_eq!(session.result_of("tools::Error"), "Error");
    is_quiet(&mut session, "static LIMIT: u8 = 1;");
    is_quiet(&mut session, "const LIMIT: u8 = 2;");
    is_quiet(&mut session, "fn limit() -> u8 { LIMIT }");
    assert_eq!(session.result_of("limit()"), "2");
    // Within one cell a duplicate is an error, as in a program.
    let report = failing(&mut session, "fn f() -> u8 { 1 }\nfn f() -> u8 { 2 }");
    assert!(report.contains("E0428"), "{report}");
}

/// Asserts that a cell that needs what is set aside says what and why.
fn needs(session: &mut TestSession, code: &str, words: &[&str]) {
    let report = failing(session, code);
    assert!(
        report.contains("set aside until it fits again"),
        "{code}: {report}"
    );
    assert!(
        words.iter().all(|word| report.contains(word)),
        "{code}: {report}"
    );
}

#[test]
fn a_trait_that_grows_sets_its_implementations_aside_until_they_fit() {
    let mut session = TestSession::start();
    let shape = "trait Shape { fn area(&self) -> f64; }";
    let square = "#[derive(Debug)] struct Square(f64);\nimpl Shape for Square { fn area(&self) -> f64 { self.0 * self.0 } }";
    is_quiet(&mut session, shape);
    is_quiet(&mut session, square);
    is_quiet(
        &mut session,
        "let kept = 1;\nfn of_two() -> f64 { Square(2.0).area() }",
    );
    let said = ok(
        &mut session,
        "trait Shape { fn area(&self) -> f64; fn name(&self) -> String; }",
    );
    assert!(
        said.contains("set aside")
            && said.contains("`impl Shape for Square`")
            && said.contains("`name`"),
        "{said}"
    );
    // It is listed with the variables.
    let listed = format!("{:?}", session.run(":vars").events);
    assert!(
        listed.contains("`impl Shape for Square` is set aside until it fits again"),
        "{listed}"
    );
    // What needs it fails, and nothing else does.
    needs(
        &mut session,
        "Square(1.0).area()",
        &["impl Shape for Square", "missing: `name`"],
    );
    needs(&mut session, "of_two()", &["of_two"]);
    assert_eq!(session.result_of("(Square(1.0), kept)"), "(Square(1.0), 1)");
    let said = ok(
        &mut session,
        "impl Shape for Square { fn area(&self) -> f64 { self.0 * self.0 } fn name(&self) -> String { \"square\".into() } }",
    );
    assert!(
        said.contains("used again") && said.contains("of_two"),
        "{said}"
    );
    assert_eq!(
        session.result_of("(of_two(), Square(1.0).name())"),
        "(4.0, \"square\")"
    );
    // Back to the first form: the implementation has a method too many, then fits as it was.
    let said = ok(&mut session, shape);
    assert!(
        said.contains("set aside") && said.contains("`impl Shape for Square`"),
        "{said}"
    );
    let said = ok(&mut session, square);
    assert!(said.contains("of_two"), "{said}");
    assert_eq!(session.result_of("of_two()"), "4.0");
}

#[test]
fn what_is_set_aside_is_used_again_when_the_edit_is_taken_back() {
    let mut session = TestSession::start();
    let shape = "trait Shape { fn area(&self) -> f64; }";
    is_quiet(&mut session, shape);
    is_quiet(
        &mut session,
        "struct Square;\nimpl Shape for Square { fn area(&self) -> f64 { 1.0 } }",
    );
    ok(
        &mut session,
        "trait Shape { fn area(&self) -> f64; fn name(&self) -> String; }",
    );
    // A cell that has nothing to do with it asks for nothing and says nothing.
    is_quiet(&mut session, "fn elsewhere() {}");
    let said = ok(&mut session, shape);
    assert!(
        said.contains("used again") && said.contains("`impl Shape for Square`"),
        "{said}"
    );
    assert_eq!(session.result_of("Square.area()"), "1.0");
}

#[test]
fn an_enum_that_grows_sets_aside_the_match_that_lacks_the_variant() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "#[derive(Clone, Copy)] enum Light { Red, Green }",
    );
    is_quiet(
        &mut session,
        "fn word(light: Light) -> &'static str { match light { Light::Red => \"stop\", Light::Green => \"go\" } }",
    );
    is_quiet(
        &mut session,
        "fn twice(light: Light) -> String { word(light).repeat(2) }",
    );
    let said = ok(
        &mut session,
        "#[derive(Clone, Copy)] enum Light { Red, Green, Amber }",
    );
    assert!(
        said.contains("`fn word` (non-exhaustive patterns"),
        "{said}"
    );
    assert!(said.contains("`fn twice` (it needs `fn word`"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    needs(
        &mut session,
        "word(Light::Red)",
        &["`fn word`", "Light::Amber"],
    );
    needs(
        &mut session,
        "twice(Light::Red)",
        &["`fn twice`", "`fn word`", "Light::Amber"],
    );
    let said = ok(
        &mut session,
        "fn word(light: Light) -> &'static str { match light { Light::Red => \"stop\", _ => \"go\" } }",
    );
    assert!(
        said.contains("used again") && said.contains("`fn twice`"),
        "{said}"
    );
    assert_eq!(session.result_of("twice(Light::Amber)"), "\"gogo\"");
}

#[test]
fn an_implementation_made_generic_sets_the_one_that_it_covers_aside() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "trait Shape { fn sides(&self) -> u8; }\nstruct Square;",
    );
    is_quiet(
        &mut session,
        "impl Shape for Square { fn sides(&self) -> u8 { 4 } }",
    );
    let said = ok(
        &mut session,
        "impl<T> Shape for T { fn sides(&self) -> u8 { 0 } }",
    );
    assert!(
        said.contains("`impl Shape for Square` (conflicting implementations"),
        "{said}"
    );
    assert_eq!(session.result_of("(Square.sides(), 1u8.sides())"), "(0, 0)");
    // The newer one stays, whichever it is.
    let said = ok(
        &mut session,
        "impl Shape for Square { fn sides(&self) -> u8 { 4 } }",
    );
    assert!(
        said.contains("`impl<T> Shape for T` (conflicting implementations"),
        "{said}"
    );
    assert_eq!(session.result_of("Square.sides()"), "4");
    needs(&mut session, "1u8.sides()", &["impl<T> Shape for T"]);
}

#[test]
fn old_callers_of_what_changed_are_set_aside() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "#[derive(Debug, Clone)] struct Point { x: i32, y: i32 }\nconst SIZE: usize = 3;\nfn half(a: i32) -> i32 { a / 2 }\nmod tools { pub fn one() -> u8 { 1 } pub fn two() -> u8 { 2 } }",
    );
    is_quiet(
        &mut session,
        "use tools::two;\nfn sum(p: &Point) -> i32 { p.x + p.y }\nstatic TABLE: [u8; SIZE] = [1; SIZE];\nfn quarter(a: i32) -> i32 { half(half(a)) }\nfn three() -> u8 { tools::one() + two() }\n\
         #[derive(Debug, Clone)] struct Line { from: Point }\nimpl Line { fn start(&self) -> i32 { self.from.x } }\nlet other = 5;",
    );
    // A field less.
    let said = ok(
        &mut session,
        "#[derive(Debug, Clone)] struct Point { x: i32 }",
    );
    assert!(said.contains("`fn sum` (no field `y`"), "{said}");
    assert_eq!(
        session.result_of("Line { from: Point { x: 3 } }.start()"),
        "3"
    );
    // A derive less: what is made of it goes with all that is made of that.
    let said = ok(&mut session, "struct Point { x: i32 }");
    assert!(
        said.contains("`struct Line`") && said.contains("`impl Line` (it needs `struct Line`"),
        "{said}"
    );
    needs(
        &mut session,
        "Line { from: Point { x: 3 } }.start()",
        &["struct Line", "Point"],
    );
    let said = ok(
        &mut session,
        "#[derive(Debug, Clone)] struct Point { x: i32, y: i32 }",
    );
    assert!(
        ["`struct Line`", "`impl Line`", "`fn sum`"]
            .iter()
            .all(|item| said.contains(item)),
        "{said}"
    );
    assert_eq!(
        session.result_of("sum(&Line { from: Point { x: 3, y: 1 } }.from)"),
        "4"
    );
    // Another signature, another type of a constant, a function less in a module.
    let said = ok(&mut session, "fn half(a: f64) -> f64 { a / 2.0 }");
    assert!(said.contains("`fn quarter` (mismatched types"), "{said}");
    let said = ok(&mut session, "const SIZE: u8 = 3;");
    assert!(said.contains("`static TABLE`"), "{said}");
    let said = ok(&mut session, "mod tools { pub fn one() -> u8 { 10 } }");
    assert!(
        said.contains("`use tools::two`") && said.contains("`fn three`"),
        "{said}"
    );
    needs(&mut session, "three()", &["use tools::two"]);
    let said = ok(
        &mut session,
        "mod tools { pub fn one() -> u8 { 10 } pub fn two() -> u8 { 2 } }",
    );
    assert!(said.contains("used again"), "{said}");
    assert_eq!(session.result_of("three()"), "12");
    assert_eq!(
        session.result_of("half(1.0) + f64::from(SIZE) + f64::from(other)"),
        "8.5"
    );
    needs(
        &mut session,
        "quarter(4)",
        &["fn quarter", "mismatched types"],
    );
}

#[test]
fn what_a_macro_made_is_set_aside_by_its_call() {
    let mut session = TestSession::start();
    is_quiet(&mut session, "trait Unit { fn symbol() -> String; }");
    is_quiet(
        &mut session,
        "macro_rules! unit { ($n:ident) => { struct $n; impl Unit for $n { fn symbol() -> String { stringify!($n).into() } } } }\nunit!(Metre);\nunit!(Litre);",
    );
    assert_eq!(session.result_of("Metre::symbol()"), "\"Metre\"");
    let said = ok(
        &mut session,
        "trait Unit { fn symbol() -> String; fn factor() -> f64; }",
    );
    assert!(
        said.contains("`unit!(Metre)`") && said.contains("`unit!(Litre)`"),
        "{said}"
    );
    needs(&mut session, "Metre::symbol()", &["unit!(Metre)"]);
    // The macro is mended; its calls follow.
    let said = ok(
        &mut session,
        "macro_rules! unit { ($n:ident) => { struct $n; impl Unit for $n { fn symbol() -> String { stringify!($n).into() } fn factor() -> f64 { 2.0 } } } }",
    );
    assert!(
        said.contains("used again") && said.contains("`unit!(Metre)`"),
        "{said}"
    );
    assert_eq!(
        session.result_of("(Metre::symbol(), Litre::factor())"),
        "(\"Metre\", 2.0)"
    );
}

#[test]
fn errors_in_the_cell_itself_are_its_own_and_change_nothing() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "trait Shape { fn area(&self) -> f64; }\nstruct Square;",
    );
    is_quiet(
        &mut session,
        "impl Shape for Square { fn area(&self) -> f64 { 1.0 } }\nfn area_of(s: &Square) -> f64 { s.area() }\nfn checked<const N: usize>() -> usize { const { assert!(N > 1) }; N }\nmacro_rules! first { ($e:expr) => { $e[0] } }",
    );
    // An edit that is wrong itself.
    let report = failing(
        &mut session,
        "trait Shape { fn area(&self) -> f64; fn name(&self) -> Strin; }",
    );
    assert!(
        report.contains("Strin") && !report.contains("set aside"),
        "{report}"
    );
    assert_eq!(session.result_of("area_of(&Square)"), "1.0");
    // An implementation with a method that the trait lacks.
    let report = failing(
        &mut session,
        "impl Shape for Square { fn area(&self) -> f64 { 2.0 } fn name(&self) -> u8 { 1 } }",
    );
    assert!(report.contains("E0407"), "{report}");
    assert_eq!(session.result_of("area_of(&Square)"), "1.0");
    // Errors that rustc places in earlier items although the cell's use of them is wrong.
    let report = failing(&mut session, "checked::<1>()");
    assert!(!report.contains("set aside"), "{report}");
    let report = failing(&mut session, "first!(1)");
    assert!(
        report.contains("E0608") && !report.contains("set aside"),
        "{report}"
    );
    assert_eq!(session.result_of("checked::<2>() + first!([1])"), "3");
    // A type that is edited to derive what is implemented by hand, and the other way round.
    is_quiet(
        &mut session,
        "struct Hand;\nimpl Clone for Hand { fn clone(&self) -> Hand { Hand } }",
    );
    let said = ok(&mut session, "#[derive(Clone)] struct Hand;");
    assert!(
        said.contains("`impl Clone for Hand` (conflicting"),
        "{said}"
    );
    let report = failing(
        &mut session,
        "impl Clone for Hand { fn clone(&self) -> Hand { Hand } }",
    );
    assert!(report.contains("E0119"), "{report}");
}

#[test]
fn a_variable_whose_type_is_set_aside_waits_for_it() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "trait Shape {}\nimpl Shape for u8 {}\nstruct Held<T: Clone>(T);\n#[derive(Clone)] struct Part;\nfn make() -> Held<Part> { Held(Part) }",
    );
    is_quiet(
        &mut session,
        "fn check(a: u8) -> bool { a > 0 }\nstruct Flag { on: bool }\nimpl Flag { fn new() -> Flag { Flag { on: check(1) } } }\nlet flag = Flag::new();",
    );
    let said = ok(&mut session, "fn check(a: u8, b: u8) -> bool { a > b }");
    assert!(said.contains("`impl Flag`"), "{said}");
    // The type itself still fits: its variable is there.
    assert_eq!(session.result_of("flag.on"), "true");
}

#[test]
fn a_method_that_is_not_there_offers_no_traits_of_crates_that_nobody_named() {
    let mut session = TestSession::start();
    is_quiet(&mut session, "struct Plain;");
    for method in ["name", "encode"] {
        let report = failing(&mut session, &format!("Plain.{method}()"));
        assert!(
            report.contains(&format!("no method named `{method}`")),
            "{report}"
        );
        for stranger in [
            "InplaceOp",
            "CustomOp",
            "rustls",
            "base64",
            "png::",
            "ring::",
        ] {
            assert!(!report.contains(stranger), "{stranger}: {report}");
        }
    }
    // The session's own and the standard library's are offered, and those of crates that it names.
    let report = failing(
        &mut session,
        "trait Named { fn christened(&self) -> String; }\nPlain.christened()",
    );
    assert!(
        report.contains("`Named` defines an item `christened`"),
        "{report}"
    );
    let report = failing(&mut session, "Plain.write(1)");
    assert!(report.contains("std::io::Write"), "{report}");
    let report = failing(
        &mut session,
        "use glassbox_prelude::candle_core;\nPlain.name()",
    );
    assert!(report.contains("candle_core::"), "{report}");
}

#[test]
fn an_attribute_before_nothing_is_told_so() {
    let mut session = TestSession::start();
    for code in [
        "#[derive(Debug)]",
        "let a = 1;\n#[derive(Clone, Debug)]\n",
        "#[allow(unused)]",
    ] {
        let report = failing(&mut session, code);
        assert!(
            report.contains("nothing follows this attribute"),
            "{code}: {report}"
        );
    }
}

#[test]
fn an_export_has_what_macros_made_and_both_of_one_name() {
    let mut session = TestSession::start();
    is_quiet(
        &mut session,
        "thread_local! { static SEED: std::cell::Cell<u64> = const { std::cell::Cell::new(7) } }\nfn roll() -> u64 { SEED.get() }\nmod area { pub fn one() -> u64 { 1 } }",
    );
    is_quiet(
        &mut session,
        "fn area() -> u64 { area::one() + roll() }\nlet sum = area();",
    );
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("program");
    ok(&mut session, &format!(":export {}", place.display()));
    let source = std::fs::read_to_string(place.join("src/main.rs")).unwrap();
    let main = source.find("fn main()").unwrap();
    for item in ["thread_local!", "fn roll", "mod area", "fn area() -> u64"] {
        let found = source.find(item);
        assert!(found.is_some_and(|at| at < main), "{item}: {source}");
    }
}

#[test]
fn a_macro_of_a_crate_makes_items_too() {
    let folder = tempfile::tempdir().unwrap();
    let krate = folder.path().join("kit");
    std::fs::create_dir_all(krate.join("src")).unwrap();
    std::fs::write(
        krate.join("Cargo.toml"),
        "[package]\nname = \"kit\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    )
    .unwrap();
    std::fs::write(
        krate.join("src/lib.rs"),
        "#[macro_export] macro_rules! flags { ($n:ident { $($f:ident = $v:expr),* }) => { #[derive(Debug, Clone, Copy, PartialEq)] pub struct $n(pub u8); impl $n { $( pub const $f: $n = $n($v); )* } } }\n\
         #[macro_export] macro_rules! twice { ($e:expr) => { $e * 2 } }\n",
    )
    .unwrap();
    let mut session = TestSession::start();
    ok(
        &mut session,
        &format!(
            ":dep kit = {{ path = {:?} }}\nuse kit::flags;\nflags! {{ Access {{ READ = 1, WRITE = 2 }} }}\nfn all() -> u8 {{ Access::READ.0 | Access::WRITE.0 }}",
            krate.display().to_string()
        ),
    );
    assert_eq!(session.result_of("(all(), Access::READ)"), "(3, Access(1))");
    assert_eq!(session.result_of("kit::twice!(2)"), "4");
    // A value is tried first; one that turns out to be an item is taken for it.
    is_quiet(&mut session, "kit::flags!(Other { ONE = 1 })");
    assert_eq!(session.result_of("Other::ONE"), "Other(1)");
}
