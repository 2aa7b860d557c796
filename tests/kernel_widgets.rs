//! Controls in the built kernel: what a browser is told, and what happens when it moves them.

mod kernel_client;

use anyhow::{Context as _, Result, bail, ensure};
use kernel_client::{Kernel, Output, Ran};
use serde_json::{Value, json};

const VIEW: &str = "application/vnd.jupyter.widget-view+json";

/// A kernel whose first cell is over: where the prelude had to be built, that one says so.
async fn started() -> Result<Kernel> {
    let mut kernel = Kernel::start().await?;
    kernel.run("()").await?.ok()?;
    Ok(kernel)
}

/// What the kernel sends on iopub because of one message, up to `idle`.
async fn caused(kernel: &mut Kernel, id: &str) -> Result<Vec<Output>> {
    let mut outputs = Vec::new();
    loop {
        let (kind, parent, content) = kernel.next_output().await?;
        match kind.as_str() {
            _ if parent != id => {}
            "status" if content["execution_state"] == "idle" => return Ok(outputs),
            "status" => {}
            _ => outputs.push((kind, content)),
        }
    }
}

async fn say(kernel: &mut Kernel, comm: &str, data: Value) -> Result<Vec<Output>> {
    let id = kernel
        .send("comm_msg", json!({ "comm_id": comm, "data": data }))
        .await?;
    caused(kernel, &id).await
}

fn moved_to(value: Value) -> Value {
    json!({ "method": "update", "state": { "value": value }, "buffer_paths": [] })
}

/// The comm of the model that a cell has shown.
fn shown(ran: &Ran) -> Result<String> {
    let view = ran
        .outputs
        .iter()
        .find_map(|(_, content)| content["data"][VIEW]["model_id"].as_str());
    Ok(view.context("no control was shown")?.to_owned())
}

/// The comm that a cell opened for the first model of this name.
fn opened(ran: &Ran, model: &str) -> Result<String> {
    let found = ran.outputs.iter().find(|(kind, content)| {
        kind == "comm_open" && content["data"]["state"]["_model_name"] == model
    });
    let id = found.and_then(|(_, content)| content["comm_id"].as_str());
    Ok(id
        .with_context(|| format!("no {model} was opened"))?
        .to_owned())
}

fn plain(output: &Output) -> &str {
    output.1["data"]["text/plain"].as_str().unwrap_or_default()
}

async fn open_comms(kernel: &mut Kernel) -> Result<Vec<String>> {
    let info = kernel
        .ask(
            "comm_info_request",
            json!({ "target_name": "jupyter.widget" }),
        )
        .await?;
    let comms = info["comms"].as_object().context("no comms in the reply")?;
    Ok(comms.keys().cloned().collect())
}

const INTERACT: &str = r#"
let slider = Slider::new("temperature", 0.0..=2.0).starting_at(0.5);
interact(&slider, |t| {
    if t > 1.9 { panic!("too hot"); }
    if t > 1.5 { return Err(Error::Interrupted); }
    Ok(MimeBundle::text(format!("at {t}")))
})?;
"#;

#[tokio::test]
async fn a_moved_slider_makes_its_view_anew_in_its_place() -> Result<()> {
    let mut kernel = started().await?;
    let ran = kernel.run(INTERACT).await?.ok()?;
    // All widgets are told of before the column of them is shown, and the view comes last.
    let [before @ .., "display_data", "display_data"] = &ran.kinds()[..] else {
        bail!("{:?}", ran.kinds());
    };
    assert!(before.iter().all(|kind| *kind == "comm_open"));
    assert_eq!(shown(&ran)?, opened(&ran, "VBoxModel")?);
    let [control, view] = [before.len(), before.len() + 1].map(|at| &ran.outputs[at].1);
    let comm = opened(&ran, "FloatSliderModel")?;
    let opened = &ran.outputs[2].1;
    assert_eq!(
        (&opened["comm_id"], &opened["target_name"]),
        (&json!(comm), &json!("jupyter.widget"))
    );
    let state = &opened["data"]["state"];
    assert_eq!(
        (&state["_model_name"], &state["_model_module_version"]),
        (&json!("FloatSliderModel"), &json!("2.0.0"))
    );
    assert_eq!((&state["value"], &state["max"]), (&json!(0.5), &json!(2.0)));
    assert_eq!(
        state["style"],
        format!(
            "IPY_MODEL_{}",
            ran.outputs[1].1["comm_id"].as_str().unwrap_or_default()
        )
    );
    // Who can't show a control sees what it is.
    assert!(
        control["data"]["text/html"]
            .as_str()
            .is_some_and(|html| html.contains("temperature"))
    );
    let place = view["transient"]["display_id"].clone();
    let caption = view["data"]["text/html"].as_str().unwrap_or_default();
    ensure!(caption.contains("temperature = 0.5"), "{caption}");
    assert!(place.is_string());

    let outputs = say(&mut kernel, &comm, moved_to(json!(1))).await?;
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    assert_eq!(
        (outputs[0].0.as_str(), plain(&outputs[0])),
        ("update_display_data", "at 1")
    );
    assert_eq!(outputs[0].1["transient"]["display_id"], place);
    // The variable is the slider that was moved.
    assert_eq!(
        plain(&kernel.run("slider.value()").await?.ok()?.outputs[0]),
        "1.0"
    );

    // A value out of bounds is put right in the browser too; where it leads to a panic, that is shown and nothing is lost.
    let outputs = say(&mut kernel, &comm, moved_to(json!(99))).await?;
    let kinds: Vec<&str> = outputs.iter().map(|output| output.0.as_str()).collect();
    assert_eq!(kinds, ["comm_msg", "update_display_data", "error"]);
    assert_eq!(outputs[0].1["data"]["state"]["value"], 2.0);
    assert!(plain(&outputs[1]).contains("panicked"));
    assert_eq!(
        (&outputs[2].1["ename"], &outputs[2].1["evalue"]),
        (&json!("Panic"), &json!("too hot"))
    );
    let outputs = say(&mut kernel, &comm, moved_to(json!(1.6))).await?;
    assert!(plain(&outputs[0]).contains("interrupted"), "{outputs:?}");
    let outputs = say(&mut kernel, &comm, moved_to(json!(0.25))).await?;
    assert_eq!(plain(&outputs[0]), "at 0.25");

    // Moved from a cell, the browser's half follows.
    let ran = kernel.run("slider.set_value(1.25)?;").await?.ok()?;
    assert_eq!(ran.kinds(), ["comm_msg", "update_display_data"]);
    assert_eq!(ran.outputs[0].1["data"]["state"]["value"], 1.25);
    Ok(())
}

#[tokio::test]
async fn what_is_moved_while_a_cell_runs_waits_and_only_the_last_counts() -> Result<()> {
    let mut kernel = started().await?;
    let comm = opened(&kernel.run(INTERACT).await?.ok()?, "FloatSliderModel")?;
    let cell = kernel
        .send("execute_request", json!({ "code": "println!(\"begun\"); std::thread::sleep(std::time::Duration::from_millis(400)); slider.value()" }))
        .await?;
    kernel.wait_for_text(&cell, "begun").await?;
    let mut sent = Vec::new();
    for tenth in 0..10 {
        let content = json!({ "comm_id": comm, "data": moved_to(json!(f64::from(tenth) / 10.0)) });
        sent.push(kernel.send("comm_msg", content).await?);
    }
    let next = kernel
        .send("execute_request", json!({ "code": "slider.value()" }))
        .await?;
    let mut updates = Vec::new();
    let mut idle = 0;
    loop {
        let (kind, parent, content) = kernel.next_output().await?;
        match kind.as_str() {
            // The cell that ran sees the value from before.
            "execute_result" if parent == cell => assert_eq!(content["data"]["text/plain"], "0.5"),
            "execute_result" if parent == next => {
                assert_eq!(content["data"]["text/plain"], "0.9");
                break;
            }
            "update_display_data" => updates.push(content["data"]["text/plain"].clone()),
            "status" if content["execution_state"] == "idle" && sent.contains(&parent) => idle += 1,
            _ => {}
        }
    }
    // Messages that came in while the first of them was at work may have been looked at singly.
    assert_eq!(updates.last(), Some(&json!("at 0.9")), "{updates:?}");
    assert!(updates.len() < 10, "{updates:?}");
    assert_eq!(idle, 10, "each message is answered");
    Ok(())
}

#[tokio::test]
async fn a_list_and_a_button_run_their_code_and_a_page_can_be_loaded_again() -> Result<()> {
    let mut kernel = started().await?;
    let ran = kernel
        .run("let list = Select::new(\"picture\", [\"real\", \"black\"]); list.on_change(|name| { println!(\"chosen: {name}\"); Ok(()) }); list")
        .await?
        .ok()?;
    let list = shown(&ran)?;
    let ran = kernel
        .run("let button = Button::new(\"again\"); button.on_click(|| Err(Error::Interrupted)); button")
        .await?
        .ok()?;
    let button = shown(&ran)?;
    let outputs = say(
        &mut kernel,
        &list,
        json!({ "method": "update", "state": { "index": 1 } }),
    )
    .await?;
    assert_eq!(outputs[0].1["text"], "chosen: black\n");
    let outputs = say(
        &mut kernel,
        &button,
        json!({ "method": "custom", "content": { "event": "click" } }),
    )
    .await?;
    assert_eq!(
        outputs
            .iter()
            .map(|output| output.0.as_str())
            .collect::<Vec<_>>(),
        ["error"]
    );
    assert_eq!(
        plain(&kernel.run("button.clicks()").await?.ok()?.outputs[0]),
        "1"
    );

    let outputs = say(&mut kernel, &list, json!({ "method": "request_state" })).await?;
    assert_eq!(outputs[0].1["data"]["state"]["index"], 1);
    let id = kernel
        .send(
            "comm_open",
            json!({ "comm_id": "page", "target_name": "jupyter.widget.control", "data": {} }),
        )
        .await?;
    assert_eq!(caused(&mut kernel, &id).await?, []);
    let outputs = say(&mut kernel, "page", json!({ "method": "request_states" })).await?;
    let states = &outputs[0].1["data"]["states"];
    assert_eq!(outputs[0].1["data"]["method"], "update_states");
    assert_eq!(states[&list]["model_name"], "DropdownModel");
    assert_eq!(states[&button]["state"]["description"], "again");
    assert_eq!(states.as_object().map(|all| all.len()), Some(6));
    Ok(())
}

/// A page that was loaded while the session started waited for it, and gave up.
#[tokio::test]
async fn a_page_without_controls_waits_for_no_cell() -> Result<()> {
    let mut kernel = started().await?;
    let code = json!({ "code": "println!(\"begun\"); std::thread::sleep(std::time::Duration::from_secs(2));" });
    let cell = kernel.send("execute_request", code).await?;
    kernel.wait_for_text(&cell, "begun").await?;
    let page = json!({ "comm_id": "page", "target_name": "jupyter.widget.control", "data": {} });
    kernel.send("comm_open", page).await?;
    let asking = json!({ "comm_id": "page", "data": { "method": "request_states" } });
    let asked = kernel.send("comm_msg", asking).await?;
    loop {
        let (kind, parent, content) = kernel.next_output().await?;
        ensure!(
            parent != cell || content["execution_state"] != "idle",
            "the cell ended first"
        );
        if parent == asked && kind == "comm_msg" {
            let told = json!({ "method": "update_states", "states": {}, "buffer_paths": [] });
            assert_eq!(content, json!({ "comm_id": "page", "data": told }));
            break;
        }
    }
    Ok(())
}

#[tokio::test]
async fn comms_end_with_their_process_and_unknown_ones_change_nothing() -> Result<()> {
    let mut kernel = started().await?;
    let ran = kernel.run(INTERACT).await?.ok()?;
    let comm = opened(&ran, "FloatSliderModel")?;
    let open = ran
        .kinds()
        .iter()
        .filter(|kind| **kind == "comm_open")
        .count();
    assert_eq!(open_comms(&mut kernel).await?.len(), open);

    for (kind, content) in [
        (
            "comm_msg",
            json!({ "comm_id": "nobody", "data": moved_to(json!(1)) }),
        ),
        ("comm_msg", json!({})),
        ("comm_msg", json!({ "comm_id": comm, "data": [1, null] })),
        (
            "comm_msg",
            json!({ "comm_id": comm, "data": { "method": "update", "state": { "value": "text" } } }),
        ),
        (
            "comm_msg",
            json!({ "comm_id": comm, "data": { "method": 7 } }),
        ),
        ("comm_close", json!({ "comm_id": "nobody" })),
    ] {
        let id = kernel.send(kind, content.clone()).await?;
        assert_eq!(caused(&mut kernel, &id).await?, [], "{kind} {content}");
    }
    let id = kernel
        .send(
            "comm_open",
            json!({ "comm_id": "x", "target_name": "other", "data": {} }),
        )
        .await?;
    assert_eq!(
        caused(&mut kernel, &id).await?,
        [(
            "comm_close".to_owned(),
            json!({ "comm_id": "x", "data": {} })
        )]
    );
    assert_eq!(
        plain(&kernel.run("slider.value()").await?.ok()?.outputs[0]),
        "0.5"
    );

    // The browser takes one away.
    let style = ran.outputs[1].1["comm_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let id = kernel
        .send("comm_close", json!({ "comm_id": style, "data": {} }))
        .await?;
    caused(&mut kernel, &id).await?;
    assert_eq!(open_comms(&mut kernel).await?.len(), open - 1);

    let ran = kernel.run("std::process::abort()").await?;
    let closed: Vec<&Output> = ran
        .outputs
        .iter()
        .filter(|output| output.0 == "comm_close")
        .collect();
    ensure!(closed.len() == open - 1, "{:?}", ran.kinds());
    assert_eq!(open_comms(&mut kernel).await?.len(), 0);
    // A page that has not heard of it yet.
    assert_eq!(say(&mut kernel, &comm, moved_to(json!(1))).await?, []);
    kernel.run("1 + 1").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn after_a_page_was_loaded_again_the_view_stands_in_a_widget_too() -> Result<()> {
    let mut kernel = started().await?;
    let ran = kernel.run(INTERACT).await?.ok()?;
    let (slider, html) = (
        opened(&ran, "FloatSliderModel")?,
        opened(&ran, "HTMLModel")?,
    );
    let to_html = |outputs: &[Output]| {
        let said = outputs.iter().find(|output| output.1["comm_id"] == html);
        said.map(|output| output.1["data"]["state"]["value"].to_string())
    };
    let outputs = say(&mut kernel, &slider, moved_to(json!(1))).await?;
    assert_eq!(to_html(&outputs), None, "the page has the view itself");
    let page = json!({ "comm_id": "page", "target_name": "jupyter.widget.control", "data": {} });
    let id = kernel.send("comm_open", page).await?;
    caused(&mut kernel, &id).await?;
    say(&mut kernel, "page", json!({ "method": "request_states" })).await?;
    let outputs = say(&mut kernel, &slider, moved_to(json!(0.25))).await?;
    let told = to_html(&outputs).context("the new page is not told of the view")?;
    ensure!(
        told.contains("at 0.25") && told.contains("temperature = 0.25"),
        "{told}"
    );
    Ok(())
}
