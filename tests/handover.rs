//! A cell hands its run over: to the built program in the background, to ranks under `mpirun`, to a stand-in scheduler.

mod session_support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use glassbox::session::{CellErrorKind, Event};
use session_support::exported::{compile_exported, mpi_environment, mpi_folders};
use session_support::{Run, TestSession, ok, stdout};

/// Far more than any machine makes during a test.
const ENDLESS: usize = 10_000_000;
/// What does not happen by then hangs.
const HANG: Duration = Duration::from_secs(300);

/// A folder for runs. What still trains in it when the test is over is ended.
struct Place {
    folder: PathBuf,
    _kept: tempfile::TempDir,
}

impl Place {
    /// Its name has what scripts stumble over.
    fn new() -> Place {
        Place::named("handed over's 100% of #")
    }

    fn named(prefix: &str) -> Place {
        let kept = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        Place {
            folder: kept.path().canonicalize().unwrap(),
            _kept: kept,
        }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The lines of a cell that describe a run.
    fn described(&self, name: &str, steps: usize) -> String {
        format!(
            "let trainer = TrainerSettings {{ steps: {steps}, batch_size: 4, validate_every: 10, validation_samples: 4, ..TrainerSettings::tour() }};\n\
             let mut data = DataConfig::shapes();\n\
             if let DataConfig::Shapes {{ train, validation, .. }} = &mut data {{ (*train, *validation) = (16, 8); }}\n\
             let run = RunConfig {{ trainer, ..RunConfig::new({:?}, ModelConfig::preset(\"tiny\"), data)? }};\n",
            self.run(name)
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for run in std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
        {
            let job = run.path().join("job");
            let process = std::fs::read_to_string(job.join("process")).unwrap_or_default();
            if let (false, Some(process)) = (job.join("exit").exists(), process.lines().next()) {
                let _ = std::process::Command::new("kill")
                    .args(["-9", process])
                    .status();
            }
        }
    }
}

fn steps(run: &Path) -> usize {
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap_or_default();
    log.matches('\n').count()
}

/// Waits until a run has made more than so many steps.
fn trains(run: &Path, than: usize) {
    let begun = Instant::now();
    while steps(run) <= than {
        let said = || std::fs::read_to_string(run.join("job/log.txt")).unwrap_or_default();
        assert!(begun.elapsed() < HANG, "no step is made: {}", said());
        assert!(!run.join("job/exit").exists(), "it ended: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the cell's displays show: how many there are, and the text of the last state.
fn shown(run: &Run) -> (usize, String) {
    let displays = run
        .events
        .iter()
        .filter(|event| matches!(event, Event::Display(_)));
    let count = displays.count();
    let mut texts = run.events.iter().filter_map(|event| match event {
        Event::Display(shown) | Event::Update(shown) => shown.plain(),
        _ => None,
    });
    (count, texts.next_back().unwrap_or_default().to_owned())
}

fn failure(session: &mut TestSession, code: &str) -> String {
    let run = session.run(code);
    match run.outcome.status {
        Err(error) => error.evalue,
        Ok(()) => panic!("{code} ended well: {:#?}", run.events),
    }
}

#[test]
fn a_run_that_a_cell_describes_trains_elsewhere_is_watched_and_loaded() {
    let place = Place::new();
    let mut session = TestSession::start();
    let code =
        place.described("first", 30) + "let job = run.hand_over(&Launch::here(), Resume::No)?;";
    ok(&mut session, &code);
    let watched = session.run("let trained = job.watch()?;");
    assert!(watched.outcome.status.is_ok(), "{watched:#?}");
    let (displays, last) = shown(&watched);
    assert_eq!(displays, 1, "one display, which changes: {watched:#?}");
    assert!(
        last.contains("step 30/30") && last.contains("validation"),
        "{last}"
    );
    assert_eq!(session.result_of("trained.records().len()"), "30");
    assert_eq!(
        session.result_of("job.status()?.state == JobState::Finished"),
        "true"
    );
    let shows = session.result_of("job.clone()");
    assert!(
        shows.contains("finished") && shows.contains("30 of 30"),
        "{shows}"
    );
    // The same numbers as in a cell, and a model that speaks.
    ok(
        &mut session,
        "let here = { let mut here = run.clone(); here.output.set_file_name(\"here\"); here.prepare(Resume::No)?; here.train(Resume::No)?; Run::open(here.output)? };",
    );
    let alike = "trained.records().iter().zip(here.records()).all(|(a, b)| a.loss == b.loss) && here.records().len() == 30";
    assert_eq!(session.result_of(alike), "true");
    ok(
        &mut session,
        "let vlm = job.load()?;\nlet said = vlm.generate(&Image::filled(64, 64, [200, 30, 40])?)?.max_new_tokens(3).run()?;",
    );
    let again = failure(&mut session, "run.hand_over(&Launch::here(), Resume::No)?");
    assert!(
        again.contains("holds a run already (30 of 30 steps"),
        "{again}"
    );
}

#[test]
fn a_run_goes_on_when_nobody_looks_is_found_again_and_stopped() {
    let place = Place::new();
    let run = place.run("long");
    let mut session = TestSession::start();
    let code =
        place.described("long", ENDLESS) + "let job = run.hand_over(&Launch::here(), Resume::No)?;";
    ok(&mut session, &code);
    trains(&run, 2);
    let (looked, _) = session.run_interrupted("job.watch()?", 1);
    let error = looked.outcome.status.clone().unwrap_err();
    assert_eq!(error.kind, CellErrorKind::Interrupted, "{looked:#?}");
    let (_, last) = shown(&looked);
    assert!(
        last.contains("goes on") && last.contains(".cancel()"),
        "{last}"
    );
    let busy = failure(&mut session, "run.hand_over(&Launch::here(), Resume::Yes)?");
    assert!(busy.contains("goes on: HandedOver::open"), "{busy}");
    let early = failure(&mut session, "job.load()?");
    assert!(early.contains("has not ended (running)"), "{early}");
    drop(session);

    // The session has ended, and with it all that belongs to it.
    trains(&run, steps(&run) + 2);
    let mut session = TestSession::start();
    ok(
        &mut session,
        &format!("let job = HandedOver::open({run:?})?;"),
    );
    assert_eq!(
        session.result_of("job.status()?.state == JobState::Running"),
        "true"
    );
    ok(&mut session, "job.cancel()?;");
    let watched = session.run("let stopped = job.watch()?;");
    assert!(watched.outcome.status.is_ok(), "{watched:#?}");
    assert_eq!(
        session.result_of("job.status()?.state == JobState::Stopped"),
        "true"
    );
    let made = steps(&run);
    assert_eq!(
        session.result_of("stopped.records().len()"),
        made.to_string()
    );
    ok(&mut session, "let vlm = job.load()?;\njob.cancel()?;");
    // And it goes on from where it stood.
    ok(
        &mut session,
        &(place.described("long", ENDLESS)
            + "let job = run.hand_over(&Launch::here(), Resume::Yes)?;"),
    );
    trains(&run, made);
    ok(&mut session, "job.cancel()?;\nlet stopped = job.watch()?;");
    let in_order = "stopped.records().iter().enumerate().all(|(at, one)| one.step == at + 1)";
    assert_eq!(session.result_of(in_order), "true");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let place = Place::new();
    let mut session = TestSession::start();
    ok(&mut session, &place.described("none", 5));
    for (code, why) in [
        (
            "run.hand_over(&Launch::here().program(\"no/glassbox\"), Resume::No)?",
            "no/glassbox is not found",
        ),
        (
            "run.hand_over(&Launch::here(), Resume::Yes)?",
            "holds no run to go on with",
        ),
        (
            "run.hand_over(&Launch::ranks(0), Resume::No)?",
            "at least 1 process",
        ),
        (
            "HandedOver::open(run.output.clone())?",
            "no run that a cell has handed over",
        ),
    ] {
        let said = failure(&mut session, code);
        assert!(said.contains(why), "{code}: {said}");
        assert!(!place.run("none").exists(), "nothing is written");
    }
    let found = std::process::Command::new("which").arg("sbatch").output();
    if found.is_ok_and(|output| !output.status.success()) {
        let said = failure(
            &mut session,
            "run.hand_over(&Launch::slurm(SlurmJob::default()), Resume::No)?",
        );
        assert!(said.contains("sbatch is not in PATH"), "{said}");
    }
    // A run that fails: its report is that of the program.
    let code = format!(
        "let missing = RunConfig::new({:?}, ModelConfig::preset(\"tiny\"), DataConfig::coco({:?}))?;\n\
         let job = missing.hand_over(&Launch::here(), Resume::No)?;",
        place.run("failed"),
        place.run("no-such-data")
    );
    ok(&mut session, &code);
    let said = failure(&mut session, "job.watch()?");
    assert!(
        said.contains("failed (exit code")
            && said.contains("error:")
            && said.contains("no-such-data"),
        "{said}"
    );
    assert_eq!(
        session.result_of("job.status()?.state == JobState::Failed"),
        "true"
    );
    assert!(failure(&mut session, "job.load()?").contains("no-such-data"));
}

#[test]
fn ranks_under_mpirun_train_what_a_cell_hands_over() {
    for bin in mpi_folders() {
        let place = Place::new();
        let mut session = TestSession::start();
        for (name, value) in mpi_environment(&bin) {
            let run = session.run(&format!(":env {name}={value}"));
            assert!(run.outcome.status.is_ok(), "{run:#?}");
        }
        let code = place.described("two", ENDLESS)
            + "let job = run.hand_over(&Launch::ranks(2), Resume::No)?;";
        ok(&mut session, &code);
        let run = place.run("two");
        trains(&run, 3);
        ok(&mut session, "job.cancel()?;\nlet stopped = job.watch()?;");
        assert_eq!(
            session.result_of("job.status()?.state == JobState::Stopped"),
            "true",
            "{bin:?}"
        );
        let shared = "stopped.records().iter().all(|one| one.waited_for_ranks.len() == 2)";
        assert_eq!(session.result_of(shared), "true");
        ok(&mut session, "let vlm = job.load()?;");
    }
}

/// What `:export` writes trains by ranks as it does alone, and ends on all of them where one fails.
#[test]
fn an_exported_program_trains_under_mpirun() {
    let installed = mpi_folders();
    if installed.is_empty() {
        return;
    }
    // A linker does not take the other kind of name.
    let place = Place::named("exported");
    let mut session = TestSession::start();
    ok(
        &mut session,
        &format!("std::env::set_current_dir({:?})?;", place.folder),
    );
    for cell in [
        "let rank = glassbox_prelude::parallel::world()?.rank();",
        "let vlm = Vlm::tiny(&Device::Cpu)?;\nlet mut set = Vec::new();\n\
         for at in 0..8u8 { set.push(Example::new(&Image::filled(64, 64, [at * 30, 30, 40])?, \"a square of some colour\")); }",
        "let mut trainer = Trainer::new(TrainerSettings { steps: 8, batch_size: 4, quiet: true, ..TrainerSettings::tour() })?;\n\
         if std::path::Path::new(\"fault\").exists() && rank == 1 { Err(Error::Input(\"this rank has no heart for it\".into()))?; }\n\
         trainer.fit(&vlm, &set, &set)?;",
        "let losses: Vec<String> = trainer.records().iter().map(|one| one.loss.to_string()).collect();\n\
         std::fs::write(format!(\"losses-{rank}\"), losses.join(\"\\n\"))?;",
    ] {
        ok(&mut session, cell);
    }
    let losses = |rank: usize| -> Vec<f64> {
        let text = std::fs::read_to_string(place.folder.join(format!("losses-{rank}"))).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let alone = losses(0);
    assert_eq!(alone.len(), 8);
    let project = place.folder.join("program");
    ok(&mut session, &format!(":export {}", project.display()));
    let program = compile_exported(&project, session.session.folder());
    let start = |bin: &Path| {
        let mut command = std::process::Command::new(bin.join("mpirun"));
        command
            .args(["--bind-to", "none", "-n", "2"])
            .arg(&program)
            .envs(mpi_environment(bin))
            .env_remove("LD_LIBRARY_PATH")
            .current_dir(&place.folder);
        command.output().unwrap()
    };
    for bin in installed {
        for rank in 0..2 {
            let _ = std::fs::remove_file(place.folder.join(format!("losses-{rank}")));
        }
        let ran = start(&bin);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{bin:?}: {said}");
        assert_eq!(losses(0), losses(1));
        for (one, two) in alone.iter().zip(losses(0)) {
            assert!((one - two).abs() <= 1e-6 * one, "{bin:?}: {one} {two}");
        }
        std::fs::write(place.folder.join("fault"), "").unwrap();
        let begun = Instant::now();
        let failed = start(&bin);
        assert!(!failed.status.success() && begun.elapsed() < HANG);
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(said.contains("no heart for it"), "{bin:?}: {said}");
        std::fs::remove_file(place.folder.join("fault")).unwrap();
    }
}

#[test]
fn a_stand_in_scheduler_trains_what_a_cell_hands_over() {
    let place = Place::new();
    let mut session = TestSession::start();
    let slurm = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slurm");
    let path = std::env::var("PATH").unwrap_or_default();
    let run = session.run(&format!(":env PATH={}:{path}", slurm.display()));
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let launch =
        "Launch::slurm(SlurmJob { time: Some(\"1:00:00\".into()), ..SlurmJob::default() })";
    let submit = |name: &str, steps: usize| {
        format!(
            "{}let job = run.hand_over(&{launch}, Resume::No)?;\nprintln!(\"{{:?}}\", job);",
            place.described(name, steps)
        )
    };
    let begun = session.run(&submit("short", 10));
    assert!(
        begun.outcome.status.is_ok() && stdout(&begun).contains("of Slurm"),
        "{begun:#?}"
    );
    let watched = session.run("let trained = job.watch()?;");
    assert!(watched.outcome.status.is_ok(), "{watched:#?}");
    assert_eq!(session.result_of("trained.records().len()"), "10");
    ok(&mut session, "let vlm = job.load()?;");

    ok(&mut session, &submit("long", ENDLESS));
    trains(&place.run("long"), 2);
    assert_eq!(
        session.result_of("job.status()?.state == JobState::Running"),
        "true"
    );
    ok(&mut session, "job.cancel()?;\nlet stopped = job.watch()?;");
    assert_eq!(
        session.result_of("job.status()?.state == JobState::Stopped"),
        "true"
    );
    assert_eq!(
        session.result_of("stopped.records().len()"),
        steps(&place.run("long")).to_string()
    );
}

/// The cells of the page, as they stand.
#[test]
fn the_page_s_example_runs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/several_machines.md");
    let page = std::fs::read_to_string(page).unwrap();
    let chapter = page.split("## A cell hands its run over").nth(1).unwrap();
    let chapter = chapter.split("\n## ").next().unwrap();
    let cells: Vec<&str> = chapter
        .split("```rust\n")
        .skip(1)
        .map(|text| text.split("```").next().unwrap())
        .collect();
    assert_eq!(cells.len(), 3);
    let place = Place::new();
    let mut session = TestSession::start();
    ok(
        &mut session,
        &format!("std::env::set_current_dir({:?})?;", place.folder),
    );
    for cell in cells {
        ok(&mut session, cell);
    }
    assert!(place.folder.join("runs/handed/model").is_dir());
}
