//! What we save, as transformers and PEFT read it: `scripts/peer/read_saved_decoders.py`. It needs Python with torch, transformers and
//! PEFT (see `python`); where there is none, the test says so.

use crate::peer::root;
use crate::python::{MISSING, transformers_5};
use crate::{Outcome, folder, load, not_run};
use glassbox_prelude::lora::{TaskType, load_adapter, save_adapter};

const MODELS: [&str; 10] = [
    "llama_tied_biased",
    "llama_rope_llama3",
    "llama_rope_yarn",
    "mistral",
    "qwen2_windows",
    "qwen3",
    "phi",
    "phi_grouped",
    "phi3_partial",
    "gemma3",
];

#[test]
fn transformers_and_peft_read_what_was_saved_and_compute_the_same() -> Outcome {
    let Some(mut command) = transformers_5()? else {
        not_run(MISSING);
        return Ok(());
    };
    let saved = tempfile::tempdir()?;
    command
        .arg(root().join("scripts/peer/read_saved_decoders.py"))
        .arg(folder(""));
    for name in MODELS {
        let place = saved.path().join(name);
        load(name)?.save(&place)?;
        command.arg(format!("{name}={}", place.display()));
    }
    let mut llama = load("llama")?;
    load_adapter(&mut llama, folder("llama_adapter"))?;
    let adapter = saved.path().join("adapter");
    save_adapter(&llama, TaskType::CausalLm, Some("llama"), &adapter)?;
    let expected = folder("llama_adapter/expected.safetensors");
    command.arg("--adapter").arg(format!(
        "llama={}={}",
        adapter.display(),
        expected.display()
    ));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert_eq!(said.lines().count(), MODELS.len() + 1, "{said}");
    Ok(())
}
