//! The built kernel over its sockets: requests as clients send them, answers as the protocol asks for them.

mod kernel_client;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jupyter_protocol::ConnectionInfo;
use jupyter_zmq_client::{
    create_client_control_connection, create_client_shell_connection_with_identity,
    peer_identity_for_session,
};
use kernel_client::{COLD, Kernel, WARM, block_on, parts_of, request, signed};
use serde_json::{Value, json};
use tokio::time::timeout;

fn plain(bundle: &Value) -> &str {
    bundle["data"]["text/plain"].as_str().unwrap_or("")
}

#[test]
fn a_client_works_through_a_notebook() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        answers_before_the_session_is_there(&mut kernel).await?;
        streams_and_results(&mut kernel).await?;
        counting_and_silence(&mut kernel).await?;
        user_expressions(&mut kernel).await?;
        displays(&mut kernel).await?;
        errors(&mut kernel).await?;
        stop_on_error(&mut kernel).await?;
        editing_aids(&mut kernel).await?;
        history(&mut kernel).await?;
        comms(&mut kernel).await?;
        shutdown(&mut kernel).await
    })
}

async fn answers_before_the_session_is_there(kernel: &mut Kernel) -> Result<()> {
    let begun = Instant::now();
    let info = kernel.ask("kernel_info_request", json!({})).await?;
    ensure!(
        begun.elapsed() < Duration::from_secs(2),
        "kernel_info took {:?}",
        begun.elapsed()
    );
    assert_eq!(info["status"], "ok");
    assert_eq!(info["language_info"]["name"], "rust");
    assert_eq!(info["language_info"]["file_extension"], ".rs");
    assert_eq!(
        kernel.ask_control("kernel_info_request", json!({})).await?["implementation"],
        "glassbox"
    );
    kernel.heartbeat.single_heartbeat().await?;
    Ok(())
}

async fn streams_and_results(kernel: &mut Kernel) -> Result<()> {
    let ran = kernel
        .run("println!(\"hello\"); eprintln!(\"oops\"); 40 + 2")
        .await?
        .ok()?;
    assert_eq!(ran.reply["execution_count"], 1);
    assert_eq!(ran.reply["payload"], json!([]));
    assert_eq!(ran.text("stdout"), "hello\n");
    assert_eq!(ran.text("stderr"), "oops\n");
    assert_eq!(plain(ran.first("execute_result")), "42");
    assert_eq!(ran.first("execute_result")["execution_count"], 1);

    // Text without a newline arrives as it is, and while the cell runs.
    let code = "use std::io::Write as _; print!(\"half a\"); std::io::stdout().flush()?; \
                std::thread::sleep(std::time::Duration::from_millis(1500)); println!(\" line\");";
    let id = kernel
        .send("execute_request", json!({ "code": code }))
        .await?;
    kernel.wait_for_text(&id, "half a").await?;
    let seen = Instant::now();
    let ran = kernel.finish(&id).await?.ok()?;
    ensure!(
        seen.elapsed() > Duration::from_millis(700),
        "the text came only with the end of the cell"
    );
    assert_eq!(ran.text("stdout"), " line\n");

    // A lot of text keeps its order and arrives in a few messages.
    let ran = kernel
        .run("for i in 0..20_000 { println!(\"{i}\"); }")
        .await?
        .ok()?;
    let expected: String = (0..20_000).map(|i| format!("{i}\n")).collect();
    assert!(ran.text("stdout") == expected, "20,000 lines came changed");
    assert!(
        ran.outputs.len() < 2_000,
        "{} messages for 20,000 lines",
        ran.outputs.len()
    );
    Ok(())
}

async fn counting_and_silence(kernel: &mut Kernel) -> Result<()> {
    let before = kernel.run("1").await?.ok()?.reply["execution_count"]
        .as_i64()
        .context("no count")?;
    let silent = kernel
        .run_with(json!({ "code": "println!(\"x\"); 2", "silent": true }))
        .await?
        .ok()?;
    assert_eq!(silent.kinds(), [""; 0]);
    let unstored = kernel
        .run_with(json!({ "code": "3", "store_history": false }))
        .await?
        .ok()?;
    assert_eq!(plain(unstored.first("execute_result")), "3");
    let after = kernel.run("4").await?.ok()?;
    assert_eq!(after.reply["execution_count"], before + 1);
    Ok(())
}

async fn user_expressions(kernel: &mut Kernel) -> Result<()> {
    let expressions = json!({ "sum": "1 + 2", "bad": "no_such_name" });
    let ran = kernel
        .run_with(json!({ "code": "let answer = 42;", "user_expressions": expressions }))
        .await?
        .ok()?;
    let answers = &ran.reply["user_expressions"];
    assert_eq!(answers["sum"]["status"], "ok");
    assert_eq!(plain(&answers["sum"]), "3");
    assert_eq!(answers["bad"]["status"], "error");
    assert!(
        answers["bad"]["evalue"]
            .as_str()
            .is_some_and(|text| text.contains("no_such_name")),
        "{answers}"
    );
    Ok(())
}

async fn displays(kernel: &mut Kernel) -> Result<()> {
    let code = "println!(\"before\");\n\
                let shown = glassbox_prelude::display::display_live(&MimeBundle::text(\"first\").with_html(\"<b>first</b>\"));\n\
                println!(\"between\");\n\
                shown.update(&MimeBundle::text(\"second\"));";
    let ran = kernel
        .run(&format!(
            "use glassbox_prelude::display::MimeBundle;\n{code}"
        ))
        .await?
        .ok()?;
    assert_eq!(
        ran.kinds(),
        ["stream", "display_data", "stream", "update_display_data"]
    );
    let (shown, updated) = (ran.first("display_data"), ran.first("update_display_data"));
    assert_eq!(plain(shown), "first");
    assert_eq!(shown["data"]["text/html"], "<b>first</b>");
    assert_eq!(plain(updated), "second");
    assert_eq!(
        shown["transient"]["display_id"],
        updated["transient"]["display_id"]
    );
    assert!(shown["transient"]["display_id"].is_string());

    // The handle lives on: a later cell updates the same display.
    let later = kernel
        .run("shown.update(&MimeBundle::text(\"third\"));")
        .await?
        .ok()?;
    assert_eq!(
        later.first("update_display_data")["transient"],
        shown["transient"]
    );

    let ran = kernel
        .run("glassbox_prelude::display::clear_output(true); println!(\"new\");")
        .await?
        .ok()?;
    assert_eq!(ran.kinds(), ["clear_output", "stream"]);
    assert_eq!(ran.first("clear_output")["wait"], true);

    // A value of a crate made for evcxr is the cell's result in all its formats; what shows itself on the way is not.
    let code = "struct Page(&'static str);\n\
                impl Page {\n    fn evcxr_display(&self) {\n        \
                for mime in [\"text/html\", \"text/plain\"] { println!(\"EVCXR_BEGIN_CONTENT {mime}\\n{}\\nEVCXR_END_CONTENT\", self.0); }\n    }\n}\n\
                Page(\"one\").evcxr_display();\nPage(\"two\")";
    let ran = kernel.run(code).await?.ok()?;
    assert_eq!(
        ran.kinds(),
        ["display_data", "display_data", "execute_result"]
    );
    let two = json!({ "text/html": "two", "text/plain": "two" });
    assert_eq!(ran.first("execute_result")["data"], two);
    // So is what a cell shows last in that way, and what it shows before it goes on is a display at once.
    let ran = kernel.run("Page(\"three\").evcxr_display();").await?.ok()?;
    assert_eq!(ran.kinds(), ["display_data", "execute_result"]);
    let code = "Page(\"four\").evcxr_display(); std::thread::sleep(std::time::Duration::from_millis(300));";
    let ran = kernel.run(code).await?.ok()?;
    assert_eq!(ran.kinds(), ["display_data", "display_data"]);
    Ok(())
}

async fn errors(kernel: &mut Kernel) -> Result<()> {
    for (code, mark) in [
        ("let wrong: i32 = \"text\";", "mismatched types"),
        ("panic!(\"a loud {}\", \"bang\");", "a loud bang"),
        ("let n: i32 = \"zz\".parse::<i32>()?;", "invalid digit"),
    ] {
        let ran = kernel.run(code).await?;
        let shown = ran.first("error");
        assert_eq!(ran.reply["status"], "error", "{code}: {:#}", ran.reply);
        for field in ["ename", "evalue", "traceback"] {
            assert_eq!(
                ran.reply[field], shown[field],
                "{code}: {field} differs between reply and iopub"
            );
        }
        let report = format!("{} {}", shown["evalue"], shown["traceback"]);
        assert!(report.contains(mark), "{code}: {shown:#}");
        assert!(shown["ename"].as_str().is_some_and(|name| !name.is_empty()));
    }
    // `answer` was defined before all that.
    assert_eq!(
        plain(kernel.run("answer").await?.ok()?.first("execute_result")),
        "42"
    );
    Ok(())
}

async fn stop_on_error(kernel: &mut Kernel) -> Result<()> {
    let failing = kernel
        .send(
            "execute_request",
            json!({ "code": "let wrong: i32 = \"text\";" }),
        )
        .await?;
    let waiting = kernel
        .send(
            "execute_request",
            json!({ "code": "println!(\"should not run\");" }),
        )
        .await?;
    let info = kernel.send("kernel_info_request", json!({})).await?;
    assert_eq!(
        kernel.reply(&info, WARM).await?["status"],
        "ok",
        "kernel_info waits behind a cell"
    );
    assert_eq!(kernel.reply(&failing, WARM).await?["status"], "error");
    let aborted = kernel.finish(&waiting).await?;
    assert_eq!(aborted.reply["status"], "aborted");
    assert_eq!(aborted.kinds(), [""; 0]);

    let content = json!({ "code": "let wrong: i32 = \"text\";", "stop_on_error": false });
    let failing = kernel.send("execute_request", content).await?;
    let waiting = kernel
        .send("execute_request", json!({ "code": "println!(\"runs\");" }))
        .await?;
    assert_eq!(kernel.reply(&failing, WARM).await?["status"], "error");
    assert_eq!(
        kernel.finish(&waiting).await?.ok()?.text("stdout"),
        "runs\n"
    );
    Ok(())
}

async fn editing_aids(kernel: &mut Kernel) -> Result<()> {
    for (code, status) in [
        ("1 + 1", "complete"),
        ("fn f() {", "incomplete"),
        ("let s = \"abc", "incomplete"),
        ("let = = 3;", "invalid"),
    ] {
        let reply = kernel
            .ask("is_complete_request", json!({ "code": code }))
            .await?;
        assert_eq!(reply["status"], status, "{code}");
    }
    let nested = json!({ "code": "fn f() {\n    for i in 0..3 {" });
    let reply = kernel.ask("is_complete_request", nested).await?;
    assert_eq!(reply["indent"], " ".repeat(8));

    // Positions are code points: é and 😀 are one each, though 2 and 4 bytes.
    let code = "let é = \"😀\"; é.le";
    let end = code.chars().count();
    let reply = kernel
        .ask(
            "complete_request",
            json!({ "code": code, "cursor_pos": end }),
        )
        .await?;
    assert_eq!(reply["status"], "ok", "{reply:#}");
    assert_eq!(reply["cursor_start"], end - 2);
    assert_eq!(reply["cursor_end"], end);
    let matches = reply["matches"].as_array().context("no matches")?;
    assert!(
        matches
            .iter()
            .any(|m| m.as_str().is_some_and(|text| text.starts_with("len"))),
        "{matches:?}"
    );
    let types = reply["metadata"]["_jupyter_types_experimental"]
        .as_array()
        .context("no types")?;
    assert_eq!(types.len(), matches.len());
    let len = types.iter().find(|item| item["text"] == "len");
    let len = len.with_context(|| format!("no len in {types:?}"))?;
    assert_eq!(len["type"], "function");
    assert_eq!(len["signature"], "(&self) -> usize");
    assert_eq!(len["start"], end - 2);

    let code = "let s = \"é\"; String::from_utf8(vec![])";
    let at = code.chars().position(|c| c == 'f').context("no f")?;
    let reply = kernel
        .ask(
            "inspect_request",
            json!({ "code": code, "cursor_pos": at + 2 }),
        )
        .await?;
    assert_eq!(reply["found"], true, "{reply:#}");
    assert!(plain(&reply).contains("from_utf8"), "{reply:#}");
    // On a method's name, behind it, and inside the arguments of a call. (`|` is the cursor.)
    for (marked, mark) in [
        ("vec![1].pu|sh(2)", "fn push"),
        ("vec![1].push|", "fn push"),
        ("vec![1].push(|", "fn push"),
        ("vec![1].insert(0, |2)", "fn insert"),
        ("String::from_utf8(|)", "fn from_utf8"),
        (
            "let é = \"😀é\"; let v = vec![\"😀\"]; v.insert(0, |\"é\")",
            "fn insert",
        ),
        ("Tensor::zeros((2, 3), |", "fn zeros"),
    ] {
        let at = marked.chars().position(|c| c == '|').context("no cursor")?;
        let question = json!({ "code": marked.replacen('|', "", 1), "cursor_pos": at });
        let reply = kernel.ask("inspect_request", question).await?;
        assert!(plain(&reply).contains(mark), "{marked}: {reply:#}");
        assert!(
            reply["data"]["text/html"]
                .as_str()
                .is_some_and(|html| html.contains("<code")),
            "{marked}: {reply:#}"
        );
        assert!(
            reply["data"]["text/markdown"]
                .as_str()
                .is_some_and(|text| text.contains("```rust\n") && text.contains(mark)),
            "{marked}: {reply:#}"
        );
    }
    // A cell that only asks for documentation opens the pager; among other lines it shows what was found.
    for (code, mark) in [("?Vec", "struct Vec"), (" :doc  Vec\n", "struct Vec")] {
        let ran = kernel.run(code).await?.ok()?;
        assert_eq!(ran.kinds(), [""; 0], "{code}");
        let page = &ran.reply["payload"][0];
        assert_eq!(
            (&page["source"], &page["start"]),
            (&json!("page"), &json!(0))
        );
        assert!(plain(page).contains(mark), "{code}: {page:#}");
    }
    let ran = kernel.run(":doc Vec\nlet beside_doc = 1;").await?.ok()?;
    assert_eq!(ran.reply["payload"], json!([]));
    assert!(plain(ran.first("execute_result")).contains("struct Vec"));
    assert_eq!(
        kernel.run(":doc nothing_at_all").await?.reply["ename"],
        "NotFound"
    );
    let reply = kernel
        .ask("inspect_request", json!({ "code": "   ", "cursor_pos": 1 }))
        .await?;
    assert_eq!(
        (&reply["status"], &reply["found"]),
        (&json!("ok"), &json!(false))
    );
    Ok(())
}

async fn history(kernel: &mut Kernel) -> Result<()> {
    kernel.run("7 * 6").await?.ok()?;
    let tail = json!({ "hist_access_type": "tail", "n": 1, "output": true, "raw": true });
    let rows = kernel.ask("history_request", tail).await?["history"].clone();
    assert_eq!(rows[0][2], json!(["7 * 6", "42"]));
    let search = json!({ "hist_access_type": "search", "pattern": "7?*6", "unique": true, "n": 5 });
    assert_eq!(
        kernel.ask("history_request", search).await?["history"],
        json!([[rows[0][0], rows[0][1], "7 * 6"]])
    );
    let line = rows[0][1].as_i64().context("no line number")?;
    let range =
        json!({ "hist_access_type": "range", "session": 0, "start": line, "stop": line + 1 });
    assert_eq!(
        kernel.ask("history_request", range).await?["history"][0][2],
        "7 * 6"
    );
    assert!(std::fs::read_to_string(kernel.history_file())?.contains("7 * 6"));
    Ok(())
}

async fn comms(kernel: &mut Kernel) -> Result<()> {
    assert_eq!(
        kernel.ask("comm_info_request", json!({})).await?["comms"],
        json!({})
    );
    let open = json!({ "comm_id": "c1", "target_name": "nobody", "data": {} });
    let id = kernel.send("comm_open", open).await?;
    loop {
        let (kind, parent, content) = kernel.next_output().await?;
        if parent == id && kind == "comm_close" {
            assert_eq!(content["comm_id"], "c1");
            return Ok(());
        }
        ensure!(
            parent != id || content["execution_state"] != "idle",
            "comm_open was not answered by comm_close"
        );
    }
}

async fn shutdown(kernel: &mut Kernel) -> Result<()> {
    let reply = kernel
        .ask_control("shutdown_request", json!({ "restart": false }))
        .await?;
    assert_eq!(
        (&reply["status"], &reply["restart"]),
        (&json!("ok"), &json!(false))
    );
    assert_eq!(
        kernel.wait_for_exit(Duration::from_secs(10)).await?,
        Some(0)
    );
    Ok(())
}

/// Waits for the question of a cell.
async fn asked(kernel: &mut Kernel, cell: &str, prompt: &str, password: bool) -> Result<()> {
    let question = timeout(COLD, kernel.stdin.read())
        .await
        .context("no question came")??;
    assert_eq!(question.header.msg_type, "input_request");
    let parent = question.parent_header.as_ref().map(|p| p.msg_id.as_str());
    assert_eq!(parent, Some(cell));
    let content = serde_json::to_value(&question.content)?;
    assert_eq!(content["prompt"], prompt);
    assert_eq!(content["password"], password);
    Ok(())
}

#[test]
fn cells_ask_the_client_that_sent_them() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        // A client that can't be asked is not asked.
        let ran = kernel.run("let name = input(\"who? \")?;").await?;
        assert_eq!(ran.reply["status"], "error");
        assert!(
            ran.reply["evalue"]
                .as_str()
                .is_some_and(|said| said.contains("no one can be asked")),
            "{:#}",
            ran.reply
        );

        let code = "print!(\"first \"); let name = input(\"who? \")?; println!(\"hello {name}\");";
        let cell = json!({ "code": code, "allow_stdin": true });
        let id = kernel.send("execute_request", cell.clone()).await?;
        asked(&mut kernel, &id, "who? ", false).await?;
        let answer = json!({ "status": "ok", "value": "Ferris \"🦀\"" });
        kernel.stdin.send(request("input_reply", answer)).await?;
        let ran = kernel.finish(&id).await?.ok()?;
        assert_eq!(ran.text("stdout"), "first hello Ferris \"🦀\"\n");

        // An interrupt is an answer too, and what is typed too late is no answer to the next question.
        let id = kernel.send("execute_request", cell.clone()).await?;
        timeout(WARM, kernel.stdin.read())
            .await
            .context("no question")??;
        kernel.ask_control("interrupt_request", json!({})).await?;
        let ran = kernel.finish(&id).await?;
        assert_eq!(ran.reply["ename"], "Interrupted", "{:#}", ran.reply);
        let late = json!({ "status": "ok", "value": "too late" });
        kernel.stdin.send(request("input_reply", late)).await?;
        kernel.ask("kernel_info_request", json!({})).await?;
        let id = kernel.send("execute_request", cell).await?;
        timeout(WARM, kernel.stdin.read())
            .await
            .context("no question")??;
        let answer = json!({ "status": "ok", "value": "in time" });
        kernel.stdin.send(request("input_reply", answer)).await?;
        let ran = kernel.finish(&id).await?.ok()?;
        assert_eq!(ran.text("stdout"), "first hello in time\n");
        Ok(())
    })
}

/// Where cargo keeps the crate's source: evcxr is built with it, so nothing has to be fetched.
fn evcxr_input() -> Result<String> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|found| found["name"] == "evcxr_input");
    let manifest = package.and_then(|found| found["manifest_path"].as_str());
    let manifest = manifest.context("no evcxr_input")?;
    Ok(manifest.trim_end_matches("Cargo.toml").to_owned())
}

/// The crate with which cells made for evcxr ask.
#[test]
fn evcxr_input_asks_the_client() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let cell = |code: &str| json!({ "code": code, "allow_stdin": true });
        let code = format!(
            ":dep evcxr_input = {{ path = \"{}\" }}\n\
             let name = evcxr_input::get_string(\"who? \"); println!(\"got {{name}}\");",
            evcxr_input()?
        );
        for (code, prompt, password) in [
            (code.as_str(), "who? ", false),
            (
                "println!(\"got {}\", evcxr_input::get_password(\"why: a, b\"));",
                "why: a, b",
                true,
            ),
        ] {
            let id = kernel.send("execute_request", cell(code)).await?;
            asked(&mut kernel, &id, prompt, password).await?;
            let answer = json!({ "status": "ok", "value": "Ferris \"🦀\"" });
            kernel.stdin.send(request("input_reply", answer)).await?;
            let ran = kernel.finish(&id).await?.ok()?;
            assert_eq!(ran.text("stdout"), "got Ferris \"🦀\"\n");
        }

        // A client that can't be asked is not asked, and the crate goes on with nothing.
        let ran = kernel
            .run("println!(\"got {:?}\", evcxr_input::get_string(\"who? \"));")
            .await?
            .ok()?;
        assert_eq!(ran.text("stdout"), "got \"\"\n");
        let said = ran.text("stderr");
        assert!(
            said.starts_with("no one can be asked for input: ") && said.contains("allow_stdin"),
            "{said}"
        );

        // Nobody is asked because of text alone or a read alone, in the process of the cells and in one that it starts.
        let code = "let mut line = String::new();\n\
                    println!(\"{}\", std::io::stdin().read_line(&mut line)?);\n\
                    println!(\"{:?}\", std::process::Command::new(\"cat\").status()?.code());\n\
                    println!(\"EVCXR_INPUT_REQUEST:who? \");";
        let ran = kernel.run_with(cell(code)).await?.ok()?;
        assert_eq!(
            ran.text("stdout"),
            "0\nSome(0)\nEVCXR_INPUT_REQUEST:who? \n"
        );
        let code = "std::io::stdin().read_line(&mut line)?";
        let ran = kernel.run_with(cell(code)).await?.ok()?;
        assert_eq!(plain(ran.first("execute_result")), "0");

        // An interrupt ends the wait.
        let code = "evcxr_input::get_string(\"who? \")";
        let id = kernel.send("execute_request", cell(code)).await?;
        timeout(WARM, kernel.stdin.read())
            .await
            .context("no question")??;
        kernel.ask_control("interrupt_request", json!({})).await?;
        let ran = kernel.finish(&id).await?;
        assert!(
            ran.text("stderr").contains("the cell was interrupted"),
            "{ran:?}"
        );
        Ok(())
    })
}

/// What VS Code sends, in its order: it asks on shell and control at once, waits for `idle` on iopub rather than for
/// replies, runs one cell at a time with metadata of its own, and asks for completions while a cell runs.
#[test]
fn vs_codes_order_of_messages() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        for _ in 0..2 {
            let id = kernel.send("kernel_info_request", json!({})).await?;
            kernel.wait_for_status(&id, "busy").await?;
            kernel.wait_for_status(&id, "idle").await?;
            assert_eq!(kernel.reply(&id, WARM).await?["status"], "ok");
        }
        kernel.ask_control("kernel_info_request", json!({})).await?;
        let comms = kernel.ask("comm_info_request", json!({})).await?;
        assert_eq!(comms["comms"], json!({}));

        let cell = |code: &str| {
            json!({
                "code": code, "silent": false, "store_history": true, "user_expressions": {},
                "allow_stdin": true, "stop_on_error": false,
            })
        };
        let ran = kernel.run_with(cell("let x = 20;")).await?.ok()?;
        assert_eq!(ran.reply["execution_count"], 1);
        // Its variable view and others run silent cells of their own, which must not count.
        let silent = json!({ "code": "x", "silent": true, "store_history": false });
        kernel.run_with(silent).await?.ok()?;
        let id = kernel
            .send(
                "execute_request",
                cell("println!(\"begun\"); loop { check_interrupt()?; }"),
            )
            .await?;
        kernel.wait_for_text(&id, "begun").await?;
        // All of these are answered while the cell runs, and know what was there before it.
        let question = json!({ "code": "1 +" });
        let reply = kernel.ask("is_complete_request", question).await?;
        assert_eq!(reply["status"], "incomplete");
        let question = json!({ "code": "x.leading_z", "cursor_pos": 11 });
        let reply = kernel.ask("complete_request", question).await?;
        assert!(
            reply["matches"].to_string().contains("leading_zeros"),
            "{reply:#}"
        );
        let question = json!({ "code": "x.pow(2)", "cursor_pos": 6, "detail_level": 0 });
        let reply = kernel.ask("inspect_request", question).await?;
        assert!(plain(&reply).contains("fn pow"), "{reply:#}");
        assert_eq!(
            kernel.ask_control("interrupt_request", json!({})).await?["status"],
            "ok"
        );
        let ran = kernel.finish(&id).await?;
        assert_eq!(ran.reply["ename"], "Interrupted", "{:#}", ran.reply);
        let ran = kernel.run_with(cell("x + 22")).await?.ok()?;
        assert_eq!(plain(ran.first("execute_result")), "42");
        assert_eq!(ran.reply["execution_count"], 3);
        // A restart is a shutdown on control; VS Code then starts the process anew itself.
        let reply = kernel
            .ask_control("shutdown_request", json!({ "restart": true }))
            .await?;
        assert_eq!(reply["restart"], true);
        assert_eq!(
            kernel.wait_for_exit(Duration::from_secs(10)).await?,
            Some(0)
        );
        Ok(())
    })
}

#[test]
fn control_has_busy_and_idle_of_its_own() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let message = request("kernel_info_request", json!({}));
        let id = message.header.msg_id.clone();
        kernel.control.send(message).await?;
        kernel.wait_for_status(&id, "busy").await?;
        kernel.wait_for_status(&id, "idle").await
    })
}

#[test]
fn interrupts_keep_what_can_be_kept() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        kernel.run("let survivor = 41;").await?.ok()?;

        // A loop of the prelude's kind looks for interrupts: it stops at once and nothing is lost.
        let code = "println!(\"started\"); loop { glassbox_prelude::session::check_interrupt()?; }";
        let id = kernel
            .send("execute_request", json!({ "code": code }))
            .await?;
        kernel.wait_for_text(&id, "started").await?;
        let asked = Instant::now();
        assert_eq!(
            kernel.ask_control("interrupt_request", json!({})).await?["status"],
            "ok"
        );
        let ran = kernel.finish(&id).await?;
        assert_eq!(ran.reply["status"], "error");
        ensure!(
            asked.elapsed() < Duration::from_secs(3),
            "the cell took {:?} to stop",
            asked.elapsed()
        );
        assert_eq!(
            plain(
                kernel
                    .run("survivor + 1")
                    .await?
                    .ok()?
                    .first("execute_result")
            ),
            "42"
        );

        // A loop that does not look is stopped a little later, and nothing that it did not change is lost.
        if cfg!(target_arch = "x86_64") {
            let spinning = "println!(\"spinning\"); loop { std::hint::black_box(1); }";
            let id = kernel
                .send("execute_request", json!({ "code": spinning }))
                .await?;
            kernel.wait_for_text(&id, "spinning").await?;
            // However often the button is pressed meanwhile.
            for _ in 0..3 {
                kernel.ask_control("interrupt_request", json!({})).await?;
            }
            let ran = kernel.finish(&id).await?;
            assert_eq!(ran.reply["ename"], "Interrupted");
            let kept = kernel.run("survivor + 1").await?.ok()?;
            assert_eq!(plain(kept.first("execute_result")), "42");
        }

        // A call that does not return goes on; the user is told, and the second interrupt ends the child.
        let waiting =
            "println!(\"waiting\"); std::thread::sleep(std::time::Duration::from_secs(600));";
        let id = kernel
            .send("execute_request", json!({ "code": waiting }))
            .await?;
        kernel.wait_for_text(&id, "waiting").await?;
        kernel.ask_control("interrupt_request", json!({})).await?;
        kernel.wait_for_text(&id, "Interrupt again").await?;
        kernel.ask_control("interrupt_request", json!({})).await?;
        let ran = kernel.finish(&id).await?;
        assert_eq!(ran.reply["status"], "error");
        let report = ran.reply["traceback"].to_string();
        assert!(
            report.contains("survivor"),
            "the loss is not named: {report}"
        );
        assert_eq!(
            plain(kernel.run("42").await?.ok()?.first("execute_result")),
            "42"
        );

        // An interrupt with nothing running changes nothing.
        kernel.ask_control("interrupt_request", json!({})).await?;
        assert_eq!(
            plain(kernel.run("6 * 7").await?.ok()?.first("execute_result")),
            "42"
        );

        // Shutdown does not wait for a cell.
        let id = kernel
            .send(
                "execute_request",
                json!({ "code": "println!(\"busy\"); loop { std::hint::black_box(1); }" }),
            )
            .await?;
        kernel.wait_for_text(&id, "busy").await?;
        kernel
            .ask_control("shutdown_request", json!({ "restart": true }))
            .await?;
        kernel.wait_for_exit(Duration::from_secs(10)).await?;
        Ok(())
    })
}

#[test]
fn a_wrong_signature_or_a_malformed_message_changes_nothing() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let forged = ConnectionInfo {
            key: "a wrong key".to_owned(),
            ..kernel.connection.clone()
        };
        let identity = peer_identity_for_session("forger")?;
        let mut shell =
            create_client_shell_connection_with_identity(&forged, "forger", identity).await?;
        shell
            .send(request(
                "execute_request",
                json!({ "code": "let planted = 1;" }),
            ))
            .await?;
        let mut control = create_client_control_connection(&forged, "forger").await?;
        control
            .send(request("shutdown_request", json!({ "restart": false })))
            .await?;

        use zeromq::{Socket as _, SocketSend as _};
        let mut raw = zeromq::DealerSocket::new();
        raw.connect(&kernel.connection.shell_url()).await?;
        for frames in [
            vec![""],
            vec!["<IDS|MSG>"],
            vec!["<IDS|MSG>", "zz"],
            vec!["<IDS|MSG>", "00", "{", "{}", "{}", "{}"],
        ] {
            let mut message = zeromq::ZmqMessage::from("an identity");
            frames
                .into_iter()
                .for_each(|frame| message.push_back(frame.as_bytes().to_vec().into()));
            raw.send(message).await?;
        }

        // Fields that the protocol asks for may be missing, and unknown requests get no answer: neither is an end.
        kernel.send("no_such_request", json!({ "x": 1 })).await?;
        assert_eq!(
            kernel.ask("is_complete_request", json!({})).await?["status"],
            "complete"
        );
        let ran = kernel.run("planted").await?;
        assert_eq!(
            ran.reply["status"], "error",
            "a cell with a wrong signature was run"
        );
        assert_eq!(ran.reply["execution_count"], 1);
        assert_eq!(
            plain(kernel.run("42").await?.ok()?.first("execute_result")),
            "42"
        );

        kernel
            .ask_control("shutdown_request", json!({ "restart": false }))
            .await?;
        kernel.wait_for_exit(Duration::from_secs(10)).await?;
        let log = kernel.log()?;
        assert!(log.contains("wrong signature"), "{log}");
        Ok(())
    })
}

#[test]
fn what_threads_say_between_cells_is_shown_under_their_cell() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        let code = "std::thread::spawn(|| { let sleep = || std::thread::sleep(std::time::Duration::from_millis(300)); sleep();\n\
                    for n in 0..2000 { println!(\"line {n}\"); } let mut live = display_live(&MimeBundle::text(\"a\")); sleep();\n\
                    live.update(&MimeBundle::text(\"b\")); sleep(); sleep(); sleep(); println!(\"end\"); });";
        let first = kernel
            .send("execute_request", json!({ "code": code }))
            .await?;
        assert!(kernel.finish(&first).await?.outputs.is_empty());
        // While no cell runs, then while one does.
        kernel.wait_for_text(&first, "line 1999\n").await?;
        loop {
            let (kind, parent, content) = kernel.next_output().await?;
            if kind == "update_display_data" {
                assert_eq!((parent.as_str(), plain(&content)), (first.as_str(), "b"));
                break;
            }
        }
        let second = kernel
            .send("execute_request", json!({ "code": "println!(\"own\"); std::thread::sleep(std::time::Duration::from_millis(1500));" }))
            .await?;
        let (mut own, mut late) = (String::new(), String::new());
        loop {
            let (kind, parent, content) = kernel.next_output().await?;
            let text = content["text"].as_str().unwrap_or("");
            match kind.as_str() {
                "stream" if parent == second => own += text,
                "stream" if parent == first => late += text,
                "status" if parent == second && content["execution_state"] == "idle" => break,
                _ => {}
            }
        }
        assert_eq!((own.as_str(), late.as_str()), ("own\n", "end\n"));
        Ok(())
    })
}

/// What is sent, the type of the answer, and words of it.
type Unreadable = (&'static str, Vec<u8>, &'static str, &'static str);

#[test]
fn what_cannot_be_read_gets_an_answer_too() -> Result<()> {
    block_on(async {
        use zeromq::{SocketRecv as _, SocketSend as _};
        let mut kernel = Kernel::start().await?;
        kernel.run("let kept = 1;").await?.ok()?;
        let deep = format!(
            r#"{{"code":"1","x":{}{}}}"#,
            "[".repeat(400),
            "]".repeat(400)
        );
        let text = |text: &str| text.as_bytes().to_vec();
        let cases: Vec<Unreadable> = vec![
            (
                "execute_request",
                text(r#"{"code":"\"\ud83d\""}"#),
                "execute_reply",
                "surrogate",
            ),
            (
                "execute_request",
                text(r#"{"code":"1","user_expressions":{"a":"\udc00"}}"#),
                "execute_reply",
                "surrogate",
            ),
            (
                "execute_request",
                text(r#"{"code":["1"]}"#),
                "execute_reply",
                "`code`",
            ),
            (
                "execute_request",
                text(r#"{"code":"1","silent":"x"}"#),
                "execute_reply",
                "`silent`",
            ),
            ("execute_request", text("{}"), "execute_reply", "`code`"),
            ("execute_request", text("[1]"), "execute_reply", "a list"),
            (
                "execute_request",
                deep.into_bytes(),
                "execute_reply",
                "nested too deep",
            ),
            (
                "execute_request",
                vec![0x22, 0xff, 0x22],
                "execute_reply",
                "UTF-8",
            ),
            (
                "complete_request",
                text(r#"{"code":5,"cursor_pos":1}"#),
                "complete_reply",
                "`code`",
            ),
            (
                "inspect_request",
                text(r#"{"code":"x","cursor_pos":"y"}"#),
                "inspect_reply",
                "`cursor_pos`",
            ),
            (
                "is_complete_request",
                text(r#"{"code":"\ud800"}"#),
                "is_complete_reply",
                "surrogate",
            ),
            (
                "history_request",
                text(r#"{"hist_access_type":"tail","n":"ten"}"#),
                "history_reply",
                "`n`",
            ),
            (
                "kernel_info_request",
                text("7"),
                "kernel_info_reply",
                "a number",
            ),
            (
                "comm_info_request",
                text(r#"{"target_name":1}"#),
                "comm_info_reply",
                "`target_name`",
            ),
            ("no_such_request", text("{}"), "no_such_reply", "not known"),
            ("nonsense", text("{}"), "nonsense_reply", "not known"),
        ];
        let key = kernel.connection.key.clone();
        for control in [false, true] {
            for (number, (kind, content, answer, words)) in cases.iter().enumerate() {
                let id = format!("{kind} {number} {control}");
                let header = json!({
                    "msg_id": id, "session": "s", "username": "u", "date": "2024-01-01T00:00:00Z", "msg_type": kind,
                    "version": "5.4",
                });
                let header = header.to_string();
                let metadata = if number % 2 == 0 { "[]" } else { "{}" };
                let mut message = signed(
                    &key,
                    [header.as_bytes(), b"{}", metadata.as_bytes(), content],
                );
                message.push_back(vec![1, 2, 3].into());
                let socket = match control {
                    true => &mut kernel.control.socket,
                    false => &mut kernel.shell.socket,
                };
                socket.send(message).await?;
                let reply = tokio::time::timeout(Duration::from_secs(20), socket.recv()).await;
                let (got, parent, content) =
                    parts_of(reply.with_context(|| format!("no answer to {id}"))??)?;
                assert_eq!((got.as_str(), &parent["msg_id"]), (*answer, &json!(id)));
                assert_eq!(content["status"], "error", "{id}: {content:#}");
                let said = content["evalue"].as_str().unwrap_or("");
                assert!(said.contains(words), "{id}: {said}");
                kernel.wait_for_status(&id, "busy").await?;
                kernel.wait_for_status(&id, "idle").await?;
            }
        }
        // A header that lacks what it should have is answered as far as it goes; one without a type by an error.
        for (header, answer) in [
            (
                r#"{"msg_id":"short","msg_type":"is_complete_request"}"#,
                "is_complete_reply",
            ),
            (r#"{"msg_id":"no type"}"#, "error"),
            (
                r#"{"msg_id":7,"msg_type":"is_complete_request","date":"yesterday"}"#,
                "is_complete_reply",
            ),
            ("[]", "error"),
        ] {
            let message = signed(
                &key,
                [header.as_bytes(), b"null", b"null", br#"{"code":"1"}"#],
            );
            kernel.shell.socket.send(message).await?;
            let reply =
                tokio::time::timeout(Duration::from_secs(20), kernel.shell.socket.recv()).await;
            let (got, _, _) = parts_of(reply.with_context(|| format!("no answer to {header}"))??)?;
            assert_eq!(got, answer, "{header}");
        }
        // The execution count is not used up, and the session is as it was.
        let ran = kernel.run("kept + 41").await?.ok()?;
        assert_eq!(plain(ran.first("execute_result")), "42");
        assert_eq!(ran.reply["execution_count"], 2);
        Ok(())
    })
}

#[test]
fn the_kernel_ends_with_its_parent() -> Result<()> {
    block_on(async {
        let mut parent = std::process::Command::new("sleep").arg("600").spawn()?;
        let pid = parent.id().to_string();
        let kernel = Kernel::start_with(&[("JPY_PARENT_PID", &pid)]).await;
        let mut kernel = match kernel {
            Ok(kernel) => kernel,
            Err(error) => {
                parent.kill()?;
                return Err(error);
            }
        };
        assert_eq!(
            kernel.ask("kernel_info_request", json!({})).await?["status"],
            "ok"
        );
        parent.kill()?;
        parent.wait()?;
        assert_eq!(
            kernel.wait_for_exit(Duration::from_secs(20)).await?,
            Some(0)
        );
        Ok(())
    })
}

#[test]
fn a_connection_file_that_is_none_is_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("connection.json");
    std::fs::write(&file, "{\"ip\": \"127.0.0.1\"}")?;
    for path in [&file, &folder.path().join("missing.json")] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_glassbox"))
            .args(["kernel", "--connection-file"])
            .arg(path)
            .output()?;
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(&path.display().to_string()) && !said.contains("panicked"),
            "{said}"
        );
    }
    Ok(())
}
