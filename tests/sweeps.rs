//! `glassbox sweep` and `glassbox runs` as a shell sees them: here, as a job array of a stand-in scheduler, and of Slurm where it answers.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const STEPS: usize = 4;

fn command(program: &str, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn glassbox(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    texts(
        &command(env!("CARGO_BIN_EXE_glassbox"), arguments, folder)
            .output()
            .unwrap(),
    )
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    (code, text(&output.stdout), text(&output.stderr))
}

/// A folder with the file of a run in it; its name has what scripts stumble over.
fn folder(steps: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::Builder::new()
        .prefix("sweep's 100% of #")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let path = folder.path().canonicalize().unwrap();
    let text = format!(
        "output = \"runs/first try\"\n[model]\npreset = \"tiny\"\ndevice = \"cpu\"\n[data]\nkind = \"shapes\"\ntrain = 16\nvalidation = 8\n\
         [trainer]\nsteps = {steps}\nbatch_size = 2\nlearning_rate = 0.003\nvalidate_every = {STEPS}\nvalidation_samples = 4\n\
         [evaluate]\nwatch = 0\n"
    );
    std::fs::write(path.join("run.toml"), text).unwrap();
    (folder, path)
}

fn steps(run: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["step"].as_u64().unwrap()).collect()
}

/// PATH with the stand-in scheduler first.
fn with_stand_in(command: &mut Command) -> &mut Command {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slurm");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", own.display()))
}

/// Every run of the table, with its state.
fn states(table: &str) -> Vec<(&str, &str)> {
    let words = table.lines().map(|line| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        let state = ["finished", "waits", "failed", "interrupted", "running"]
            .into_iter()
            .find(|state| words.contains(state));
        (words.first().copied().unwrap_or_default(), state)
    });
    words
        .filter_map(|(number, state)| Some((number, state?)))
        .filter(|(number, _)| number.len() == 3 && number.parse::<u32>().is_ok())
        .collect()
}

#[test]
fn a_sweep_trains_here_goes_on_and_says_what_failed() {
    let (_kept, folder) = folder(STEPS);
    let over = ["--over", "seed=1,2", "--over", "trainer.batch_size=2,4"];
    let sweep = |more: &[&str]| {
        let all: Vec<&str> = ["sweep", "run.toml"]
            .into_iter()
            .chain(over)
            .chain(more.iter().copied())
            .collect();
        glassbox(&all, &folder)
    };
    let (code, stdout, stderr) = sweep(&[]);
    assert_eq!(code, 0, "{stderr}");
    let finished: Vec<(&str, &str)> = ["000", "001", "002", "003"]
        .map(|one| (one, "finished"))
        .into();
    assert_eq!(states(&stdout), finished, "{stdout}");
    assert!(
        stdout.contains("seed") && stdout.contains("trainer.batch_size"),
        "{stdout}"
    );
    let (code, _, stderr) = sweep(&[]);
    assert_eq!(code, 5, "{stderr}");
    assert!(
        stderr.contains("runs/first try") && stderr.contains("--resume"),
        "{stderr}"
    );

    // Two runs are gone, and the file of one is another: the rest stay as they are, and the table is shown all the same.
    let sweep_folder = folder.join("runs/first try");
    for number in ["001", "002"] {
        let run = sweep_folder.join(number);
        std::fs::remove_dir_all(run.join("checkpoints")).unwrap();
        for file in ["run.json", "log.jsonl"] {
            std::fs::remove_file(run.join(file)).unwrap();
        }
    }
    let file = sweep_folder.join("002/run.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("kind = \"shapes\"", "kind = \"coco\"")).unwrap();
    let (code, stdout, stderr) = sweep(&["--resume"]);
    assert_eq!(
        code, 5,
        "the file of a run is another one: {stdout}{stderr}"
    );
    let (code, stdout, stderr) = glassbox(&["sweep", "runs/first try"], &folder);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(
        stderr.contains("run 2 failed") && stderr.contains("2 (seed=2, trainer.batch_size=2)"),
        "{stderr}"
    );
    let expected = [
        ("000", "finished"),
        ("001", "finished"),
        ("002", "waits"),
        ("003", "finished"),
    ];
    assert_eq!(states(&stdout), expected, "{stdout}");
    std::fs::write(&file, text).unwrap();
    let (code, stdout, stderr) = glassbox(&["sweep", "runs/first try", "--task", "2"], &folder);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("002") && stdout.contains("finished"),
        "{stdout}"
    );
    let (code, stdout, stderr) = glassbox(&["runs", "runs/first try"], &folder);
    assert_eq!((code, states(&stdout)), (0, finished), "{stderr}");
    // Of a folder that holds more than a sweep, all runs are listed.
    let (code, stdout, _) = glassbox(&["runs", "runs"], &folder);
    assert!(code == 0 && stdout.contains("4 runs in runs"), "{stdout}");
}

#[test]
fn what_is_wrong_with_a_sweep_is_said_and_nothing_is_written() {
    let (_kept, folder) = folder(STEPS);
    for (arguments, expected, why) in [
        (vec!["run.toml"], 3, "--over"),
        (
            vec!["run.toml", "--over", "trainer.stepz=1,2"],
            3,
            "did you mean `steps`",
        ),
        (
            vec!["run.toml", "--over", "trainer.steps=1,none"],
            3,
            "trainer.steps=none",
        ),
        (
            vec!["run.toml", "--over", "seed=1", "--task", "0"],
            2,
            "--over",
        ),
        (vec!["run.toml", "--task", "0"], 2, "no folder"),
        (
            vec!["run.toml", "--over", "seed=1", "--time", "5"],
            2,
            "--slurm",
        ),
        (
            vec![
                "run.toml", "--over", "seed=1", "--slurm", "a", "--time", "2h",
            ],
            2,
            "2h",
        ),
        (
            vec![
                "run.toml",
                "--over",
                "seed=1",
                "--slurm",
                "a",
                "--sbatch=--array=1",
            ],
            2,
            "--array",
        ),
        (vec!["missing.toml", "--over", "seed=1"], 3, "missing.toml"),
        (vec![".", "--task", "0"], 3, "holds no sweep"),
        (vec![".", "--over", "seed=1"], 2, "leave --over"),
    ] {
        let all: Vec<&str> = ["sweep"].into_iter().chain(arguments.clone()).collect();
        let (code, stdout, stderr) = glassbox(&all, &folder);
        assert_eq!(code, expected, "{arguments:?}: {stdout}{stderr}");
        assert!(stderr.contains(why), "{arguments:?}: {stderr}");
    }
    assert!(!folder.join("runs").exists() && !folder.join("a").exists());
    let (code, _, stderr) = glassbox(&["runs", "."], &folder);
    assert!(code == 1 && stderr.contains("holds no run"), "{stderr}");
}

/// Writes the script for a sweep over two axes.
fn script(folder: &Path) -> String {
    let (code, stdout, stderr) = glassbox(
        &[
            "sweep",
            "run.toml",
            "--over",
            "trainer.learning_rate=1e-3,3e-3",
            "--over",
            "seed=1,2",
            "--slurm",
            "sweep.sbatch",
            "--array-limit",
            "2",
            "--time",
            "60",
        ],
        folder,
    );
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("sbatch sweep.sbatch"), "{stdout}");
    let (_, table, _) = glassbox(&["runs", "runs/first try"], folder);
    let waiting = ["000", "001", "002", "003"].map(|one| (one, "waits"));
    assert_eq!(states(&table), waiting, "{table}");
    std::fs::read_to_string(folder.join("sweep.sbatch")).unwrap()
}

/// All runs are finished, and each is the one of its number.
fn check_array(folder: &Path) {
    let (code, table, stderr) = glassbox(&["runs", "runs/first try"], folder);
    assert_eq!(code, 0, "{stderr}");
    let finished = ["000", "001", "002", "003"].map(|one| (one, "finished"));
    assert_eq!(states(&table), finished, "{table}");
    for (number, rate, seed) in [(0, 1e-3, 1), (1, 1e-3, 2), (2, 3e-3, 1), (3, 3e-3, 2)] {
        let run = folder.join(format!("runs/first try/{number:03}"));
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(run.join(name)).unwrap()).unwrap()
        };
        let (about, config) = (read("run.json"), read("config.json"));
        assert_eq!(about["seed"], seed, "{number}");
        assert_eq!(config["trainer"]["learning_rate"], rate, "{number}");
        assert_eq!(steps(&run), (1..=STEPS as u64).collect::<Vec<_>>());
    }
    let logs = std::fs::read_dir(folder.join("runs/first try/logs")).unwrap();
    assert_eq!(logs.count(), 4, "a log for each task");
}

#[test]
fn the_script_runs_as_a_job_array_of_a_stand_in() {
    let (_kept, folder) = folder(STEPS);
    let text = script(&folder);
    assert!(text.contains("#SBATCH --array=0-3%2"), "{text}");
    let mut sbatch = command("sbatch", &["sweep.sbatch"], &folder);
    let (code, stdout, stderr) = texts(&with_stand_in(&mut sbatch).output().unwrap());
    assert_eq!(code, 0, "{stdout}{stderr}");
    check_array(&folder);
    let (code, _, stderr) = glassbox(&["sweep", "runs/first try", "--slurm", "again"], &folder);
    assert!(
        code == 5 && stderr.contains("nothing to submit"),
        "{stderr}"
    );
    // Submitted again: what is finished stays as it is.
    let before = std::fs::read(folder.join("runs/first try/002/run.json")).unwrap();
    let mut sbatch = command("sbatch", &["sweep.sbatch"], &folder);
    let (code, _, stderr) = texts(&with_stand_in(&mut sbatch).output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    let after = std::fs::read(folder.join("runs/first try/002/run.json")).unwrap();
    assert!(before == after, "a finished run was trained again");
}

/// A task that is told of its time limit saves, queues again and goes on; one that is ended stays as it is. Steps are none too few
/// and none twice.
#[test]
fn a_task_that_reaches_its_time_limit_goes_on_in_another_turn() {
    // So many that none of the turns ends by itself.
    let (_kept, folder) = folder(1_000_000);
    let arguments = [
        "sweep",
        "run.toml",
        "--over",
        "seed=3",
        "--slurm",
        "sweep.sbatch",
    ];
    let (code, _, stderr) = glassbox(&arguments, &folder);
    assert_eq!(code, 0, "{stderr}");
    let run = folder.join("runs/first try/000");
    let mut sbatch = command("sbatch", &["sweep.sbatch"], &folder);
    let warn = format!("{} 2", run.join("log.jsonl").display());
    let sbatch = with_stand_in(&mut sbatch).env("STAND_IN_WARN", warn);
    let (code, stdout, stderr) = texts(&sbatch.output().unwrap());
    let log = std::fs::read_to_string(folder.join("runs/first try/logs/70_0.log")).unwrap();
    assert_eq!(code, 130, "{stdout}{stderr}{log}");
    assert_eq!(log.matches("(seed=3) begins").count(), 1, "{log}");
    assert_eq!(log.matches("(seed=3) goes on").count(), 2, "{log}");
    let made = steps(&run);
    assert!(made.len() >= 9, "three turns of three steps: {made:?}");
    assert_eq!(made, (1..=made.len() as u64).collect::<Vec<_>>());
    let (_, table, _) = glassbox(&["runs", "runs/first try"], &folder);
    assert_eq!(states(&table), [("000", "interrupted")], "{table}");
}

#[test]
fn the_script_runs_as_a_job_array_of_slurm() {
    let answers = Command::new("sinfo").arg("--noheader").output();
    if !answers.is_ok_and(|output| output.status.success() && !output.stdout.is_empty()) {
        // Past the harness, which hides what a test that passes prints.
        let said = "NOT RUN: no Slurm answers here (`sinfo`)";
        drop(writeln!(std::io::stderr(), "{said}"));
        return;
    }
    let (_kept, folder) = folder(STEPS);
    script(&folder);
    let output = command("sbatch", &["--wait", "sweep.sbatch"], &folder);
    let (code, stdout, stderr) = texts(&{ output }.output().unwrap());
    assert_eq!(code, 0, "{stdout}{stderr}");
    check_array(&folder);
}
