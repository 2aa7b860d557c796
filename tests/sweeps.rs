//! `glassbox sweep` and `glassbox runs` as a shell sees them: here, as a job array of a stand-in scheduler, and of Slurm where it answers.

mod session_support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use session_support::exported::{mpi_environment, mpi_folders};

const STEPS: usize = 4;
/// What does not happen by then hangs.
const HANG: Duration = Duration::from_secs(300);

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
    let run = endless(&folder);
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

/// A process and all that descend from it.
fn tree(root: u32) -> Vec<u32> {
    let parent = |process: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // pid (name) state parent …; the name may hold spaces.
        let after = stat.rsplit(')').next()?;
        after.split_whitespace().nth(1)?.parse().ok()
    };
    let listed = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<(u32, u32)> = listed
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, parent(process)?)))
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let own = found[at];
        found.extend(all.iter().filter(|one| one.1 == own).map(|one| one.0));
        at += 1;
    }
    found
}

/// Writes the script of a sweep of one run that ends by no step of its own; gives the run's folder.
fn endless(folder: &Path) -> PathBuf {
    let arguments = [
        "sweep",
        "run.toml",
        "--over",
        "seed=3",
        "--slurm",
        "sweep.sbatch",
    ];
    let (code, _, stderr) = glassbox(&arguments, folder);
    assert_eq!(code, 0, "{stderr}");
    folder.join("runs/first try/000")
}

fn trains(run: &Path, said: &Path) {
    let begun = Instant::now();
    let made = || std::fs::read_to_string(run.join("log.jsonl")).unwrap_or_default();
    while made().matches('\n').count() < 3 {
        let said = || std::fs::read_to_string(said).unwrap_or_default();
        assert!(begun.elapsed() < HANG, "no step is made: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The run was stopped, and its last step is in what was saved.
fn check_stopped(folder: &Path, run: &Path, said: &str) {
    let made = steps(run);
    assert_eq!(made, (1..=made.len() as u64).collect::<Vec<_>>());
    let stopped = format!("stopped after step {} of", made.len());
    assert!(said.contains(&stopped), "{stopped} is not in {said}");
    assert!(run.join("model").is_dir(), "{said}");
    let (_, table, _) = glassbox(&["runs", "runs/first try"], folder);
    assert_eq!(states(&table), [("000", "interrupted")], "{table}");
}

/// A plain `scancel` sends SIGTERM to a task's script and to every process that it started, and the script passes on the one that it got. The second
/// signal ended the program while it saved, and that to the process of the cells ended the training at once.
#[test]
fn a_plain_scancel_of_a_task_saves_its_last_step() {
    let (_kept, folder) = folder(1_000_000);
    let run = endless(&folder);
    let log = folder.join("task.log");
    let file = std::fs::File::create(&log).unwrap();
    let mut task = Command::new("bash")
        .arg("sweep.sbatch")
        .current_dir(&folder)
        .env("SLURM_ARRAY_TASK_ID", "0")
        .env("SLURM_NTASKS", "1")
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    trains(&run, &log);
    let begun = Instant::now();
    let code = loop {
        let processes = tree(task.id());
        for process in processes {
            // SAFETY: no memory is involved; the processes are the task's, whose own is not waited for yet.
            unsafe { libc::kill(process as i32, libc::SIGTERM) };
        }
        // A user who is impatient, which ends nothing either.
        std::thread::sleep(Duration::from_millis(100));
        if let Some(status) = task.try_wait().unwrap() {
            break status.code();
        }
        assert!(begun.elapsed() < HANG, "it does not stop");
    };
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(code, Some(130), "{said}");
    check_stopped(&folder, &run, &said);
}

/// The training losses of a run, each of which all ranks have shared.
fn losses(run: &Path, ranks: usize) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    let records = text.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        let waited = record["waited_for_ranks"].as_array().map_or(1, Vec::len);
        assert_eq!(waited, ranks, "{line}");
        record["loss"].as_f64().unwrap()
    });
    records.collect()
}

/// Writes the script of a sweep of runs that two ranks share.
fn shared(folder: &Path, seeds: &str, launcher: &str) {
    let (code, _, stderr) = glassbox(
        &[
            "sweep",
            "run.toml",
            "--over",
            &format!("seed={seeds}"),
            "--slurm",
            "sweep.sbatch",
            "--ntasks",
            "2",
            "--launcher",
            launcher,
        ],
        folder,
    );
    assert_eq!(code, 0, "{stderr}");
}

/// Every run of two seeds is finished, with the losses that one process has.
fn check_shared(folder: &Path) {
    let (code, table, stderr) = glassbox(&["runs", "runs/first try"], folder);
    assert_eq!(code, 0, "{stderr}");
    let finished = ["000", "001"].map(|one| (one, "finished"));
    assert_eq!(states(&table), finished, "{table}");
    let alone = [
        "sweep", "run.toml", "--over", "seed=1,2", "--output", "alone",
    ];
    let (code, _, stderr) = glassbox(&alone, folder);
    assert_eq!(code, 0, "{stderr}");
    for number in ["000", "001"] {
        let two = losses(&folder.join("runs/first try").join(number), 2);
        let one = losses(&folder.join("alone").join(number), 1);
        assert_eq!((one.len(), two.len()), (STEPS, STEPS));
        for (one, two) in one.iter().zip(two) {
            assert!((one - two).abs() <= 1e-6 * one, "{number}: {one} {two}");
        }
    }
}

#[test]
fn runs_shared_by_two_ranks_are_those_of_one_process_and_go_on_after_their_time_limit() {
    for bin in mpi_folders() {
        let (_kept, folder) = folder(STEPS);
        shared(&folder, "1,2", "mpirun --bind-to none");
        let submit = |folder: &Path, warn: &str| {
            let mut sbatch = command("sbatch", &["sweep.sbatch"], folder);
            sbatch.envs(mpi_environment(&bin));
            let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slurm");
            let [(_, path), ..] = mpi_environment(&bin);
            sbatch.env("PATH", format!("{}:{path}", own.display()));
            if !warn.is_empty() {
                sbatch.env("STAND_IN_WARN", warn);
            }
            texts(&sbatch.output().unwrap())
        };
        let (code, stdout, stderr) = submit(&folder, "");
        let said = std::fs::read_to_string(folder.join("runs/first try/logs/70_0.log"));
        assert_eq!(code, 0, "{bin:?}: {stdout}{stderr}{said:?}");
        check_shared(&folder);

        let (_kept, folder) = self::folder(1_000_000);
        shared(&folder, "3", "mpirun --bind-to none");
        let run = folder.join("runs/first try/000");
        let warn = format!("{} 1", run.join("log.jsonl").display());
        let (code, stdout, stderr) = submit(&folder, &warn);
        let said = std::fs::read_to_string(folder.join("runs/first try/logs/70_0.log")).unwrap();
        assert_ne!(code, 0, "{stdout}{stderr}{said}");
        assert_eq!(said.matches("(seed=3) begins").count(), 1, "{said}");
        assert_eq!(said.matches("(seed=3) goes on").count(), 1, "{said}");
        assert_eq!(said.matches("stopped after step").count(), 2, "{said}");
        assert_eq!(losses(&run, 2).len(), steps(&run).len());
        check_stopped(&folder, &run, &said);
    }
}

#[test]
fn runs_shared_by_two_ranks_of_srun_are_those_of_one_process() {
    if !slurm_answers() {
        return;
    }
    let known = Command::new("srun").arg("--mpi=list").output().unwrap();
    let known = String::from_utf8_lossy(&known.stdout).into_owned();
    for bin in mpi_folders() {
        let open = bin.join("prte").exists() || bin.join("ompi_info").exists();
        let kind = if open { "pmix" } else { "pmi2" };
        if !known.contains(kind) {
            let said = format!("NOT RUN: srun knows no {kind}: {known}");
            drop(writeln!(std::io::stderr(), "{said}"));
            continue;
        }
        let (_kept, folder) = folder(STEPS);
        shared(&folder, "1,2", &format!("srun --mpi={kind}"));
        let mut sbatch = command("sbatch", &["--wait", "sweep.sbatch"], &folder);
        let (code, stdout, stderr) = texts(&sbatch.envs(mpi_environment(&bin)).output().unwrap());
        let logs = std::fs::read_dir(folder.join("runs/first try/logs")).unwrap();
        let said: Vec<String> = logs
            .flatten()
            .map(|log| std::fs::read_to_string(log.path()).unwrap())
            .collect();
        assert_eq!(code, 0, "{bin:?}: {stdout}{stderr}{said:#?}");
        check_shared(&folder);
    }
}

/// Whether a Slurm answers; says so where none does.
fn slurm_answers() -> bool {
    let answers = Command::new("sinfo").arg("--noheader").output();
    if answers.is_ok_and(|output| output.status.success() && !output.stdout.is_empty()) {
        return true;
    }
    // Past the harness, which hides what a test that passes prints.
    let said = "NOT RUN: no Slurm answers here (`sinfo`)";
    drop(writeln!(std::io::stderr(), "{said}"));
    false
}

#[test]
fn slurms_own_scancel_of_a_task_saves_its_last_step() {
    if !slurm_answers() {
        return;
    }
    let (_kept, folder) = folder(1_000_000);
    let run = endless(&folder);
    let submit = command("sbatch", &["--parsable", "sweep.sbatch"], &folder);
    let (code, job, stderr) = texts(&{ submit }.output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    let job = job.trim();
    let log = folder.join(format!("runs/first try/logs/{job}_0.log"));
    trains(&run, &log);
    let (code, _, stderr) = texts(&command("scancel", &[job], &folder).output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    let begun = Instant::now();
    let queued = || {
        texts(
            &command("squeue", &["--noheader", "--jobs", job], &folder)
                .output()
                .unwrap(),
        )
        .1
    };
    while !queued().trim().is_empty() {
        assert!(begun.elapsed() < HANG, "it does not stop");
        std::thread::sleep(Duration::from_millis(200));
    }
    check_stopped(&folder, &run, &std::fs::read_to_string(&log).unwrap());
}

#[test]
fn the_script_runs_as_a_job_array_of_slurm() {
    if !slurm_answers() {
        return;
    }
    let (_kept, folder) = folder(STEPS);
    script(&folder);
    let output = command("sbatch", &["--wait", "sweep.sbatch"], &folder);
    let (code, stdout, stderr) = texts(&{ output }.output().unwrap());
    assert_eq!(code, 0, "{stdout}{stderr}");
    check_array(&folder);
}
