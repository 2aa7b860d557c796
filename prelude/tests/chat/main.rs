//! Chat templates of published models, rendered as transformers renders them.
//!
//! `templates/expected.json` is what transformers made of each template and conversation (see `make.py`). The variable
//! `GLASSBOX_CHAT_TEMPLATES` names a further folder with templates and such a file, for those that may not be copied into the project.

use glassbox_prelude::language::{ChatMessage, ChatOptions, LlmProcessor};
use glassbox_prelude::serde_json::{self, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tokenizer with these special tokens and templates.
fn processor(config: &Value) -> LlmProcessor {
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0}},
    });
    let config = config.to_string();
    LlmProcessor::from_bytes(tokenizer.to_string().as_bytes(), Some(config.as_bytes()))
        .expect("a tokenizer")
}

/// A text in which `⟦%Y⟧` stands for what `strftime_now("%Y")` gives.
fn today(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('⟦') {
        let (form, after) = after.split_once('⟧').expect("a closed date");
        let date = Command::new("date")
            .arg(format!("+{form}"))
            .output()
            .expect("date");
        filled += before;
        filled += String::from_utf8_lossy(&date.stdout).trim_end_matches('\n');
        rest = after;
    }
    filled + rest
}

/// Renders every template of a folder; how many texts were compared, and what differs.
fn compare(folder: &Path) -> (usize, Vec<String>) {
    let expected = std::fs::read_to_string(folder.join("expected.json")).expect("expected.json");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let processor = processor(&expected["special_tokens"]);
    let (mut count, mut wrong) = (0, Vec::new());
    for (template, cases) in expected["templates"].as_object().expect("templates") {
        let source = std::fs::read_to_string(folder.join(template)).expect("a template");
        for (name, case) in cases.as_object().expect("cases") {
            let conversation = &expected["conversations"][name];
            let list = |key: &str| conversation[key].as_array().cloned();
            let options = ChatOptions {
                answer_next: conversation["add_generation_prompt"] == true,
                tools: list("tools"),
                documents: list("documents"),
                template: Some(source.clone()),
                variables: conversation["variables"]
                    .as_object()
                    .cloned()
                    .unwrap_or_default(),
            };
            let messages = list("messages").expect("messages");
            let found = processor.render_conversation(&messages, &options);
            count += 1;
            match (found, case["text"].as_str().map(today)) {
                (Ok(found), Some(text)) if found == text => {}
                (Err(_), None) => {}
                (found, text) => wrong.push(format!(
                    "{template}, {name}:\n  here {found:?}\n  transformers {}",
                    text.map_or_else(|| case["error"].to_string(), |text| format!("{text:?}"))
                )),
            }
        }
    }
    (count, wrong)
}

#[test]
fn published_templates_are_rendered_as_transformers_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat/templates");
    let (count, wrong) = compare(&folder);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 150, "{count}");
}

#[test]
fn templates_of_another_folder_are_rendered_as_transformers_does() {
    let Some(folder) = std::env::var_os("GLASSBOX_CHAT_TEMPLATES").map(PathBuf::from) else {
        let mut stderr = std::io::stderr();
        _ = std::io::Write::write_all(
            &mut stderr,
            b"not run: GLASSBOX_CHAT_TEMPLATES names no folder of templates\n",
        );
        return;
    };
    let (count, mut wrong) = compare(&folder);
    // Known: `|safe` beside `+` escapes HTML in Jinja, and a generator is no JSON there.
    wrong.retain(|text| {
        !text.starts_with("meetkai-functionary-medium-v3.1.jinja, tool")
            && !text.starts_with("llama-cpp-deepseek-r1.jinja, tool")
    });
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_model_with_several_templates_is_asked_for_one_by_name() {
    let named = processor(&json!({"chat_template": [
        {"name": "default", "template": "D{{ messages[0].content }}"},
        {"name": "tool_use", "template": "T{{ tools|length }}"},
        {"name": "rag", "template": "R{{ documents[0].text }}"},
    ]}));
    let messages = [ChatMessage::user("x")];
    assert_eq!(named.chat_templates(), ["default", "rag", "tool_use"]);
    let render = |options: &ChatOptions| {
        named
            .render_conversation(&messages, options)
            .map_err(|e| e.to_string())
    };
    assert_eq!(render(&ChatOptions::default()).as_deref(), Ok("Dx"));
    let tools = ChatOptions {
        tools: Some(vec![json!({})]),
        ..ChatOptions::default()
    };
    assert_eq!(render(&tools).as_deref(), Ok("T1"));
    let rag = ChatOptions {
        documents: Some(vec![json!({"text": "d"})]),
        template: Some("rag".into()),
        ..ChatOptions::default()
    };
    assert_eq!(render(&rag).as_deref(), Ok("Rd"));
    let unknown = ChatOptions {
        template: Some("tools".into()),
        ..ChatOptions::default()
    };
    let error = render(&unknown).expect_err("there is none");
    assert!(error.contains("default, rag, tool_use"), "{error}");

    let several = processor(
        &json!({"chat_template": [{"name": "a", "template": "A"}, {"name": "b", "template": "B"}]}),
    );
    let error = several
        .render_chat(&messages, false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no default") && error.contains("a, b"),
        "{error}"
    );
    let error = processor(&json!({}))
        .render_chat(&messages, false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("chat template"), "{error}");
}

#[test]
fn templates_in_files_come_before_those_of_the_config() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "tokenizer.json",
        r#"{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0}}}"#,
    );
    write("tokenizer_config.json", r#"{"chat_template":"config"}"#);
    write("chat_template.jinja", "file");
    let text = |options: &ChatOptions| {
        let processor = LlmProcessor::from_dir(folder.path()).expect("a tokenizer");
        processor
            .render_conversation(&[ChatMessage::user("x")], options)
            .expect("a text")
    };
    assert_eq!(text(&ChatOptions::default()), "file");
    std::fs::create_dir(folder.path().join("additional_chat_templates")).expect("a folder");
    write("additional_chat_templates/tool_use.jinja", "tools");
    let tools = ChatOptions {
        tools: Some(Vec::new()),
        ..ChatOptions::default()
    };
    assert_eq!(
        (text(&ChatOptions::default()), text(&tools)),
        ("file".into(), "tools".into())
    );
}

#[test]
fn a_template_that_loops_for_ever_is_an_error() {
    let text = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let error = processor(&json!({}))
        .render_chat_with(text, &[], false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("loop for ever"), "{error}");
}
