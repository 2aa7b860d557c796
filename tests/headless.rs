//! `glassbox train` and `glassbox evaluate` as a shell sees them: real sessions, the built binary, drawn shapes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const STEPS: usize = 40;

fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn glassbox(arguments: &[&str], folder: &Path) -> Output {
    command(arguments, folder).output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A run on a few pictures that are drawn in memory.
fn config(output: &str) -> String {
    format!(
        "output = \"{output}\"\nseed = 5\n[model]\npreset = \"tiny\"\ndevice = \"cpu\"\n[settings]\nvit_lora = \"none\"\n\
         [data]\nkind = \"shapes\"\ntrain = 40\nvalidation = 12\n\
         [trainer]\nsteps = {STEPS}\nbatch_size = 4\nlearning_rate = 0.003\nvalidate_every = 10\nvalidation_samples = 8\n\
         [evaluate]\npictures = 12\nmax_new_tokens = 12\n"
    )
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn losses(run: &Path) -> Vec<(u64, String, Option<String>)> {
    let step = |line: &Value| {
        (
            line["step"].as_u64().unwrap(),
            line["loss"].to_string(),
            line.get("validation_loss").map(Value::to_string),
        )
    };
    lines(&run.join("log.jsonl")).iter().map(step).collect()
}

fn interrupt(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &id])
            .status()
            .unwrap()
            .success()
    );
}

/// Begins a run and stops it once it has made a few steps.
fn stopped(arguments: &[&str], folder: &Path, run: &Path, signal: &str) -> Output {
    let child = command(arguments, folder).spawn().unwrap();
    let begun = Instant::now();
    let before = lines(&run.join("log.jsonl")).len();
    while lines(&run.join("log.jsonl")).len() < before + 3 {
        assert!(
            begun.elapsed() < Duration::from_secs(900),
            "no step was made"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    interrupt(&child, signal);
    child.wait_with_output().unwrap()
}

#[test]
fn a_run_trains_stops_goes_on_and_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    let folder: PathBuf = folder.path().canonicalize().unwrap();
    std::fs::write(folder.join("whole.toml"), config("runs/whole")).unwrap();
    std::fs::write(folder.join("parts.toml"), config("runs/parts")).unwrap();

    let whole = glassbox(&["train", "whole.toml"], &folder);
    let (stdout, stderr) = texts(&whole);
    assert_eq!(whole.status.code(), Some(0), "{stderr}");
    assert!(
        stdout.contains("training run") && stdout.contains(&format!("{STEPS}")),
        "{stdout}"
    );
    assert!(
        !stderr.contains('\r') && !stderr.contains('\u{1b}'),
        "{stderr:?}"
    );
    assert!(
        stderr.contains(&format!("step {STEPS}/{STEPS}")) && stderr.contains("validation"),
        "{stderr}"
    );
    let run = folder.join("runs/whole");
    assert_eq!(losses(&run).len(), STEPS);
    for file in [
        "run.toml",
        "config.json",
        "curve.svg",
        "captions.jsonl",
        "model/settings.json",
    ] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    let about: Value =
        serde_json::from_slice(&std::fs::read(run.join("run.json")).unwrap()).unwrap();
    assert_eq!(about["state"], "finished");
    assert_eq!(about["seed"], 5);
    assert!(
        about["data"][0]["hash"].is_string() && about["versions"]["candle-core"].is_string(),
        "{about}"
    );

    // Stopped twice, once as a person does and once as a batch system does.
    let run = folder.join("runs/parts");
    for (arguments, signal) in [
        (vec!["train", "parts.toml"], "-INT"),
        (vec!["train", "parts.toml", "--resume"], "-TERM"),
    ] {
        let output = stopped(&arguments, &folder, &run, signal);
        let (_, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        let made = losses(&run).len();
        assert!(
            made < STEPS && stderr.contains(&format!("stopped after step {made} of {STEPS}")),
            "{stderr}"
        );
        let about: Value =
            serde_json::from_slice(&std::fs::read(run.join("run.json")).unwrap()).unwrap();
        assert_eq!(about["state"], "interrupted");
    }
    let again = glassbox(&["train", "parts.toml"], &folder);
    let (_, stderr) = texts(&again);
    assert_eq!(again.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("--resume goes on with it"), "{stderr}");
    let other = config("runs/parts").replace("0.003", "0.004");
    std::fs::write(folder.join("other.toml"), other).unwrap();
    let other = glassbox(&["train", "other.toml", "--resume"], &folder);
    let (_, stderr) = texts(&other);
    assert_eq!(other.status.code(), Some(5), "{stderr}");
    assert!(
        stderr.contains("trainer.learning_rate was 0.003 and is 0.004"),
        "{stderr}"
    );
    let rest = glassbox(&["train", "parts.toml", "--resume"], &folder);
    let (_, stderr) = texts(&rest);
    assert_eq!(rest.status.code(), Some(0), "{stderr}");
    assert_eq!(
        losses(&run),
        losses(&folder.join("runs/whole")),
        "as if it had never stopped"
    );

    for named in ["runs/parts", "parts.toml"] {
        let scores = glassbox(&["evaluate", named], &folder);
        let (stdout, stderr) = texts(&scores);
        assert_eq!(scores.status.code(), Some(0), "{stderr}");
        for word in [
            "BLEU-1",
            "BLEU-4",
            "ROUGE-L",
            "CIDEr-D",
            "METEOR",
            "exact",
            "perplexity",
            "the model",
            "blind (black picture)",
            "another picture",
            "most frequent caption",
            "12 pictures",
        ] {
            assert!(stdout.contains(word), "{word} is not in\n{stdout}");
        }
        assert!(!stdout.contains('\r') && !stderr.contains('\r'));
        assert_eq!(
            std::fs::read_to_string(run.join("scores.txt"))
                .unwrap()
                .trim_end(),
            stdout.trim_end()
        );
    }

    let best = glassbox(&["evaluate", "runs/parts", "--checkpoint", "best"], &folder);
    let (stdout, stderr) = texts(&best);
    assert_eq!(best.status.code(), Some(0), "{stderr}");
    assert!(stdout.contains("the best by validation_loss"), "{stdout}");
    assert!(run.join("scores-best.txt").exists());
    let unknown = glassbox(
        &["evaluate", "runs/parts", "--checkpoint", "first"],
        &folder,
    );
    assert_eq!(unknown.status.code(), Some(2));
    assert!(texts(&unknown).1.contains("step-100"));
}

#[test]
fn a_wrong_file_ends_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let misspelled = config("runs/a").replace("learning_rate", "lerning_rate");
    std::fs::write(folder.join("a.toml"), misspelled).unwrap();
    let output = glassbox(&["train", "a.toml"], folder);
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("a.toml, line 15: trainer.lerning_rate")
            && stderr.contains("did you mean `learning_rate`"),
        "{stderr}"
    );
    assert!(stdout.is_empty() && !folder.join("runs").exists());

    let missing = glassbox(&["train", "no.toml"], folder);
    assert_eq!(missing.status.code(), Some(3), "{}", texts(&missing).1);
    std::fs::write(folder.join("b.toml"), config("runs/b")).unwrap();
    let nothing = glassbox(&["evaluate", "b.toml"], folder);
    let (_, stderr) = texts(&nothing);
    assert_eq!(nothing.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no trained model"), "{stderr}");
    let nothing = glassbox(&["train", "b.toml", "--resume"], folder);
    let (_, stderr) = texts(&nothing);
    assert_eq!(nothing.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("no run to go on with"), "{stderr}");
}
