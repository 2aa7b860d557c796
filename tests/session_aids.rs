//! Completion and inspection in a session, as Tab and Shift-Tab get them.

mod session_support;

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use glassbox::session::{Completion, Completions, Inspection};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use session_support::TestSession;

impl TestSession {
    /// Proposals for code with `|` where the cursor is.
    fn complete(&mut self, marked: &str) -> Completions {
        let (code, cursor) = place(marked);
        self.session.complete(&code, cursor).unwrap()
    }

    /// The proposal that inserts `text` at the `|`.
    fn proposal(&mut self, marked: &str, text: &str) -> Completion {
        let found = self.complete(marked).items;
        let texts: Vec<String> = found.iter().map(|item| item.text.clone()).collect();
        let mut found = found.into_iter().filter(|item| item.text == text);
        found
            .next()
            .unwrap_or_else(|| panic!("{text} is not proposed for {marked}, but {texts:?}"))
    }

    fn inspect(&mut self, marked: &str) -> Option<Inspection> {
        let (code, cursor) = place(marked);
        self.session.inspect(&code, cursor).unwrap()
    }

    /// The Markdown that tells of what is at the `|`.
    fn told(&mut self, marked: &str) -> String {
        let found = self.inspect(marked);
        found
            .unwrap_or_else(|| panic!("nothing is known at {marked}"))
            .markdown
    }
}

fn place(marked: &str) -> (String, usize) {
    let cursor = marked.find('|').expect("there is a cursor");
    (marked.replacen('|', "", 1), cursor)
}

const CELL: &str = "let vlm = Vlm::tiny(&Device::Cpu)?;
let mut words = vec![String::from(\"a\")];
/// Doubles a number.
fn double(number: i32) -> i32 { number * 2 }
/// A corner.
struct Corner { across: f32, down: f32 }
impl Corner { #[deprecated] fn old(&self) {} fn new(across: f32) -> Corner { Corner { across, down: 0.0 } } }
let corner = Corner::new(1.0);
macro_rules! triple { ($x:expr) => { 3 * $x }; }";

#[test]
fn proposals_say_types_and_signatures() {
    let mut session = TestSession::that_is_asked();
    let run = session.run(CELL);
    assert!(run.outcome.status.is_ok(), "{run:#?}");

    // Members of a type of the prelude: fields with types, methods with signatures, documented.
    let generate = session.proposal("vlm.|", "generate");
    assert_eq!(generate.kind, "function");
    let detail = generate.detail.clone().unwrap();
    assert!(
        detail.starts_with("fn generate(&self, input: &dyn VlmInput) -> Result<Generate"),
        "{detail}"
    );
    assert!(
        generate
            .label
            .starts_with("generate(&self, input: &dyn VlmInput)"),
        "{generate:?}"
    );
    assert!(
        generate.signature().starts_with("(&self, input"),
        "{generate:?}"
    );
    assert!(generate.documentation.unwrap().starts_with("Captions"));
    let projector = session.proposal("let é = \"😀\"; vlm.proj|", "projector");
    assert_eq!(
        (projector.kind, projector.detail.as_deref()),
        ("instance", Some("Projector"))
    );
    assert_eq!(projector.label, "projector: Projector");
    let all = session.complete("vlm.|").items;
    let at = |text: &str| all.iter().position(|item| item.text == text);
    // What belongs to it comes before what every type can do.
    assert!(
        at("projector") < at("generate") && at("generate") < at("to_owned"),
        "{all:?}"
    );
    assert!(all.iter().all(|item| !item.text.contains('(')), "{all:?}");

    // Variables and functions of earlier cells, and of this one.
    let words = session.proposal("wor|", "words");
    assert_eq!(
        (words.kind, words.detail.as_deref()),
        ("instance", Some("Vec<String>"))
    );
    let double = session.proposal("dou|", "double");
    assert_eq!(double.label, "double(number: i32) -> i32");
    assert_eq!(double.documentation.as_deref(), Some("Doubles a number."));
    let halve = session.proposal(
        "fn halve(n: f32) -> f32 { n / 2.0 }\nlet x = hal|;",
        "halve",
    );
    assert_eq!(halve.label, "halve(n: f32) -> f32");
    assert_eq!(
        session
            .proposal("let later = 1u8; lat| + 1", "later")
            .detail
            .as_deref(),
        Some("u8")
    );
    assert_eq!(
        session.proposal("corner.|", "across").detail.as_deref(),
        Some("f32")
    );
    assert_eq!(session.proposal("tri|", "triple!").kind, "function");
    assert_eq!(session.proposal("Corn|", "Corner").kind, "class");
    // What is out of use comes last.
    let members = session.complete("corner.|").items;
    assert!(members.last().unwrap().deprecated, "{members:?}");
    assert_eq!(members.last().unwrap().text, "old");

    // Paths, keywords, macros of the standard library; no matter how they are capitalised.
    assert_eq!(
        session
            .proposal("glassbox_prelude::vision::|", "ImageProcessor")
            .kind,
        "class"
    );
    assert_eq!(
        session.proposal("use std::coll|", "collections").kind,
        "module"
    );
    assert!(
        session
            .proposal("Vlm::ti|", "tiny")
            .label
            .starts_with("tiny(device: &Device) -> Result<")
    );
    assert_eq!(session.proposal("whi|", "while").kind, "keyword");
    assert_eq!(session.proposal("printl|", "println!").kind, "function");
    assert_eq!(session.proposal("devic|", "Device").kind, "class");

    // In the middle of a line and of a word, behind commands, in several lines.
    let found = session.complete("let n = \"é😀\".len() + words.fir|st_c + 1;");
    let code = "let n = \"é😀\".len() + words.first_c + 1;";
    assert_eq!(&code[found.start..found.end], "first_c");
    assert!(
        found.items.iter().any(|item| item.text == "first_chunk"),
        "{found:?}"
    );
    session.proposal(":time words.first_ch|", "first_chunk");
    session.proposal(
        "!ls\nlet a = 1;\nwords\n    .iter()\n    .enum| \nlet b = 2;",
        "enumerate",
    );
    session.proposal("println!(\"{}\", words.le|);", "len");
    session.proposal(
        "let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;\nt.flatten_a|",
        "flatten_all",
    );

    // Generated names are not for users, and nothing is proposed where nothing can stand.
    let all = session.complete("|");
    assert!(
        all.items.len() > 50
            && all
                .items
                .iter()
                .all(|item| !item.text.contains("glassbox_cell"))
    );
    assert_eq!(session.complete("__glass|").items, []);
    assert_eq!(session.complete("// a comm|").items, []);
    // Above the code, below a comment.
    session.proposal("// Words.\nwor|\nlet a = 1;", "words");
    assert!(session.complete(":timing\n|\nlet a = 1;").items.len() > 50);
}

#[test]
fn inspection_tells_of_names_calls_and_arguments() {
    let mut session = TestSession::that_is_asked();
    let run = session.run(CELL);
    assert!(run.outcome.status.is_ok(), "{run:#?}");

    // The declaration as Rust, then the documentation, in three forms.
    let found = session.inspect("double(1)|").map(|found| found.markdown);
    assert_eq!(found, None, "behind a call nothing is meant");
    let found = session.inspect("dou|ble(1)").unwrap();
    assert!(
        found
            .markdown
            .contains("```rust\nfn double(number: i32) -> i32\n```"),
        "{found:?}"
    );
    assert!(found.markdown.contains("Doubles a number."), "{found:?}");
    assert!(
        found.html.contains("<code class=\"language-rust\">") && found.html.contains("<p>Doubles"),
        "{found:?}"
    );
    assert!(
        found.plain.contains("fn double(number: i32) -> i32\n") && !found.plain.contains("```"),
        "{found:?}"
    );

    // On a method, after its parenthesis, and in its arguments, which are counted.
    assert!(
        session
            .told("vlm.gene|rate(&image)")
            .contains("pub fn generate")
    );
    assert!(session.told("vlm.generate(|").contains("pub fn generate"));
    let generate = session.told("let é = \"😀\"; vlm.generate(|)");
    assert!(
        generate.contains("argument 1 of 1: `input: &"),
        "{generate}"
    );
    let double = session.told("let é = \"😀\"; double(|)");
    assert!(
        double.contains("argument 1 of 1: `number: i32`"),
        "{double}"
    );
    let zeros = session.told("Tensor::zeros((2, 3), |");
    assert!(
        zeros.contains("pub fn zeros") && zeros.contains("argument 2 of 3: `dtype: DType`"),
        "{zeros}"
    );
    assert!(session.told("words.insert(0, |)").contains("pub fn insert"));
    assert!(
        session
            .told("println!(\"{}\", double(|))")
            .contains("fn double")
    );
    assert!(session.told("Corner { |").contains("across: f32"));
    // A name within the arguments is meant before the function.
    let words = session.told("double(wor|ds)");
    assert!(words.contains("words: Vec<String>"), "{words}");

    // A variable tells of its type too.
    let variable = session.told("vl|m");
    assert!(
        variable.contains("vlm: Vlm") && variable.contains("The blog's model."),
        "{variable}"
    );
    assert!(session.told("corner.ac|ross").contains("across: f32"));
    assert!(session.told("tripl|e!(1)").contains("macro_rules! triple"));
    assert!(
        session
            .told("printl|n!(\"\")")
            .contains("macro_rules! println")
    );
    assert!(session.told("whil|e true {}").contains("while"));
    assert!(session.told("Devic|e::Cpu").contains("enum Device"));
    assert_eq!(session.inspect("nonsens|e"), None);
    assert_eq!(session.inspect("   |"), None);
    assert_eq!(session.inspect(":vars|"), None);

    // Every link leads to the web, and examples show no lines that rustdoc hides.
    for marked in [
        "words.pu|sh(1)",
        "Vl|m",
        "vlm.generat|e()",
        "Tenso|r",
        "Vec::<u8>::with_capacit|y(1)",
        "std::fs::rea|d(1)",
        "i3|2",
    ] {
        let markdown = session.told(marked);
        for (at, _) in markdown.match_indices("](") {
            let target = &markdown[at + 2..];
            assert!(
                target.starts_with("https://") || target.starts_with("http://"),
                "{marked}: {}",
                &target[..40.min(target.len())]
            );
            assert!(
                !target.starts_with("https://docs.rs/glassbox"),
                "{marked}: {markdown}"
            );
        }
        assert!(!markdown.contains("\n# use "), "{marked}: {markdown}");
    }

    // The commands use the same.
    assert_eq!(
        session.result_of(":type words.len() as f32"),
        "words.len() as f32: f32"
    );
    assert_eq!(
        session.result_of(":type vlm.projector"),
        "vlm.projector: Projector"
    );
    assert!(
        session
            .result_of(":doc double")
            .contains("Doubles a number.")
    );
    assert!(session.run(":type nonsense").outcome.status.is_err());
    assert!(session.run(":doc nonsense").outcome.status.is_err());
}

/// `?TYPE` showed private fields and no methods, and cut lists at twelve without a word.
#[test]
fn a_type_tells_how_it_is_made_what_it_can_and_how_it_shows_itself() {
    let mut session = TestSession::that_is_asked();
    let vlm = session.told("Vl|m");
    for what in [
        "pub struct Vlm {",
        "The blog's model.",
        "fn tiny(",
        "fn generate(",
        "Methods (",
        "Shows itself",
        "- `Render`: `render`",
        "`Clone`",
    ] {
        assert!(vlm.contains(what), "{what} is not in\n{vlm}");
    }
    let declaration = vlm.split("Made by").next().unwrap_or_default();
    for field in declaration.lines().filter(|line| line.starts_with("    ")) {
        let public = field.trim().starts_with("pub ") || field.contains("/* private fields */");
        assert!(
            public || !field.contains(": "),
            "{field} is private in\n{declaration}"
        );
    }
    // What no function of its own makes says who does.
    let report = session.told("TrainRepor|t");
    assert!(report.contains("Returned by"), "{report}");
    // Many methods are not cut.
    let tensor = session.told("Tenso|r");
    for method in ["fn zeros", "fn matmul(", "fn zeros_like(", "fn where_cond"] {
        assert!(tensor.contains(method), "{method} is not in\n{tensor}");
    }
    assert!(tensor.contains("(`Render`)"), "{tensor}");
    // A type of a cell's own, with all its variants and what is private in its module.
    let variants: Vec<String> = (0..20).map(|n| format!("V{n}")).collect();
    let cell = format!(
        "enum Many {{ {} }}\nimpl Many {{ fn first() -> Many {{ Many::V0 }} fn place(&self) -> usize {{ 0 }} }}\nstruct Hidden {{ depth: u8 }}",
        variants.join(", ")
    );
    assert!(session.run(&cell).outcome.status.is_ok());
    let many = session.told("Man|y::first()");
    for what in [
        "V19",
        "fn first() -> Many",
        "fn place(&self) -> usize",
        "not by itself",
    ] {
        assert!(many.contains(what), "{what} is not in\n{many}");
    }
    assert!(session.told("Hidde|n { depth: 1 }").contains("depth: u8"));
}

/// The names that `pub use` brings into the prelude, as its source has them.
fn names_of_the_prelude() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("prelude/src/lib.rs");
    let text = std::fs::read_to_string(file).unwrap();
    let start = text.find("pub mod prelude {").expect("it has a prelude");
    let code: String = text[start..]
        .lines()
        .skip(1)
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let uses = code
        .split(';')
        .filter_map(|item| item.trim().strip_prefix("pub use "));
    uses.flat_map(|item| match item.split_once('{') {
        Some((_, list)) => list
            .trim_end_matches('}')
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
        None => vec![item.rsplit("::").next().unwrap_or_default().to_owned()],
    })
    .collect()
}

#[test]
fn the_prelude_lists_all_that_it_brings_by_stage() {
    let mut session = TestSession::that_is_asked();
    let names = names_of_the_prelude();
    assert!(names.len() > 100, "{names:?}");
    let page = session.inspect("prelude|").expect("it is known");
    let mut listed: Vec<&str> = page
        .markdown
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split('`').next())
        .collect();
    let mut expected: Vec<&str> = names.iter().map(String::as_str).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let headings: Vec<&str> = page
        .markdown
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let mut places = Vec::new();
    for stage in [
        "Embedding",
        "Concatenation",
        "Loss",
        "Generation",
        "Model",
        "Training",
        "Data",
        "Inspection",
        "Display",
        "Widgets",
    ] {
        let place = headings.iter().position(|heading| *heading == stage);
        places.push(place.unwrap_or_else(|| panic!("{stage} is not in {headings:?}")));
    }
    assert!(places.is_sorted(), "{headings:?}");
    let sentence = "- `Vlm`: ";
    assert!(
        page.markdown
            .lines()
            .any(|line| line.starts_with(sentence) && line.len() > sentence.len() + 10)
    );
    assert!(session.result_of("?prelude").contains("Trainer"));
    assert!(
        session
            .told("glassbox_prelude::prelud|e")
            .contains("Trainer")
    );
    // Another thing of this name is told of instead.
    assert!(session.run("let prelude = 1u8;").outcome.status.is_ok());
    assert!(!session.told("prelud|e").contains("Trainer"));
}

#[test]
fn crates_of_dep_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "Cargo.toml",
        "[package]\nname = \"own-crate\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[features]\ndefault = [\"extra\"]\nextra = []\n",
    );
    write(
        "src/lib.rs",
        "pub mod inner;\n#[cfg(feature = \"extra\")]\npub fn with_feature(count: usize) -> inner::Kept { inner::Kept { count } }\n",
    );
    write(
        "src/inner.rs",
        "/// Is kept.\npub struct Kept { pub count: usize }\n",
    );
    let mut session = TestSession::that_is_asked();
    // Asked before, so that rust-analyzer has to be shown more.
    session.proposal("Vlm::ti|", "tiny");
    let path = folder.path().display();
    let run = session.run(&format!(
        ":dep own-crate = {{ path = \"{path}\" }}\nlet kept = own_crate::with_feature(3);"
    ));
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let with_feature = session.proposal("own_crate::with|", "with_feature");
    assert_eq!(
        with_feature.label,
        "with_feature(count: usize) -> inner::Kept"
    );
    assert_eq!(
        session.proposal("kept.|", "count").detail.as_deref(),
        Some("usize")
    );
    assert!(session.told("own_crate::inner::Kep|t").contains("Is kept."));
    session.proposal("Vlm::ti|", "tiny");
}

/// rust-analyzer is given whatever stands in a cell while it is being written.
#[test]
fn any_code_at_any_cursor_is_answered() {
    let mut session = TestSession::that_is_asked();
    session.run(
        "let words = vec![String::from(\"a\")];\nfn double(number: i32) -> i32 { number * 2 }",
    );
    let code = "(let |fn |struct |impl |words|double|vec!|println!|\"|'|r#|//|/\\*|#\\[|::|\\.|\\(|\\)|\\[|\\]|\\{|\\}|<|>|&|=>|=|;|,|\\||\\?|\\$|\n|:time |:dep |!|1|1\\.|é|😀|_|async |move |self|Self|where |for |in |match ){0,25}";
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    });
    let input = (code, any::<usize>());
    let asked = RefCell::new(session);
    let outcome = runner.run(&input, |(code, at)| {
        let session = &mut asked.borrow_mut().session;
        // Beyond the end and within a character too.
        let cursor = at % (code.len() + 2);
        let found = session.complete(&code, cursor).unwrap();
        prop_assert!(found.start <= found.end && found.end <= code.len().max(cursor));
        if !found.items.is_empty() {
            prop_assert!(code.get(found.start..found.end).is_some());
        }
        session.inspect(&code, cursor).unwrap();
        Ok(())
    });
    let mut session = asked.into_inner();
    assert!(outcome.is_ok(), "{outcome:?}");
    for hostile in [
        "(".repeat(5000),
        "!".repeat(5000),
        "if x {} else ".repeat(2000),
        format!("words{}", ".iter()".repeat(1500)),
        format!("1{}", " + 1".repeat(3000)),
        format!("let x: {}", "Vec<".repeat(3000)),
        "a".repeat(200_000),
        "vec![".repeat(300),
    ] {
        session.session.complete(&hostile, hostile.len()).unwrap();
        session
            .session
            .inspect(&hostile, hostile.len() / 2)
            .unwrap();
    }
    // And it still knows.
    session.proposal("words.first_ch|", "first_chunk");
}

/// Resident memory of this process, in MB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .unwrap();
    kilobytes / 1024.0
}

/// The shortest and the median of nine calls after a first one.
fn timed(mut work: impl FnMut() -> usize) -> (Duration, Duration) {
    let mut once = || {
        let begin = Instant::now();
        assert!(work() > 0);
        begin.elapsed()
    };
    let first = once();
    let mut more: Vec<Duration> = (0..9).map(|_| once()).collect();
    more.sort();
    (first, more[4])
}

#[test]
#[ignore = "figures for people, to be run alone with --nocapture"]
#[allow(clippy::print_stdout)]
fn latency_and_memory() {
    let mut session = TestSession::that_is_asked();
    session.run("let vlm = Vlm::tiny(&Device::Cpu)?;\nlet words = vec![String::from(\"a\")];\nfn double(number: i32) -> i32 { number * 2 }");
    let before = resident();
    let (first, _) = timed(|| session.complete("words.|").items.len());
    let after_first = resident();
    println!("first of all {first:.1?}");
    for marked in [
        "words.|",
        "vlm.|",
        "vlm.gen|",
        "Vlm::|",
        "dou|",
        "let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?; t.|",
        "glassbox_prelude::vision::|",
        "|",
    ] {
        let (first, median) = timed(|| session.complete(marked).items.len());
        println!("complete {marked:?}: first {first:.1?}, then {median:.1?}");
    }
    for marked in [
        "vlm.ge|nerate(&words)",
        "words.pu|sh(String::new())",
        "Tensor::zeros((2, 3), |DType::F32)",
    ] {
        let (first, median) = timed(|| session.told(marked).len());
        println!("inspect {marked:?}: first {first:.1?}, then {median:.1?}");
    }
    session.run("let more = words.len();");
    let (after_cell, _) = timed(|| session.complete("more.|").items.len());
    for round in 0..300 {
        session.complete(&format!("let a{round} = {round}; words.|"));
    }
    println!(
        "first of all {first:.1?}; after a cell {after_cell:.1?}; memory before {before:.0} MB, after the first {after_first:.0} MB, after 400 {:.0} MB",
        resident()
    );
}
