//! Any text, given to what reads cells and writes pages: the host lives and answers in time; a page runs nothing and loads nothing.
//!
//! `GLASSBOX_FUZZ_CASES` is the number of cases of each of the targets (default 300; of those that run cells or ask rust-analyzer a tenth);
//! a fault that is found becomes a regression test beside the code that had it.

mod session_support;

use std::time::{Duration, Instant};

use glassbox::notebook::Notebook;
use glassbox::notebook::html::{PageOptions, page};
use glassbox::session::completeness;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use session_support::TestSession;

fn cases() -> u32 {
    match std::env::var("GLASSBOX_FUZZ_CASES") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("GLASSBOX_FUZZ_CASES={text:?} is not a number")),
        Err(_) => 300,
    }
}

fn fuzz<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(strategy, |value| {
        test(value);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Pieces of Rust, some of them many times over.
fn code() -> impl Strategy<Value = String> {
    let words = vec![
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        "-",
        "!",
        "&",
        "|",
        "||",
        "1",
        "a",
        "a.b()",
        " + ",
        " as u8",
        "let x = ",
        ";",
        "\n",
        "\"",
        "'",
        "'a",
        "/*",
        "*/",
        "//",
        "r#\"",
        "#[",
        "fn f() ",
        "if a ",
        " else ",
        "match a ",
        " => ",
        "vec![",
        "Vec<",
        "macro_rules! m ",
        "$",
        "é",
        "\u{0}",
        ":dep ",
        "!ls ",
        "?",
        "impl ",
        "struct S ",
        "use ",
        "::",
        "..",
        "=",
        ",",
        "return ",
        "loop ",
        "\u{202e}",
        "#!",
        "---\n",
    ];
    let piece = (
        select(words),
        prop_oneof![8 => 1usize..4, 1 => Just(500), 1 => Just(20_000)],
    )
        .prop_map(|(word, times)| word.repeat(times));
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_code_is_judged_in_time() {
    fuzz(cases(), &code(), |code| {
        let begun = Instant::now();
        completeness(&code);
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn the_host_outlives_any_question_and_any_cell() {
    let session = std::cell::RefCell::new(TestSession::start());
    fuzz(cases() / 10, &(code(), any::<Index>()), |(code, at)| {
        let at = at.index(code.len() + 1);
        let mut session = session.borrow_mut();
        let _ = session.session.complete(&code, at);
        let _ = session.session.inspect(&code, at);
    });
    let harmless = code().prop_filter("may run for ever, or a command of the shell", |code| {
        !code.contains("loop") && !code.contains("!ls") && !code.contains(":dep")
    });
    fuzz(cases() / 30, &harmless, |code| {
        session.borrow_mut().run(&code);
    });
    assert_eq!(session.borrow_mut().result_of("1 + 1"), "2");
}

fn markup() -> impl Strategy<Value = String> {
    let words = vec![
        "<script>",
        "</script>",
        "<img src=",
        "<a href=",
        "<svg ",
        "<style>",
        "</style>",
        "<iframe ",
        "<b>",
        "</b>",
        "<",
        ">",
        "\"",
        "'",
        " onerror=alert(1)",
        " onload=",
        "/",
        "javascript:",
        "JAVA\tSCRIPT:",
        "&#106;avascript:",
        "data:text/html,",
        "http://evil/",
        "//evil",
        "../secret.png",
        "url(http://evil)",
        "@import",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        "&",
        "&colon;",
        "[a](",
        ")",
        "![a](",
        "`",
        "```\n",
        "\n\n",
        "# a\n",
        "> ",
        "- ",
        "| a |\n|-|\n",
        "<math>",
        "<title>",
        "<textarea>",
        "<p ",
        " style=",
        " srcset=",
        " href=",
        "xlink:href=",
        "<use ",
        "<foreignObject>",
        "<base ",
        "<meta ",
        "<form ",
        "=",
        " ",
        "é",
        "\u{0}",
    ];
    prop::collection::vec(select(words), 0..40).prop_map(|words| words.concat())
}

/// The tags of a page, each with its attributes, read as strictly as they are written.
fn tags(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if rest.starts_with(['/', '!']) {
            continue;
        }
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let (name, mut inside) = rest.split_at(end);
        assert!(
            !name.is_empty(),
            "a `<` that begins no tag: {}",
            &rest[..rest.floor_char_boundary(80)]
        );
        let mut attributes = Vec::new();
        loop {
            inside = inside.trim_start();
            if let Some(after) = inside.strip_prefix("/>").or(inside.strip_prefix('>')) {
                rest = after;
                break;
            }
            let (key, after) = inside.split_once("=\"").unwrap_or_else(|| {
                panic!(
                    "no attribute: {}",
                    &inside[..inside.floor_char_boundary(80)]
                )
            });
            let (value, after) = after.split_once('"').expect("its value ends");
            attributes.push((key.to_ascii_lowercase(), value.to_ascii_lowercase()));
            inside = after;
        }
        found.push((name.to_ascii_lowercase(), attributes));
    }
    found
}

/// The scheme that a browser reads in an address: character references are decoded, blanks and controls do not count. Nothing where
/// what stands before the colon can be none.
fn scheme(address: &str) -> String {
    let mut read = String::new();
    let mut rest = address;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        let reference = (character == '&')
            .then(|| rest.strip_prefix('#'))
            .flatten()
            .and_then(|code| {
                let (hexadecimal, code) = match code.strip_prefix('x') {
                    Some(code) => (true, code),
                    None => (false, code),
                };
                let digits = code.bytes().take_while(|b| b.is_ascii_hexdigit()).count();
                let radix = if hexadecimal { 16 } else { 10 };
                let number = u32::from_str_radix(&code[..digits], radix).ok()?;
                let after = &code[digits..];
                let after = after.strip_prefix(';').unwrap_or(after);
                Some((char::from_u32(number)?, after))
            });
        let character = match reference {
            Some((character, after)) => {
                rest = after;
                character
            }
            None => character,
        };
        if character == ':' {
            let valid = read
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            return if valid {
                read.to_ascii_lowercase()
            } else {
                String::new()
            };
        }
        if !character.is_whitespace() && !character.is_control() {
            read.push(character);
        }
    }
    String::new()
}

#[test]
fn the_scheme_of_an_address_is_read_as_browsers_do() {
    for address in [
        "javascript:a",
        "&#106;avascript:a",
        "&#x6a;ava\tscript:a",
        " javascript&#58;a",
    ] {
        assert_eq!(scheme(address), "javascript", "{address}");
    }
    for address in [
        "a=javascript:b",
        "a/javascript:b",
        "javascript",
        "#javascript:",
    ] {
        assert_eq!(scheme(address), "", "{address}");
    }
}

#[test]
fn any_page_runs_and_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("book")).unwrap();
    std::fs::write(folder.path().join("secret.png"), "SECRET").unwrap();
    let book = folder.path().join("book");
    fuzz(
        cases(),
        &(markup(), markup(), markup(), 1usize..3),
        |(text, html, svg, times)| {
            let output =
                json!({"output_type": "display_data", "metadata": {}, "data": {"text/html": html}});
            let drawing = json!({"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": svg}});
            let printed = json!({"output_type": "stream", "name": "stdout", "text": html});
            let notebook = json!({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [
                {"cell_type": "markdown", "metadata": {}, "source": text.repeat(times * 20)},
                {"cell_type": "code", "metadata": {}, "source": text, "execution_count": 1, "outputs": [output, drawing, printed]},
            ]});
            let notebook = Notebook::parse(&notebook.to_string()).unwrap();
            let begun = Instant::now();
            let page = page(
                &notebook,
                &PageOptions {
                    folder: Some(&book),
                    ..PageOptions::default()
                },
            )
            .html;
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{:?}",
                begun.elapsed()
            );
            assert!(!page.contains("U0VDUkVU") && !page.contains("SECRET"));
            let body = page.split_once("</head>").expect("a page has a head").1;
            for (name, attributes) in tags(body) {
                assert!(
                    ![
                        "script",
                        "iframe",
                        "object",
                        "embed",
                        "base",
                        "meta",
                        "link",
                        "form",
                        "foreignobject",
                        "math",
                        "textarea"
                    ]
                    .contains(&name.as_str()),
                    "{name}"
                );
                for (key, value) in attributes {
                    assert!(
                        !key.starts_with("on") && key != "srcset" && key != "srcdoc",
                        "{name} {key}"
                    );
                    assert!(
                        (key.ends_with("href") || !value.contains("url(h"))
                            && (key != "src" || value.starts_with("data:image/")),
                        "{name} {key}={value}"
                    );
                    if key.ends_with("href") {
                        let scheme = scheme(&value);
                        assert!(
                            !scheme.ends_with("script") && !value.starts_with("data:text"),
                            "{name} {key}={value}"
                        );
                    }
                }
            }
        },
    );
}
