//! Notebook files: what is accepted, what is refused, and that nothing but the change changes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// As Jupyter writes it: one space, sorted, text as lines, a final newline.
const JUPYTER: &str = r##"{
 "cells": [
  {
   "cell_type": "markdown",
   "id": "a1",
   "metadata": {},
   "source": [
    "# Über \u00e9 1.0\n",
    "text"
   ]
  },
  {
   "cell_type": "code",
   "execution_count": 3,
   "id": "b2",
   "metadata": {
    "odd": [1.50, 1E5, 123456789012345678901234567890, 0.1000000000000000055511151231257827]
   },
   "outputs": [
    {
     "name": "stdout",
     "output_type": "stream",
     "text": [
      "hi\n"
     ]
    }
   ],
   "source": [
    "println!(\"hi\");"
   ]
  }
 ],
 "metadata": {
  "kernelspec": {
   "display_name": "Rust",
   "language": "rust",
   "name": "glassbox"
  }
 },
 "nbformat": 4,
 "nbformat_minor": 5
}
"##;

fn refused(text: &str) -> String {
    Notebook::parse(text).unwrap_err().to_string()
}

#[test]
fn an_untouched_notebook_keeps_every_byte() {
    for text in [
        JUPYTER.to_owned(),
        JUPYTER.replace('\n', "\r\n"),
        JUPYTER.trim_end().to_owned(),
        format!("\u{feff}{JUPYTER}\n\n"),
        JUPYTER.replace("\n ", "\n\t"),
        JUPYTER.lines().map(str::trim).collect::<String>(),
    ] {
        assert_eq!(Notebook::parse(&text).unwrap().to_text(), text);
    }
}

#[test]
fn only_the_outputs_differ() {
    let mut notebook = Notebook::parse(JUPYTER).unwrap();
    notebook.cells_mut()[1].set_outputs(
        vec![json!({"name": "stderr", "output_type": "stream", "text": ["é\n"]})],
        Some(1),
    );
    let expected = JUPYTER
        .replace("\"execution_count\": 3", "\"execution_count\": 1")
        .replace("\"name\": \"stdout\"", "\"name\": \"stderr\"")
        .replace("\"hi\\n\"\n", "\"é\\n\"\n");
    assert_eq!(notebook.to_text(), expected);
    notebook.cells_mut()[1].set_outputs(Vec::new(), None);
    let text = notebook.to_text();
    assert!(
        text.contains("   \"outputs\": [],\n   \"source\": [\n    \"println!"),
        "{text}"
    );
    assert!(text.contains(
        "[1.50, 1E5, 123456789012345678901234567890, 0.1000000000000000055511151231257827]"
    ));
    assert!(text.contains(r"Über \u00e9"));
}

#[test]
fn the_file_s_style_is_used_for_what_is_new() {
    let four = r#"{
    "nbformat": 4,
    "nbformat_minor": 4,
    "metadata": {},
    "cells": []
}"#;
    let mut notebook = Notebook::parse(four).unwrap();
    notebook.insert(0, Cell::new_code("1", &["t"], notebook.fresh_id()));
    assert_eq!(
        notebook.to_text(),
        r#"{
    "nbformat": 4,
    "nbformat_minor": 4,
    "metadata": {},
    "cells": [
        {
            "cell_type": "code",
            "execution_count": null,
            "metadata": {
                "tags": [
                    "t"
                ]
            },
            "outputs": [],
            "source": [
                "1"
            ]
        }
    ]
}"#
    );
    let mut notebook = Notebook::parse(r#"{"nbformat":4,"cells":[]}"#).unwrap();
    notebook.insert(0, Cell::new_code("1", &[], None));
    assert_eq!(
        notebook.to_text(),
        r#"{"nbformat":4,"cells":[{"cell_type":"code","execution_count":null,"metadata":{},"outputs":[],"source":["1"]}]}"#
    );
}

#[test]
fn an_inserted_cell_leaves_its_neighbours_alone() {
    let mut notebook = Notebook::parse(JUPYTER).unwrap();
    notebook.insert(1, Cell::new_code("new", &[], Some("n1".into())));
    let with = notebook.to_text();
    notebook.remove(1);
    assert_eq!(notebook.to_text(), JUPYTER);
    let start = with.find("  {\n   \"cell_type\": \"code\"").unwrap();
    let length = with.len() - JUPYTER.len();
    assert_eq!(
        format!("{}{}", &with[..start], &with[start + length..]),
        JUPYTER
    );
}

#[test]
fn ids_are_added_only_where_the_format_demands_them() {
    for (minor, wanted) in [(4, false), (5, true)] {
        let text = json!({"nbformat": 4, "nbformat_minor": minor, "metadata": {}, "cells": [
            {"cell_type": "raw", "metadata": {}, "source": ""}, {"cell_type": "raw", "id": "x", "metadata": {}, "source": ""}]});
        let mut notebook = Notebook::parse(&text.to_string()).unwrap();
        notebook.mend_ids();
        assert_eq!(notebook.cells()[0].fields.contains_key("id"), wanted);
        assert_eq!(notebook.cells()[1].fields["id"], "x");
    }
}

#[test]
fn ids_that_are_not_allowed_or_not_unique_are_replaced() {
    let cell = |id: Value| json!({"cell_type": "raw", "id": id, "metadata": {}, "source": ""});
    let given = [
        json!(null),
        json!("a"),
        json!("b"),
        json!("a"),
        json!(7),
        json!(""),
        json!("with space"),
        json!("x".repeat(65)),
    ];
    let text = json!({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": given.clone().map(cell)});
    let mut notebook = Notebook::parse(&text.to_string()).unwrap();
    notebook.mend_ids();
    let again = Notebook::parse(&notebook.to_text()).unwrap();
    let ids: Vec<&str> = again
        .cells()
        .iter()
        .map(|cell| cell.fields["id"].as_str().unwrap())
        .collect();
    assert!(ids.iter().all(|id| is_cell_id(id)), "{ids:?}");
    assert_eq!(
        ids.iter().collect::<HashSet<_>>().len(),
        ids.len(),
        "{ids:?}"
    );
    for (index, (id, before)) in ids.iter().zip(&given).enumerate() {
        // The first of two that are equal keeps its id.
        assert_eq!(before == id, [1, 2].contains(&index), "{index}");
    }
}

#[test]
fn what_python_writes_is_read_and_kept() {
    let odd = format!(
        r#"{{"nan": NaN, "all": [Infinity, -Infinity, 1e999], "deep": {}{}, "half": "\uD83d"}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let text = JUPYTER
        .replace(
            r#""odd": [1.50"#,
            &format!(r#""python": {odd}, "odd": [1.50"#),
        )
        .replace(r#""hi\n""#, r#""hi \ud83d\n""#)
        .replace("# Über", r"# \udc00 Über");
    let notebook = Notebook::parse(&text).unwrap();
    assert_eq!(notebook.to_text(), text);
    assert!(notebook.cells()[0].source().contains("# \u{fffd} Über"));
    let mut notebook = notebook;
    notebook.cells_mut()[1].set_outputs(Vec::new(), None);
    notebook.cells_mut()[1].set_execution_times(Some(json!({"a": 1})));
    let written = notebook.to_text();
    assert!(written.contains(&odd), "{written}");
    assert!(!written.contains('\u{10FFFD}'));
    Notebook::parse(&written).unwrap();
}

#[test]
fn what_is_no_notebook_is_refused_with_a_reason() {
    for (text, part) in [
        ("", "not JSON (EOF"),
        ("# text", "not JSON"),
        ("[1, 2]", "not an object"),
        ("{}", "\"nbformat\" is missing"),
        (
            r#"{"nbformat": 3, "worksheets": []}"#,
            "format 3, glassbox reads format 4.0 to 4.5",
        ),
        (r#"{"nbformat": 5, "cells": []}"#, "format 5"),
        (r#"{"nbformat": 4}"#, "\"cells\" is missing"),
        (r#"{"nbformat": 4, "cells": {}}"#, "\"cells\" is not a list"),
        (
            r#"{"nbformat": 4, "cells": [1]}"#,
            "cell 1 (counted from 1, text cells included) is not an object",
        ),
        (
            r#"{"nbformat": 4, "cells": [{"cell_type": "code"}]}"#,
            "has no \"source\"",
        ),
        (
            r#"{"nbformat": 4, "cells": [{"cell_type": "x", "source": ""}]}"#,
            "has no \"cell_type\"",
        ),
        (
            r#"{"nbformat": 4, "cells": [{"cell_type": "code", "source": [1]}]}"#,
            "has no \"source\" text",
        ),
    ] {
        let message = refused(text);
        assert!(message.contains(part), "{text}: {message}");
    }
    let missing = Notebook::read(Path::new("/nowhere/a.ipynb"))
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("/nowhere/a.ipynb: no such notebook"),
        "{missing}"
    );
}

#[test]
fn only_rust_kernels_are_accepted() {
    let check = |metadata: Value| {
        let text = json!({"nbformat": 4, "nbformat_minor": 4, "metadata": metadata, "cells": []})
            .to_string();
        Notebook::parse(&text)
            .unwrap()
            .check_kernel()
            .map_err(|e| e.to_string())
    };
    for metadata in [
        json!({}),
        json!({"kernelspec": {"name": "glassbox", "display_name": "x"}}),
        json!({"kernelspec": {"name": "glassbox-stock"}}),
        json!({"kernelspec": {"name": "rust", "language": "rust"}}),
        json!({"kernelspec": {"name": "my-own", "language": "Rust"}}),
        json!({"kernelspec": {"name": "evcxr"}}),
        json!({"language_info": {"name": "rust"}}),
    ] {
        assert_eq!(check(metadata.clone()), Ok(()), "{metadata}");
    }
    let message =
        check(json!({"kernelspec": {"name": "python3", "language": "python"}})).unwrap_err();
    assert!(
        message.starts_with("the notebook asks for the kernel `python3` (language python), but"),
        "{message}"
    );
    check(json!({"kernelspec": {"name": "ir"}})).unwrap_err();
    check(json!({"language_info": {"name": "julia"}})).unwrap_err();
}

#[test]
fn lines_end_where_python_ends_them() {
    assert_eq!(
        lines("a\nb\r\nc\rd\u{2028}e"),
        json!(["a\n", "b\r\n", "c\r", "d\u{2028}", "e"])
    );
    assert_eq!(lines(""), json!([]));
    assert_eq!(joined(&lines("x\n\ny\n")), "x\n\ny\n");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

fn any_cell() -> impl Strategy<Value = Value> {
    let source = prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<String>().prop_map(|text| lines(&text))
    ];
    (
        prop_oneof![Just("code"), Just("markdown"), Just("raw")],
        source,
        any_json(),
        any::<bool>(),
    )
        .prop_map(|(kind, source, extra, last)| {
            let mut cell =
                json!({"cell_type": kind, "metadata": {"extra": extra}, "source": source});
            if kind == "code" {
                cell["outputs"] = json!([]);
                cell["execution_count"] = Value::Null;
            }
            if last {
                cell["zzz"] = json!(1);
            }
            cell
        })
}

/// A notebook's text in one of the layouts that people's tools write.
fn any_text() -> impl Strategy<Value = String> {
    (prop::collection::vec(any_cell(), 0..5), any_json(), 0..6usize, 4..6i64).prop_map(|(cells, extra, layout, minor)| {
        let value = json!({"cells": cells, "metadata": {"extra": extra}, "nbformat": 4, "nbformat_minor": minor});
        let indented = |indent: &[u8]| {
            let mut bytes = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
            serde::Serialize::serialize(&value, &mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        match layout {
            0 => indented(b" ") + "\n",
            1 => indented(b"  "),
            2 => indented(b"\t") + "\n",
            3 => value.to_string(),
            4 => indented(b" ").replace('\n', "\r\n") + "\r\n",
            _ => indented(b"") + "\n",
        }
    })
}

proptest! {
    #[test]
    fn any_untouched_notebook_keeps_every_byte(text in any_text()) {
        prop_assert_eq!(Notebook::parse(&text).unwrap().to_text(), text);
    }

    #[test]
    fn outputs_put_in_and_taken_out_leave_the_file_as_it_was(text in any_text(), output in any_json()) {
        let mut notebook = Notebook::parse(&text).unwrap();
        let code: Vec<usize> =
            (0..notebook.cells().len()).filter(|&i| notebook.cells()[i].kind() == CellKind::Code).collect();
        for &index in &code {
            notebook.cells_mut()[index].set_outputs(vec![output.clone()], Some(index as u64));
        }
        let written = notebook.to_text();
        let mut again = Notebook::parse(&written).unwrap();
        for &index in &code {
            prop_assert_eq!(again.cells()[index].outputs(), std::slice::from_ref(&output));
            again.cells_mut()[index].set_outputs(Vec::new(), None);
        }
        prop_assert_eq!(again.to_text(), text);
    }
}

#[test]
fn the_digest_is_of_what_was_written_not_of_what_came_out() {
    let digest = Notebook::parse(JUPYTER).unwrap().digest();
    assert_eq!(digest.len(), 64);
    let mut executed = Notebook::parse(JUPYTER).unwrap();
    executed.cells_mut()[1].set_outputs(Vec::new(), Some(9));
    assert_eq!(executed.digest(), digest);
    let other = JUPYTER.replace("println!", "print!");
    assert_ne!(Notebook::parse(&other).unwrap().digest(), digest);
}
