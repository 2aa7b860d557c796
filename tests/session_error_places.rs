//! Where an error came from: the lines inside of functions and closures that it passed are shown below the cell's own line.

mod session_support;

use glassbox::session::CellError;
use session_support::{TestSession, ok};

/// The report of a cell that fails by a `?`, without colours.
fn report(session: &mut TestSession, code: &str) -> String {
    let error: CellError = session.run(code).outcome.status.unwrap_err();
    let text = error.traceback.join("\n");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain += before;
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

/// The lines of code that a report marks, in order.
fn marked(report: &str) -> Vec<String> {
    let lines: Vec<&str> = report.lines().collect();
    let marks = lines.windows(2).filter(|pair| {
        let mark = pair[1].trim_start_matches([' ', '|', '│', '┆']);
        !mark.is_empty()
            && mark
                .trim_end()
                .chars()
                .all(|c| c == '^' || c == '━' || c == '-')
    });
    let code = marks.map(|pair| {
        let (_, code) = pair[0].split_once(['|', '│']).unwrap_or_default();
        let mark = pair[1].split_once(['|', '│']).map_or("", |(_, mark)| mark);
        let start = mark.chars().take_while(|c| *c == ' ').count();
        let length = mark.trim().chars().count();
        code.chars().skip(start).take(length).collect()
    });
    code.collect()
}

#[test]
fn the_line_inside_a_function_is_shown_for_every_kind_of_error() {
    let mut session = TestSession::start();
    // The prelude's own error, of a tensor that does not fit.
    let cell = "fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {\n    let sum = (a + 1.0)?;\n    Ok(sum.matmul(b)?)\n}\nlet a = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;\nproduct(&a, &a)?";
    let text = report(&mut session, cell);
    assert_eq!(marked(&text), ["product(&a, &a)?", "matmul(b)?"], "{text}");
    assert!(text.contains("came out of `product`"), "{text}");
    // Two functions, one of an earlier cell, and an error of the standard library in a box.
    ok(
        &mut session,
        "use std::error::Error as StdError;\nfn number(text: &str) -> std::result::Result<i32, Box<dyn StdError>> {\n    // of text\n    let number = text.trim().parse::<i32>()?;\n    Ok(number)\n}",
    );
    let cell = "fn sum(texts: &[&str]) -> std::result::Result<i32, Box<dyn StdError>> {\n    let mut sum = 0;\n    for text in texts {\n        sum += number(text)?;\n    }\n    Ok(sum)\n}\nsum(&[\"1\", \"x\"])?";
    let text = report(&mut session, cell);
    assert_eq!(
        marked(&text),
        ["sum(&[\"1\", \"x\"])?", "number(text)?", "parse::<i32>()?"],
        "{text}"
    );
    assert!(text.contains("an earlier cell"), "{text}");
    // The same functions from a later cell.
    let text = report(&mut session, "let total = sum(&[\"y\"])?;");
    assert_eq!(
        marked(&text).last().map(String::as_str),
        Some("parse::<i32>()?"),
        "{text}"
    );
    // Errors that are text, that are made, of an option, of the same type, of methods and traits.
    for (cell, wanted) in [
        (
            "fn f(x: i32) -> std::result::Result<i32, String> {\n    if x < 0 {\n        return Err(format!(\"{x} is negative\"));\n    }\n    Ok(x)\n}\nf(-1)?",
            "Err(format!(\"{x} is negative\"))",
        ),
        (
            "fn f(x: i32) -> std::result::Result<i32, String> {\n    match x {\n        0 => Ok(1),\n        _ => Err(\"not zero\".into()),\n    }\n}\nf(-1)?",
            "Err(\"not zero\".into())",
        ),
        (
            "fn first(list: &[i32]) -> Option<i32> {\n    let first = list.first()?;\n    Some(*first)\n}\nfirst(&[]).ok_or(\"none there\")?",
            "first()?",
        ),
        (
            "fn inner() -> Result<Tensor> {\n    Err(Error::Input(\"no picture\".into()))\n}\nfn outer() -> Result<Tensor> {\n    let t = inner()?;\n    Ok(t)\n}\nouter()?",
            "Err(Error::Input(\"no picture\".into()))",
        ),
        (
            "struct Reader;\nimpl Reader {\n    fn read(&self) -> std::io::Result<String> {\n        let text = std::fs::read_to_string(\"/nowhere/at/all\")?;\n        Ok(text)\n    }\n}\nReader.read()?",
            "std::fs::read_to_string(\"/nowhere/at/all\")?",
        ),
        (
            "struct Age(u8);\nimpl std::str::FromStr for Age {\n    type Err = std::num::ParseIntError;\n    fn from_str(text: &str) -> std::result::Result<Age, Self::Err> {\n        let age = text.parse()?;\n        Ok(Age(age))\n    }\n}\nlet age: Age = \"old\".parse()?;",
            "parse()?",
        ),
        (
            "let halve = |x: i32| -> std::result::Result<i32, String> {\n    let half = Some(x / 2).filter(|_| x % 2 == 0).ok_or(\"odd\")?;\n    Ok(half)\n};\nlet all: Vec<i32> = [2, 3].into_iter().map(|x| halve(x)).collect::<std::result::Result<_, _>>()?;",
            "ok_or(\"odd\")?",
        ),
        (
            "fn apply(f: fn(&str) -> std::result::Result<i32, Box<dyn StdError>>) -> std::result::Result<i32, Box<dyn StdError>> {\n    let value = f(\"z\")?;\n    Ok(value)\n}\napply(number)?",
            "parse::<i32>()?",
        ),
        (
            "fn generic<T: std::str::FromStr>(text: &str) -> std::result::Result<T, T::Err> {\n    let value = text.parse::<T>()?;\n    Ok(value)\n}\ngeneric::<f32>(\"pi\")?",
            "parse::<T>()?",
        ),
    ] {
        let text = report(&mut session, cell);
        let marked = marked(&text);
        assert!(marked.len() > 1, "{cell}\n{text}");
        assert_eq!(
            marked.last().map(String::as_str),
            Some(wanted),
            "{cell}\n{text}"
        );
    }
}

#[test]
fn an_error_that_was_handled_is_no_part_of_the_next() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        "fn number(text: &str) -> std::result::Result<i32, std::num::ParseIntError> {\n    let number = text.parse::<i32>()?;\n    Ok(number)\n}\nfn opened(path: &str) -> std::io::Result<String> {\n    std::fs::read_to_string(path)\n}",
    );
    // `number` fails and is handled; then something fails that notes nothing, or that was made here.
    for (cell, wanted) in [
        (
            "let n = number(\"x\").unwrap_or(0);\nopened(\"/nowhere\")?",
            vec!["opened(\"/nowhere\")?"],
        ),
        (
            "fn f() -> std::result::Result<i32, Box<dyn std::error::Error>> {\n    let n = number(\"x\").unwrap_or(0);\n    opened(\"/nowhere\")?;\n    Ok(n)\n}\nf()?",
            vec!["f()?", "opened(\"/nowhere\")?"],
        ),
        (
            "fn g() -> std::result::Result<i32, String> {\n    let n = number(\"x\").unwrap_or(0);\n    if n == 0 {\n        return Err(\"zero\".to_owned());\n    }\n    Ok(n)\n}\ng()?",
            vec!["g()?", "Err(\"zero\".to_owned())"],
        ),
        (
            "let n = number(\"x\").unwrap_or(0);\n\"y\".parse::<f32>()?",
            vec!["\"y\".parse::<f32>()?"],
        ),
    ] {
        let text = report(&mut session, cell);
        assert_eq!(marked(&text), wanted, "{text}");
    }
    // A loop over bad ones costs nothing that grows.
    let text = report(
        &mut session,
        "let bad = (0..100_000).filter(|_| number(\"x\").is_err()).count();\nassert_eq!(bad, 100_000);\nnumber(\"last\")?",
    );
    assert_eq!(
        marked(&text),
        ["number(\"last\")?", "parse::<i32>()?"],
        "{text}"
    );
}

#[test]
fn a_deep_recursion_shows_its_ends() {
    let mut session = TestSession::start();
    let text = report(
        &mut session,
        "fn down(n: u32) -> std::result::Result<u32, String> {\n    if n == 0 {\n        return Err(\"bottom\".into());\n    }\n    let below = down(n - 1)?;\n    Ok(below)\n}\ndown(30)?",
    );
    let marked = marked(&text);
    assert!(text.contains("more places in between"), "{text}");
    assert_eq!(marked.len(), 7, "{text}");
    assert_eq!(
        marked.last().map(String::as_str),
        Some("Err(\"bottom\".into())")
    );
}

#[test]
fn errors_of_the_compiler_are_those_of_the_code_as_it_stands() {
    let mut session = TestSession::start();
    for (cell, wanted, unwanted) in [
        (
            "fn f() -> u8 {\n    \"1\".parse::<u8>()?\n}\nf()",
            "E0277",
            "trail",
        ),
        (
            "fn f() -> Result<u8> {\n    let n = 5?;\n    Ok(n)\n}\nf()?",
            "E0277",
            "Tried",
        ),
        (
            "fn f() -> Result<u8> {\n    let n = \"1\".parse()?;\n    Ok(1)\n}\nf()?",
            "E0277",
            "Tried",
        ),
        (
            "fn f() -> std::result::Result<u8, String> {\n    Err(7)\n}\nf()?",
            "E0308",
            "made",
        ),
    ] {
        let text = report(&mut session, cell);
        assert!(
            text.contains(wanted) && !text.contains(unwanted),
            "{cell}\n{text}"
        );
    }
    // What only compiles as it stands does so.
    ok(
        &mut session,
        "fn boxed(bad: bool) -> std::result::Result<u8, Box<dyn std::error::Error>> {\n    if bad {\n        return Err(Box::new(std::fmt::Error));\n    }\n    Err(\"text\")?\n}\nassert!(boxed(true).is_err());",
    );
    // Statics keep their values beside.
    ok(
        &mut session,
        "use std::sync::atomic::{AtomicU32, Ordering};\nfn next(text: &str) -> std::result::Result<u32, std::num::ParseIntError> {\n    static CALLS: AtomicU32 = AtomicU32::new(0);\n    let n: u32 = text.parse()?;\n    Ok(n + CALLS.fetch_add(1, Ordering::Relaxed))\n}\nassert_eq!(next(\"10\")?, 10);",
    );
    ok(&mut session, "assert_eq!(next(\"10\")?, 11);");
    let text = report(&mut session, "next(\"ten\")?");
    assert_eq!(marked(&text), ["next(\"ten\")?", "parse()?"], "{text}");
}

#[test]
fn what_stays_a_program_is_awaited_and_exported_as_it_was_written() {
    let mut session = TestSession::start();
    let run = session.run("fn f() -> Result<u8> { let n: u8 = \"1\".parse().map_err(|_| Error::Input(\"no\".into()))?; Ok(n) }\nf()?");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let run = session.run(":export");
    let shown = format!("{:?}", run.events);
    assert!(!shown.contains("trail"), "{shown}");
}

#[test]
fn assigning_a_setting_that_can_only_be_read_names_what_changes_it() {
    let mut session = TestSession::start();
    ok(&mut session, "let mut vlm = Vlm::tiny(&Device::Cpu)?;");
    for (cell, wanted) in [
        (
            "vlm.settings.adapters = AdapterTraining::Frozen;",
            "vlm.set_adapters(…)",
        ),
        (
            "vlm.settings.query_text = \"What?\".into();",
            "vlm.set_query(…)",
        ),
        (
            "vlm.settings.stop_at_eos = false;",
            "vlm.set_stop_at_eos(…)",
        ),
        (
            "vlm.settings.train_encoder = true;",
            "vlm.set_settings(VlmSettings { train_encoder: …, ..vlm.settings.clone() })?",
        ),
        ("vlm.settings.query_text.push('x');", "vlm.set_query(…)"),
    ] {
        let text = report(&mut session, cell);
        assert!(text.contains(wanted), "{cell}\n{text}");
        assert!(!text.contains("let mut vlm = vlm"), "{text}");
    }
}
