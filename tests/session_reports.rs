//! What a person reads when a cell fails: whole reports on real output of rustc, compared with the files in `tests/reports`.
//!
//! `GLASSBOX_WRITE_REPORTS=1` writes the files instead; read them before you commit them. The words of the notes are rustc's
//! and may change with its version, which `rust-toolchain.toml` names.

mod session_support;

use std::path::Path;

use session_support::TestSession;

/// From this case on `number`, `pair` and `list` are variables of an earlier cell.
const FIRST_WITH_VARIABLES: &str = "a_function_that_names_a_variable";

/// A failing cell, and the file that holds its report.
const CASES: [(&str, &str); 25] = [
    (
        "mismatched_types_with_other_alphabets",
        "let größe = 3;\nlet 名前 = \"é\"; let length: usize = 名前;\n",
    ),
    (
        "use_after_move",
        "let taken = vec![1];\nlet first = taken;\ntaken.len()",
    ),
    (
        "a_method_that_nearly_exists",
        "let mut v = vec![1, 2];\nv.pussh(3);",
    ),
    (
        "a_name_that_is_not_imported",
        "let counts: HashMap<String, u32> = HashMap::new();",
    ),
    (
        "a_borrow_that_lives_too_long",
        "let mut v = vec![1];\nlet first = &v[0];\nv.push(*first);\nprintln!(\"{first}\");",
    ),
    (
        "three_errors_in_one_cell",
        "let a: i32 = \"x\";\nlet b = a.foo();\nundefined(b);",
    ),
    ("a_macro_s_argument", "println!(\"{} {}\", 1);"),
    ("an_immutable_variable", "let n = 1;\nn += 1;"),
    ("a_cell_that_is_not_finished", "let v = vec![1, 2;\nv"),
    (
        "a_panic_in_a_function",
        "fn inner(v: &[i32], at: usize) -> i32 { v[at] }\nfn outer(v: &[i32]) -> i32 {\n    inner(v, 7)\n}\nouter(&[1, 2])",
    ),
    (
        "an_error_with_sources",
        "#[derive(Debug)]\nenum Load { Number(std::num::ParseIntError) }\n\
         impl std::fmt::Display for Load {\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, \"the size can't be read\") }\n}\n\
         impl std::error::Error for Load {\n    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> { let Load::Number(e) = self; Some(e) }\n}\n\
         let size: i32 = \"zwölf\".parse().map_err(Load::Number)?;",
    ),
    (
        "an_error_that_writes_its_own_chain",
        "struct Chain;\nimpl std::fmt::Display for Chain {\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {\n        if f.alternate() { write!(f, \"outer: inner\") } else { write!(f, \"outer\") }\n    }\n}\n\
         Err(Chain)?;",
    ),
    (
        "an_error_of_the_prelude",
        "let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;\nt.matmul(&t)?",
    ),
    (
        FIRST_WITH_VARIABLES,
        "fn twice() -> i32 { number * 2 }\ntwice()",
    ),
    (
        "a_function_that_names_two_variables_of_its_cell",
        "let x = 3; let y = 4;\nfn area() -> i32 { x * y }\narea()",
    ),
    (
        "a_nested_function_that_names_a_variable",
        "{\n    fn length() -> usize { list.len() }\n    length()\n}",
    ),
    (
        "a_constant_that_names_a_variable",
        "const LENGTH: usize = list.len();\nLENGTH",
    ),
    (
        "a_name_used_before_its_variable",
        "println!(\"{later}\");\nlet later = 1;",
    ),
    (
        "a_result_without_a_question_mark",
        "let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu);\nt.dims()",
    ),
    (
        "a_result_where_a_value_is_expected",
        "fn half(x: i32) -> Result<i32> { Ok(x / 2) }\nlet n: i32 = half(4);",
    ),
    ("types_that_would_do", "let product = 1.5f32 * 2u8;"),
    ("an_open_brace", "fn f() {\n    let a = 1;\n"),
    (
        "an_open_brace_of_a_statement",
        "let a = 1;\nif a > 0 {\n    println!(\"{a}\");\n",
    ),
    ("a_part_of_an_immutable_variable", "pair.0 = 3;"),
    (
        "a_part_of_an_immutable_variable_of_the_cell",
        "let p = (1, 2);\np.0 = 3;",
    ),
];

/// Text without the sequences of colours and links.
fn plain(text: &str) -> String {
    let lines = console::strip_ansi_codes(text);
    let lines = lines.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn reports_are_as_they_were_agreed_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
    let write = std::env::var_os("GLASSBOX_WRITE_REPORTS").is_some();
    let mut session = TestSession::start();
    let mut differences = Vec::new();
    for (name, cell) in CASES {
        if name == FIRST_WITH_VARIABLES {
            let earlier = session.run("let number = 7; let pair = (1, 2); let list = vec![1, 2];");
            assert!(earlier.outcome.status.is_ok(), "{earlier:#?}");
        }
        let run = session.run(cell);
        let error = run.outcome.status.expect_err(name);
        let report = format!(
            "{}\n\n=> {}: {}\n\n{}",
            cell.trim_end(),
            error.ename,
            error.evalue,
            plain(&error.traceback.join("\n"))
        );
        let file = folder.join(format!("{name}.txt"));
        if write {
            std::fs::write(&file, report).expect("the report can be written");
        } else {
            let agreed = std::fs::read_to_string(&file).unwrap_or_default();
            if agreed != report {
                differences.push(format!(
                    "--- {name}, agreed:\n{agreed}\n--- found:\n{report}"
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn reports_are_coloured_and_name_the_page_about_an_error() {
    let mut session = TestSession::start();
    let run = session.run("let n: i32 = \"x\";");
    let error = run.outcome.status.expect_err("it does not compile");
    let report = error.traceback.join("\n");
    assert!(report.contains("\u{1b}[1m\u{1b}[91merror"), "{report:?}");
    assert!(
        report.contains("https://doc.rust-lang.org/error_codes/E0308.html"),
        "{report:?}"
    );
}

#[test]
fn candles_own_models_are_said_to_come_with_a_feature() {
    let mut session = TestSession::start();
    let run = session.run("use candle_transformers::models::llama;\nlet a = 1;");
    let error = run.outcome.status.expect_err("this prelude is without it");
    let report = plain(&error.traceback.join("\n"));
    // Not `:dep`: that would bring a second candle, whose tensors are others.
    assert!(
        report.contains("--features") && report.contains("candle-transformers"),
        "{report}"
    );
    assert!(!report.contains(":dep"), "{report}");
}
