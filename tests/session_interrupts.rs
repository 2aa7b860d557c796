//! Interrupting cells whose own code looks for no interrupt: one request stops them, and what they could not have changed is kept.
//! On other machines the prelude stops nothing by force, so that there is nothing to test.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::print_stdout)] // a figure for whoever reads the log

mod session_support;

use std::time::Duration;

use glassbox::session::{CellError, CellErrorKind, Interrupted};
use session_support::{TestSession, stderr, stdout};

/// A session whose process has this id.
fn start() -> (TestSession, String) {
    let mut session = TestSession::start();
    let process = session.result_of("std::process::id()");
    (session, process)
}

/// Runs a cell that one interrupt stops, in good time, in the process that goes on.
fn stopped(session: &mut TestSession, code: &str) -> CellError {
    let (run, _) = session.run_interrupted(&format!("println!(\"begun\");\n{code}"), 1);
    let error = run.outcome.status.clone().unwrap_err();
    assert_eq!(error.kind, CellErrorKind::Interrupted, "{run:#?}");
    assert!(!error.state.restarted, "{run:#?}");
    assert!(run.outcome.duration < Duration::from_secs(30), "{run:#?}");
    error
}

#[test]
fn a_tight_loop_is_stopped_and_loses_only_what_it_was_changing() {
    let (mut session, process) = start();
    session
        .run("let survivor = vec![String::from(\"a\")]; let mut looked_at = 5; let read = 7_u64;");
    session.run("let mut changed = 0_u64;");
    let error = stopped(
        &mut session,
        "let made = 1; loop { changed = changed.wrapping_add(read); }",
    );
    assert_eq!(error.state.lost, ["changed"]);
    assert_eq!(error.state.kept, ["looked_at", "read", "survivor"]);
    assert_eq!(error.state.not_stored, ["made"]);
    assert!(error.evalue.contains("looks for no interrupt"), "{error}");
    assert_eq!(session.result_of("survivor.len() as u64 + read"), "8");
    assert_eq!(session.result_of("std::process::id()"), process);
    // Its fate is a panic's: `:replay` brings it back.
    assert_eq!(error.state.replayable, 1);
    session.run(":replay");
    assert_eq!(session.result_of("changed"), "0");
}

#[test]
fn a_loop_of_calls_is_stopped_between_two_of_them_and_loses_nothing() {
    let (mut session, process) = start();
    session.run("let mut words: Vec<String> = Vec::new(); let ones = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;");
    let code = "loop {\n    words.push(format!(\"{}\", ones.sum_all()?.to_scalar::<f32>()?));\n    \
                std::thread::sleep(std::time::Duration::from_millis(20));\n}";
    let error = stopped(&mut session, code);
    assert_eq!(error.state.kept, ["ones", "words"]);
    assert_eq!(
        session.result_of("words.len() > 10 && words.iter().all(|word| *word == words[0])"),
        "true"
    );
    // The next one is stopped too, also while it waits for a long time in one call.
    let error = stopped(
        &mut session,
        "words.clear();\nstd::thread::sleep(std::time::Duration::from_secs(4));\nwords.push(String::new());",
    );
    assert_eq!(error.state.kept, ["ones", "words"]);
    assert_eq!(session.result_of("words.len()"), "0");
    // Cells that end by themselves are as ever.
    session.run("words.push(String::from(\"last\")); panic!(\"on purpose\");");
    assert_eq!(session.result_of("words.len()"), "1");
    assert_eq!(session.result_of("std::process::id()"), process);
}

#[test]
fn what_a_cell_took_is_lost_when_it_is_stopped() {
    let (mut session, _) = start();
    session.run("let given = String::from(\"a\"); let shared = std::sync::Arc::new(1);");
    let error = stopped(
        &mut session,
        "let mine = given;\nlet other = shared.clone();\nloop { std::hint::black_box((&mine, &other)); }",
    );
    assert_eq!(error.state.lost, ["given"]);
    assert_eq!(error.state.kept, ["shared"]);
    // What the cell had on its stack is leaked, its own handle of the shared value with it.
    assert_eq!(
        session.result_of("std::sync::Arc::strong_count(&shared)"),
        "2"
    );
}

#[test]
fn threads_of_a_stopped_cell_go_on() {
    let (mut session, process) = start();
    session.run("use std::sync::atomic::{AtomicU64, Ordering::Relaxed};\nlet ticks = std::sync::Arc::new(AtomicU64::new(0));");
    let code = "let counted = ticks.clone();\nstd::thread::spawn(move || loop { counted.fetch_add(1, Relaxed); });\n\
                loop { std::thread::sleep(std::time::Duration::from_millis(5)); }";
    let error = stopped(&mut session, code);
    assert_eq!(error.state.kept, ["ticks"]);
    let go_on = "let before = ticks.load(Relaxed); std::thread::sleep(std::time::Duration::from_millis(200)); ticks.load(Relaxed) > before";
    assert_eq!(session.result_of(go_on), "true");
    assert_eq!(session.result_of("std::process::id()"), process);
}

/// Who looks stops in its own way, however long that takes.
#[test]
fn who_looks_is_not_cut_short() {
    let (mut session, _) = start();
    session.run("let mut steps: Vec<i32> = Vec::new();");
    let code = "loop {\n    if glassbox_prelude::session::interrupted() {\n        \
                std::thread::sleep(std::time::Duration::from_secs(3));\n        steps.push(1);\n        check_interrupt()?;\n    }\n}";
    let error = stopped(&mut session, code);
    assert!(error.evalue.contains("is kept"), "{error}");
    assert_eq!(session.result_of("steps.len()"), "1");
}

/// A model whose training step takes seconds on two cores: that of SmolLM2-135M if GLASSBOX_FULL_SIZE is set, else one of a third.
fn real_step() -> String {
    let (width, layers, heads) = match std::env::var_os("GLASSBOX_FULL_SIZE") {
        Some(_) => (576, 30, 9),
        None => (384, 16, 6),
    };
    let hidden = width * 8 / 3;
    format!(
        "let device = Device::Cpu;\n\
         let mut parts = VlmParts::tiny(&device)?;\n\
         let config = r#\"{{\"model_type\":\"phi3\",\"vocab_size\":49152,\"hidden_size\":{width},\"intermediate_size\":{hidden},\
         \"num_hidden_layers\":{layers},\"num_attention_heads\":{heads},\"tie_word_embeddings\":true}}\"#;\n\
         parts.llm = Decoder::new_random(&DecoderConfig::from_bytes(config.as_bytes(), \"config.json\".as_ref())?, 1, &device)?;\n\
         let config = r#\"{{\"model_type\":\"vit\",\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":2,\
         \"num_attention_heads\":2,\"image_size\":256,\"patch_size\":16,\"num_channels\":3,\"qkv_bias\":true}}\"#;\n\
         parts.image_encoder = Vit::new_random(&ViTConfig::from_json(config, \"config.json\".as_ref())?, 1, &device)?.into();\n\
         let mut settings = VlmSettings::tiny();\n\
         settings.llm_lora = Some(LoraConfig {{ lora_dropout: 0.1, ..LoraConfig::new(8, 16.0, &[\"gate_up_proj\", \"down_proj\"]) }});\n\
         let vlm = Vlm::new(parts, settings, 1)?;\n\
         let pixels = Tensor::arange(0f32, 196608f32, &device)?.sin()?.reshape((1, 3, 256, 256))?;\n\
         let data = vec![(pixels, vec![\"a yellow star above a red circle\".to_string()])];\n\
         let config = || TrainerConfig {{ steps: 2, batch_size: 4, validation_samples: 1, validate_every: 0, \
         loss: LossKind::FullSequence, ..TrainerConfig::default() }};\n\
         fn values(vlm: &Vlm) -> Vec<f32> {{ vlm.trainable_parameters().iter().map(|p| \
         p.tensor.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).collect() }}\n\
         let mut trainer = Trainer::new(config())?;"
    )
}

#[test]
fn a_step_of_a_real_model_is_interrupted_between_layers_and_leaves_nothing_half_done() {
    let (mut session, process) = start();
    let run = session.run(&real_step());
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    session.run("let before = values(&vlm);");
    let mut longest = Duration::ZERO;
    for tenths in [5, 12, 20, 30] {
        let interrupter = session.session.interrupter();
        let asked = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100 * tenths));
            interrupter.interrupt();
            std::time::Instant::now()
        });
        let run = session.run("trainer.fit(&vlm, &data, &data)?;");
        let waited = asked.join().unwrap().elapsed();
        let Err(error) = &run.outcome.status else {
            // A fast machine was through before; then there is no later moment to try either.
            break;
        };
        assert_eq!(error.kind, CellErrorKind::Interrupted, "{run:#?}");
        assert!(
            !error.state.restarted && error.state.lost.is_empty(),
            "{run:#?}"
        );
        longest = longest.max(waited);
        if session.result_of("trainer.step()") == "0" {
            assert_eq!(session.result_of("values(&vlm) == before"), "true");
        }
    }
    println!("longest wait for an answer: {longest:?}");
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    // It goes on with the numbers that it would have had, also those that dropout draws.
    let run = session.run("trainer.fit(&vlm, &data, &data)?;");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(session.result_of("trainer.step()"), "2");
    let code = real_step()
        .replace("let vlm =", "let other =")
        .replace("let mut trainer", "let mut fresh");
    let run = session.run(&format!("{code}\nfresh.fit(&other, &data, &data)?;"));
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(session.result_of("values(&other) == values(&vlm)"), "true");
    assert_eq!(session.result_of("std::process::id()"), process);
}

#[test]
fn a_backward_pass_of_the_cell_s_own_is_interrupted_as_that() {
    let (mut session, _) = start();
    let run = session.run(&real_step());
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let code = "loop {\n    let loss = vlm.full_sequence_loss(&data[0].0, &data[0].1)?.loss;\n    \
                let gradients = loss.backward()?;\n    assert!(gradients.get_ids().count() > 0);\n}";
    let error = stopped(&mut session, code);
    assert!(
        error.evalue.contains("everything made so far is kept"),
        "{error}"
    );
}

/// What is finished before a cell stops is neither stopped by force nor ended, however often somebody asks.
#[test]
fn a_cell_has_the_time_that_it_says_it_needs_to_stop() {
    let (mut session, process) = start();
    let code = "println!(\"begun\");
let mut steps = 0_u64;
{
    let _saving = stopping_takes(std::time::Duration::from_secs(100), \"saving the model\");
    let begin = std::time::Instant::now();
    // It looks for no interrupt, and is told of none where something in it does.
    while begin.elapsed().as_secs() < 5 {
        steps = steps.wrapping_add(1);
        check_interrupt()?;
    }
    println!(\"saved\");
}
check_interrupt()?;
println!(\"never\");";
    let (run, answers) = session.run_interrupted(code, 4);
    assert_eq!(answers[0], Interrupted::Asked);
    let finishing = |answer: &Interrupted| matches!(answer, Interrupted::Finishing(left) if left.as_secs() > 80);
    assert!(answers[1..].iter().all(finishing), "{answers:?}");
    let error = run.outcome.status.clone().unwrap_err();
    assert_eq!(error.kind, CellErrorKind::Interrupted, "{run:#?}");
    assert!(!error.state.restarted, "{run:#?}");
    let said = stderr(&run);
    assert_eq!(
        said.matches("stopping, up to 2 min: saving the model\n")
            .count(),
        1,
        "{said}"
    );
    let printed = stdout(&run);
    assert!(
        printed.contains("saved") && !printed.contains("never"),
        "{printed}"
    );
    assert_eq!(session.result_of("std::process::id()"), process);
    // Said after the interrupt came.
    let code = "println!(\"begun\");
while check_interrupt().is_ok() {}
let _saving = stopping_takes(std::time::Duration::from_secs(20), \"writing it down\");
std::thread::sleep(std::time::Duration::from_secs(3));
println!(\"written\");";
    let (run, answers) = session.run_interrupted(code, 3);
    assert_eq!(answers[0], Interrupted::Asked);
    assert!(
        matches!(answers[2], Interrupted::Finishing(_)),
        "{answers:?}"
    );
    assert!(
        run.outcome.status.is_ok() && stdout(&run).contains("written"),
        "{run:#?}"
    );
    assert!(
        stderr(&run).contains("stopping, up to 20 s: writing it down"),
        "{run:#?}"
    );
    // Who needs longer than it said is ended as before.
    let code = "println!(\"begun\");
let _short = stopping_takes(std::time::Duration::from_millis(100), \"a moment\");
std::thread::sleep(std::time::Duration::from_secs(20));";
    let (run, answers) = session.run_interrupted(code, 2);
    assert_eq!(answers, [Interrupted::Asked, Interrupted::Killed]);
    assert!(run.outcome.duration < Duration::from_secs(10), "{run:#?}");
    // Saving says so by itself, and what is saved is whole.
    session.run("let vlm = Vlm::tiny(&Device::Cpu)?; let folder = std::env::temp_dir().join(format!(\"glassbox_saved_{}\", std::process::id()));");
    let code = "println!(\"begun\");
let begin = std::time::Instant::now();
while begin.elapsed().as_secs() < 3 { vlm.save(&folder)?; }
Vlm::tiny(&Device::Cpu)?.load_fine_tune(&folder)?;
std::fs::remove_dir_all(&folder)?;";
    let (run, _) = session.run_interrupted(code, 1);
    // It is stopped between two calls, or not at all.
    if let Err(error) = &run.outcome.status {
        assert_eq!(error.kind, CellErrorKind::Interrupted, "{run:#?}");
        assert!(!error.state.restarted, "{run:#?}");
        let check = session.run(
            "Vlm::tiny(&Device::Cpu)?.load_fine_tune(&folder)?; std::fs::remove_dir_all(&folder)?;",
        );
        assert!(check.outcome.status.is_ok(), "{check:#?}");
    }
}
