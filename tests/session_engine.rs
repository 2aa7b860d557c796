//! What cells leave to later ones, whatever their types, and what a session says of what it cannot keep.

mod session_support;

use glassbox::session::Event;
use session_support::{TestSession, ok};

fn names(session: &mut TestSession) -> Vec<String> {
    let variables = session.session.variables();
    variables
        .into_iter()
        .map(|variable| variable.name)
        .collect()
}

#[test]
fn variables_of_every_kind_are_kept() {
    let mut session = TestSession::start();
    let said = ok(
        &mut session,
        "use std::collections::HashMap;\n\
         mod inner { #[derive(Debug, Clone)] pub struct Deep<T>(pub T); }\n\
         #[derive(Debug)] struct Point { x: i32 }\n\
         fn twice(a: i32) -> i32 { 2 * a }\n\
         let map: HashMap<String, Vec<Option<u8>>> = HashMap::from([(\"a\".to_string(), vec![Some(1), None])]);\n\
         let boxed: Box<dyn Fn(i32) -> i32 + Send> = Box::new(move |a| a + 1);\n\
         let (pair, [first, .., last]) = ((1u8, 'x'), [1, 2, 3]);\n\
         let Point { x: mut px } = Point { x: 7 };\n\
         let deep = inner::Deep(Point { x: 1 });\n\
         let pointer: fn(i32) -> i32 = twice;\n\
         let lazy = vec![1, 2].into_iter().map(twice as fn(i32) -> i32);\n\
         let text = \"static\"; let cow = std::borrow::Cow::Borrowed(\"c\");\n\
         let shared = std::sync::Arc::new(std::sync::Mutex::new(vec![1.5f32]));\n\
         let started = std::time::Instant::now();\n\
         let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;\n\
         let mut live = display_live(&MimeBundle::text(\"l\"));",
    );
    assert_eq!(said, "");
    let said = ok(
        &mut session,
        "px += 1;\n\
         assert_eq!(map[\"a\"].len(), 2); assert_eq!(boxed(1), 2); assert_eq!((pair.0, pair.1, first, last), (1, 'x', 1, 3));\n\
         assert_eq!(px, 8); assert_eq!(deep.0.x, 1); assert_eq!(pointer(2), 4);\n\
         assert_eq!(lazy.clone().collect::<Vec<_>>(), [2, 4]); assert_eq!(text.len(), 6); assert_eq!(cow.len(), 1);\n\
         shared.lock()?.push(2.0); assert!(started.elapsed().as_secs() < 3600);\n\
         assert_eq!(t.dims(), [2, 3]); live.update(&MimeBundle::text(\"m\"));",
    );
    assert_eq!(said, "");
    assert_eq!(session.result_of("(px, shared.lock()?.len())"), "(8, 2)");
    let variables = session.session.variables();
    let type_of = |name: &str| {
        let found = variables.iter().find(|variable| variable.name == name);
        found.map(|variable| variable.type_name.as_str())
    };
    assert_eq!(type_of("map"), Some("HashMap<String, Vec<Option<u8>>>"));
    assert_eq!(type_of("deep"), Some("Deep<Point>"));
    assert_eq!(type_of("t"), Some("Tensor"));
}

#[test]
fn variables_whose_types_mention_lifetimes_are_kept() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        "use std::borrow::Cow; use std::cell::RefCell; use std::collections::HashMap; use std::marker::PhantomData; use std::rc::Rc;\n\
         #[derive(Debug)] struct Parser<'a> { text: &'a str, at: usize }\n\
         struct Pair<'a, 'b, T> { one: &'a T, other: &'b str }\n\
         trait Shape<'a> { fn name(&self) -> &'a str; }\n\
         struct Square; impl Shape<'static> for Square { fn name(&self) -> &'static str { \"square\" } }\n\
         fn longer<'a>(a: &'a str, b: &'a str) -> &'a str { if a.len() < b.len() { b } else { a } }\n\
         fn first<'a>(a: &'a str, _: &str) -> &'a str { a }",
    );
    // Declaration, a look at the value in a later cell, and the type as people write it.
    let kept = [
        (
            "let v = \"héllo\".chars();",
            "v.clone().count() == 5",
            "Chars",
        ),
        (
            "let v: fn() -> &'static str = || \"x\";",
            "v() == \"x\"",
            "fn() -> &str",
        ),
        (
            "let v: for<'a> fn(&'a str, &'a str) -> &'a str = longer;",
            "{ let own = String::from(\"abc\"); v(&own, \"a\").len() == 3 }",
            "for<'a> fn(&'a str, &'a str) -> &'a str",
        ),
        (
            "let v: for<'a, 'b> fn(&'a str, &'b str) -> &'a str = first;",
            "{ let own = String::from(\"abc\"); v(&own, &String::new()).len() == 3 }",
            "for<'a, 'b> fn(&'a str, &'b str) -> &'a str",
        ),
        (
            "let v: Box<dyn Fn(&'static str) -> usize> = Box::new(|s| s.len());",
            "v(\"ab\") == 2",
            "Box<dyn Fn(&str) -> usize>",
        ),
        (
            "let v: Box<dyn for<'a> Fn(&'a str) -> &'a str> = Box::new(|s| &s[1..]);",
            "v(&String::from(\"ab\")) == \"b\"",
            "Box<dyn for<'a> Fn(&'a str) -> &'a str>",
        ),
        (
            "let v: Rc<RefCell<dyn FnMut(&str)>> = { let mut all = 0; Rc::new(RefCell::new(move |s: &str| all += s.len())) };",
            "{ (v.borrow_mut())(&String::from(\"ab\")); true }",
            "Rc<RefCell<dyn for<'a> FnMut(&'a str)>>",
        ),
        (
            "let v: Box<dyn Fn(&str) -> Box<dyn Fn(&str) -> usize + '_> + Send> = Box::new(|a| Box::new(move |b| a.len() + b.len()));",
            "v(\"a\")(\"bc\") == 3",
            "Box<dyn for<'a> Fn(&'a str) -> Box<dyn for<'b> Fn(&'b str) -> usize + 'a> + Send>",
        ),
        (
            "let v: Cow<'static, str> = \"c\".into();",
            "v == \"c\"",
            "Cow<str>",
        ),
        (
            "let v = vec![\"a\", \"b\"].into_iter();",
            "v.clone().count() == 2",
            "IntoIter<&str>",
        ),
        (
            "let v = [1u8, 2].iter();",
            "v.clone().sum::<u8>() == 3",
            "Iter<u8>",
        ),
        (
            "let v: &'static [&'static str] = &[\"a\"];",
            "v[0] == \"a\"",
            "&[&str]",
        ),
        (
            "let v: Option<&'static str> = Some(\"a\");",
            "v == Some(\"a\")",
            "Option<&str>",
        ),
        (
            "let v: HashMap<&'static str, fn(&str) -> usize> = HashMap::from([(\"len\", str::len as fn(&str) -> usize)]);",
            "v[\"len\"](&String::from(\"ab\")) == 2",
            "HashMap<&str, for<'a> fn(&'a str) -> usize>",
        ),
        (
            "let v = \"a b\".split(' ');",
            "v.clone().count() == 2",
            "Split<char>",
        ),
        (
            "let v = \"ab\".chars().peekable();",
            "v.clone().peek() == Some(&'a')",
            "Peekable<Chars>",
        ),
        (
            "let v = Parser { text: \"ab\", at: 1 };",
            "&v.text[v.at..] == \"b\"",
            "Parser",
        ),
        (
            "let v = [(Parser { text: \"ab\", at: 0 }, Pair { one: &7u8, other: \"o\" })];",
            "*v[0].1.one == 7 && v[0].0.text.len() == 2 && v[0].1.other == \"o\"",
            "[(Parser, Pair<u8>); 1]",
        ),
        (
            "let v = PhantomData::<&'static u8>;",
            "{ let _: PhantomData<&'static u8> = v; true }",
            "PhantomData<&u8>",
        ),
        (
            "let v: Vec<Box<dyn Shape<'static> + Send>> = vec![Box::new(Square)];",
            "v[0].name() == \"square\"",
            "Vec<Box<dyn Shape + Send>>",
        ),
        (
            "let v: Option<for<'a> fn(Parser<'a>) -> &'a str> = Some(|p| p.text);",
            "v.unwrap()(Parser { text: &String::from(\"t\"), at: 0 }) == \"t\"",
            "Option<for<'a> fn(Parser<'a>) -> &'a str>",
        ),
        (
            "let v: &'static (dyn std::fmt::Debug + Send + Sync) = &5;",
            "format!(\"{v:?}\") == \"5\"",
            "&(dyn Debug + Send + Sync)",
        ),
        (
            "let v: Box<dyn Iterator<Item = &'static str>> = Box::new([\"a\"].into_iter());",
            "v.size_hint().0 == 1",
            "Box<dyn Iterator<Item = &str>>",
        ),
        (
            "let v: unsafe extern \"C\" fn(&u8) -> u8 = { unsafe extern \"C\" fn f(a: &u8) -> u8 { *a } f };",
            "(unsafe { v(&3) }) == 3",
            "for<'a> unsafe extern \"C\" fn(&'a u8) -> u8",
        ),
    ];
    for (number, (declaration, look, ty)) in kept.iter().enumerate() {
        let name = format!("v{number}");
        let rename = |code: &str| {
            let words = code.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_');
            let renamed = words.map(|word| match word.strip_prefix('v') {
                Some(rest) if !rest.starts_with(|c: char| c.is_alphanumeric()) => {
                    format!("{name}{rest}")
                }
                _ => word.to_owned(),
            });
            renamed.collect::<String>()
        };
        assert_eq!(ok(&mut session, &rename(declaration)), "", "{declaration}");
        assert_eq!(session.result_of(&rename(look)), "true", "{declaration}");
        // And once more, after it was put back.
        assert_eq!(session.result_of(&rename(look)), "true", "{declaration}");
        let variables = session.session.variables();
        let found = variables.iter().find(|variable| variable.name == name);
        assert_eq!(
            found.map(|found| found.type_name.as_str()),
            Some(*ty),
            "{declaration}"
        );
    }
    let table = session.run(":vars");
    assert!(table.outcome.status.is_ok(), "{table:#?}");
}

#[test]
fn what_cannot_be_kept_for_its_lifetime_is_said_once_and_not_offered_by_name() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        "let text = String::from(\"a b\"); fn double(a: u8) -> u8 { 2 * a } fn same<T>(a: T) -> T { a }\n\
         struct Parser<'a> { text: &'a str }",
    );
    for (code, words) in [
        (
            "let gone = text.split(' ');\nassert_eq!(gone.count(), 2);",
            "",
        ),
        ("let gone = text.chars();", "borrows from another value"),
        (
            "let gone = Parser { text: &text };\nassert_eq!(gone.text.len(), 3);",
            "borrows from another value",
        ),
        (
            "let gone = std::borrow::Cow::Borrowed(text.as_str());",
            "borrows from another value",
        ),
        (
            "let gone = double;\nassert_eq!(gone(2), 4);",
            "it is a function itself",
        ),
        (
            "let gone = same::<u8>;\nassert_eq!(gone(2), 2);",
            "it is a function itself",
        ),
        (
            "let gone = str::len;\nassert_eq!(gone(\"a\"), 1);",
            "cannot be named in code",
        ),
        ("let gone = String::new;\nassert_eq!(gone().len(), 0);", ""),
    ] {
        let mut said = ok(&mut session, code);
        said += &ok(&mut session, ":vars");
        said += &ok(&mut session, "1 + 1;");
        assert!(said.contains(words), "{code}: {said}");
        assert_eq!(
            said.matches("not kept").count(),
            usize::from(!words.is_empty() || code.contains("String::new")),
            "{code}: {said}"
        );
        assert!(!names(&mut session).contains(&"gone".to_owned()), "{code}");
        let run = session.run("gone");
        let error = run.outcome.status.unwrap_err();
        assert!(!error.state.kept.contains(&"gone".to_owned()), "{error:#?}");
    }
}

/// A cell, the variables of it that cannot be kept, and words that the note on each has to hold.
type NotKept = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
fn what_cannot_be_kept_is_said_in_one_line_with_what_to_do_and_the_next_cell_is_reminded() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        "let words = vec![String::from(\"one\"), String::from(\"two\")];\n\
         let shared = std::sync::Mutex::new(1);\n\
         fn evens() -> impl Iterator<Item = u32> { (0..9).filter(|n| n % 2 == 0) }\n\
         fn adder(n: i32) -> impl Fn(i32) -> i32 { move |m| m + n }\n\
         async fn later() -> i32 { 1 }\n\
         struct View<'a> { text: &'a str }",
    );
    let cases: [NotKept; 12] = [
        (
            "let add = |a: i32| a + 1;\nassert_eq!(add(1), 2);",
            &["add"],
            &["closure", "Box<dyn Fn"],
        ),
        (
            "let total = 3;\nlet more = |a: i32| a + total;\nassert_eq!(more(1), 4);",
            &["more"],
            &["closure", "Box<dyn Fn", "move"],
        ),
        (
            "let made = adder(1);\nassert_eq!(made(1), 2);",
            &["made"],
            &["closure", "Box<dyn Fn"],
        ),
        (
            "let numbers = vec![1];\nlet all = &numbers;\nassert_eq!(all.len(), 1);",
            &["all"],
            &["borrows", ".clone()"],
        ),
        // The names the other way round: they are stored in their order.
        (
            "let z_numbers = vec![1];\nlet a_first = z_numbers.first();\nassert!(a_first.is_some());",
            &["a_first"],
            &["borrows", ".clone()"],
        ),
        (
            "let list = vec![1, 2];\nlet iterator = list.iter();\nassert_eq!(iterator.len(), 2);",
            &["iterator"],
            &["borrows", ".collect"],
        ),
        ("let even = evens();", &["even"], &["closure", ".collect"]),
        ("let soon = async { 1 };", &["soon"], &["future", ".await"]),
        (
            "let promised = later();",
            &["promised"],
            &["future", "wait"],
        ),
        (
            "let guard = shared.lock()?;\nassert_eq!(*guard, 1);",
            &["guard"],
            &["borrows", ".clone()"],
        ),
        (
            "let head = &words[..1];\nassert_eq!(head.len(), 1);",
            &["head"],
            &["borrows", ".to_vec()"],
        ),
        (
            "let view = View { text: &words[0] };\nassert_eq!(view.text, \"one\");",
            &["view"],
            &["borrows", ".clone()"],
        ),
    ];
    for (code, lost, words) in cases {
        let before = names(&mut session);
        let said = ok(&mut session, code);
        assert_eq!(said.lines().count(), lost.len(), "{code}: {said}");
        for name in lost {
            assert!(
                said.contains(&format!("`{name}` is not kept")),
                "{code}: {said}"
            );
            let run = session.run(&format!("let _again = {name};"));
            let error = run.outcome.status.expect_err("it is not there");
            assert_eq!(error.ename, "E0425", "{error:?}");
            let report = error.traceback.join("\n");
            assert!(
                report.contains(&format!("`{name}` was not kept")),
                "{report}"
            );
        }
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{code}: {said}"
        );
        // Whatever else the cell defines is there.
        let kept = names(&mut session);
        assert!(
            before.iter().all(|name| kept.contains(name)),
            "{code}: {kept:?}"
        );
        for name in ["total", "numbers", "z_numbers", "list"] {
            let defined = code.contains(&format!("let {name} "));
            assert!(
                !defined || kept.iter().any(|kept| kept == name),
                "{code}: {kept:?}"
            );
        }
    }
    // A reminder is for as long as there is no variable of the name.
    ok(&mut session, "let add = 1;\ndrop(words);");
    assert_eq!(session.result_of("add"), "1");
    let run = session.run("words.len()");
    let report = run
        .outcome
        .status
        .expect_err("it is gone")
        .traceback
        .join("\n");
    assert!(
        report.contains("`words` is gone because an earlier cell moved it"),
        "{report}"
    );
    // A struct with a lifetime that refers to a static is kept.
    assert_eq!(
        ok(&mut session, "let view = View { text: \"static\" };"),
        ""
    );
    assert_eq!(session.result_of("view.text"), "\"static\"");
}

#[test]
fn consumed_variables_are_gone_and_renewed_ones_stay() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        "fn longer(mut list: Vec<i32>) -> Vec<i32> { list.push(0); list }\nlet mut list = vec![1];\nlet given = vec![2];\nlet gone = { let local = given; local.len() };",
    );
    assert_eq!(names(&mut session), ["gone", "list"]);
    ok(&mut session, "list = longer(list);");
    assert_eq!(session.result_of("list.len()"), "2");
    ok(&mut session, "drop(list);");
    assert_eq!(names(&mut session), ["gone"]);
    // A new variable of the same name takes the place of the old one; a failing cell leaves the old one.
    ok(&mut session, "let gone = format!(\"{gone}!\");");
    let run = session.run("let gone = 1;\nlet n: u8 = \"no\".parse()?;");
    assert!(run.outcome.status.is_err());
    assert_eq!(session.result_of("gone"), "\"1!\"");
}

#[test]
fn a_cell_can_be_run_again_and_a_type_defined_anew_takes_its_variables_along() {
    let mut session = TestSession::start();
    let cell = "#[derive(Debug)] struct Point { x: i32 }\nimpl Point { fn x(&self) -> i32 { self.x } }\nimpl Default for Point { fn default() -> Point { Point { x: 3 } } }\nlet point = Point::default();\nlet points = vec![Point { x: 1 }];\nlet other = 1;";
    ok(&mut session, cell);
    ok(&mut session, cell);
    assert_eq!(session.result_of("points[0].x() + point.x()"), "4");
    // Same names, other layout: reading the old value as the new type would be wrong.
    let said = ok(
        &mut session,
        "#[derive(Debug)] struct Point { x: [u64; 4] }\nimpl Point { fn x(&self) -> u64 { self.x[3] } }\nimpl Default for Point { fn default() -> Point { Point { x: [9; 4] } } }",
    );
    assert!(
        said.contains("`point` is lost") && said.contains("`points` is lost"),
        "{said}"
    );
    assert_eq!(names(&mut session), ["other"]);
    assert_eq!(session.result_of("Point::default().x()"), "9");
    ok(
        &mut session,
        "macro_rules! square { ($x:expr) => { $x * $x } }\ntrait Area { fn area(&self) -> f64; }\nimpl Area for f64 { fn area(&self) -> f64 { square!(*self) } }",
    );
    assert_eq!(session.result_of("2.0f64.area()"), "4.0");
}

#[test]
fn a_symbol_that_is_nowhere_fails_the_cell_and_nothing_else() {
    let mut session = TestSession::start();
    ok(&mut session, "let kept = 1;");
    let run = session
        .run("unsafe extern \"C\" { fn nowhere_to_be_found(); }\nunsafe { nowhere_to_be_found() }");
    let error = run.outcome.status.expect_err("it cannot be loaded");
    assert!(error.evalue.contains("nowhere_to_be_found"), "{error:?}");
    assert_eq!(error.state.kept, ["kept"]);
    assert_eq!(session.result_of("kept"), "1");
}

#[test]
fn a_value_that_cannot_be_shown_is_the_compilers_own_error() {
    let mut session = TestSession::start();
    let run = session.run("struct Silent;\nSilent");
    let error = run.outcome.status.expect_err("it has no Debug");
    assert_eq!(error.ename, "E0277");
    assert!(error.evalue.contains("Silent"), "{error:?}");
    assert!(!error.traceback.concat().contains("evcxr"), "{error:?}");
}

#[test]
fn commands_answer_and_wrong_ones_say_so() {
    let mut session = TestSession::start();
    ok(&mut session, "let number = 3u8;");
    let table = session.result_of(":vars");
    let row = table.lines().find(|line| line.starts_with("number"));
    assert!(row.is_some_and(|row| row.contains("u8")), "{table}");
    assert_eq!(session.result_of(":type number"), "number: u8");
    assert_eq!(session.result_of("!echo from the shell"), "from the shell");
    let run = session.run(":nonsense");
    let error = run.outcome.status.expect_err("there is no such command");
    assert!(
        error.evalue.contains(":nonsense") && error.evalue.contains(":help"),
        "{error:?}"
    );
    assert_eq!(error.state.kept, ["number"]);
    ok(&mut session, ":opt 2\nlet sum: u64 = (0..1000).sum();");
    assert_eq!(session.result_of("sum"), "499500");
    ok(&mut session, ":restart");
    assert!(session.session.variables().is_empty());
    assert_eq!(session.result_of("MimeBundle::text(\"there\")"), "there");
    ok(&mut session, "fn f() {}\n");
    ok(&mut session, ":clear");
    assert!(session.run("f()").outcome.status.is_err());
    assert_eq!(session.result_of("MimeBundle::text(\"there\")"), "there");
}

#[test]
fn timing_names_every_phase() {
    let mut session = TestSession::start();
    assert_eq!(session.result_of(":timing"), "Timing: true");
    // One that was compiled before is not compiled.
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let number = now.as_nanos();
    let run = session.run(&format!("let a = {number}_u128;\na"));
    let phases: Vec<&str> = run
        .outcome
        .phases
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(phases, ["parse", "types", "rustc", "link", "load", "run"]);
    let shown = run.events.iter().find_map(|event| match event {
        Event::Display(display) => display.plain().map(str::to_owned),
        _ => None,
    });
    let shown = shown.expect("the phases are shown");
    assert!(phases.iter().all(|phase| shown.contains(phase)), "{shown}");
    // A cell of items is checked, not run.
    let items = format!("fn f_{number}() {{}}");
    for compiled in ["rustc", "kept"] {
        let run = session.run(&items);
        let phases: Vec<&str> = run
            .outcome
            .phases
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(phases, ["parse", "types", compiled]);
    }
}
