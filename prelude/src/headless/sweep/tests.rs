//! Sweeps by files: which runs there are, what is refused, and that each run is the one that its file alone would give.

use super::*;
use crate::runs::about::AboutRun;

/// A run of few steps, on drawn shapes, in the file `base.toml` of the folder.
fn base(folder: &Path, more: &str) -> PathBuf {
    let text = format!(
        "output = {:?}\nseed = 5\n[model]\npreset = \"tiny\"\ndevice = \"cpu\"\n[data]\nkind = \"shapes\"\ntrain = 8\nvalidation = 4\n\
         [trainer]\nsteps = 3\nbatch_size = 2\nlearning_rate = 0.003\nvalidate_every = 3\nvalidation_samples = 2\nquiet = true\n\
         {more}\n[evaluate]\nwatch = 0\n",
        folder.join("sweep").display().to_string(),
    );
    let file = folder.join("base.toml");
    std::fs::write(&file, text).expect("it is ours");
    file
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn draft(folder: &Path, over: &[&str]) -> Result<SweepDraft> {
    SweepDraft::new(base(folder, ""), over, None)
}

/// What is said of it.
fn refused(folder: &Path, over: &[&str]) -> String {
    draft(folder, over).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn every_combination_is_a_run_of_its_own_and_the_last_changes_fastest() -> Result<()> {
    let folder = folder();
    let over = [
        "trainer.learning_rate=1e-3,2e-3",
        "seed=1,2,3",
        "settings.llm_lora.r=4",
    ];
    let sweep = draft(folder.path(), &over)?.write(Resume::No)?;
    assert_eq!(sweep.count(), 6);
    let mut seen = Vec::new();
    for number in 0..6 {
        let config = sweep.config(number)?;
        assert_eq!(
            config.output,
            folder.path().join(format!("sweep/{number:03}"))
        );
        assert_eq!(
            config.settings.llm_lora.as_ref().map(|lora| lora.r),
            Some(4)
        );
        seen.push((config.trainer.learning_rate, config.seed));
    }
    let expected = [
        (1e-3, 1),
        (1e-3, 2),
        (1e-3, 3),
        (2e-3, 1),
        (2e-3, 2),
        (2e-3, 3),
    ];
    assert_eq!(seen, expected);
    assert_eq!(
        sweep.words(4)?,
        "trainer.learning_rate=0.002, seed=2, settings.llm_lora.r=4"
    );
    assert!(sweep.config(6).unwrap_err().to_string().contains("0 to 5"));
    // What is read back is what was written.
    let again = SweepFolder::open(sweep.folder())?;
    assert_eq!((again.count(), again.words(4)?), (6, sweep.words(4)?));
    let parts = std::fs::read_dir(folder.path()).expect("it is ours");
    assert_eq!(
        parts.count(),
        2,
        "the file and the sweep, nothing half written"
    );
    Ok(())
}

#[test]
fn what_can_t_be_swept_is_refused_by_name() {
    let folder = folder();
    let at = folder.path();
    for (over, why) in [
        (vec![], "--over"),
        (
            vec!["trainer.lerning_rate=1,2"],
            "did you mean `learning_rate`",
        ),
        (
            vec!["learning_rate=1e-3"],
            "did you mean trainer.learning_rate",
        ),
        (vec!["llm_lora.r=2"], "did you mean settings.llm_lora.r"),
        (vec!["sede=1"], "did you mean `seed`"),
        (vec!["output=a,b"], "--output"),
        (vec!["trainer.run=a"], "--output"),
        (vec!["trainer.checkpoints.folder=a"], "--output"),
        (vec!["trainer.seed=1,2"], "top of the file"),
        (vec!["seed=1", "seed=2"], "twice"),
        (vec!["trainer.steps=3,0"], "trainer.steps=0"),
        (vec!["trainer.steps=3,many"], "trainer.steps=many"),
        (vec!["seed=-1"], "seed=-1"),
        (vec!["seed.x=1"], "seed is 5, which has no x in it"),
        (vec!["trainer.learning_rate=1,1.0"], "are the same"),
        (vec!["data.kind=shapes,shapez"], "shapez"),
        (vec!["settings.llm_lora.rank=2"], "rank"),
    ] {
        let error = refused(at, &over);
        assert!(error.contains(why), "{over:?}: {error}");
    }
    let many = (0..40)
        .map(|seed| seed.to_string())
        .collect::<Vec<_>>()
        .join(",");
    let error = refused(
        at,
        &[
            &format!("seed={many}"),
            &format!("trainer.steps={}", many.replacen('0', "50", 1)),
        ],
    );
    assert!(error.contains("40 × 40 = 1600 runs"), "{error}");
    assert!(!at.join("sweep").exists(), "nothing was written");
}

/// A value that is wrong is said with the run that has it, not with the line in which another value stands.
#[test]
fn a_wrong_value_is_not_blamed_on_a_line_of_the_file() {
    let folder = folder();
    let error = refused(folder.path(), &["seed=1,2", "trainer.batch_size=2,x"]);
    assert!(
        error.contains("base.toml with seed=1, trainer.batch_size=x"),
        "{error}"
    );
    assert!(!error.contains("line"), "{error}");
}

#[test]
fn a_file_by_which_all_runs_would_write_into_one_place_is_refused() -> Result<()> {
    let folder = folder();
    for (more, name) in [
        ("log = \"all.jsonl\"", "trainer.log"),
        (
            "[trainer.checkpoints]\nfolder = \"kept\"",
            "trainer.checkpoints.folder",
        ),
    ] {
        let file = base(folder.path(), more);
        let error = SweepDraft::new(file, ["seed=1,2"], None)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && error.contains("its own"), "{error}");
    }
    // The place that a run's own file names, once it was written out, is no other than the usual one.
    let usual = folder
        .path()
        .join("sweep")
        .join(crate::headless::CHECKPOINTS);
    let more = format!(
        "[trainer.checkpoints]\nevery = 1\nfolder = {:?}",
        usual.display().to_string()
    );
    let sweep =
        SweepDraft::new(base(folder.path(), &more), ["seed=1,2"], None)?.write(Resume::No)?;
    let kept = sweep
        .config(1)?
        .trainer
        .checkpoints
        .expect("it was asked for");
    assert_eq!(kept.folder, folder.path().join("sweep/001/checkpoints"));
    assert_eq!(kept.every, 1);
    Ok(())
}

#[test]
fn a_folder_that_is_there_is_in_the_way_and_the_same_sweep_goes_on() -> Result<()> {
    let folder = folder();
    let (at, there) = (folder.path(), folder.path().join("sweep"));
    let error =
        |draft: SweepDraft, resume| draft.write(resume).map(|_| ()).unwrap_err().to_string();
    assert!(error(draft(at, &["seed=1,2"])?, Resume::Yes).contains("holds no sweep"));
    std::fs::create_dir(&there).expect("it is ours");
    std::fs::write(there.join("notes.txt"), "mine").expect("it is ours");
    assert!(error(draft(at, &["seed=1,2"])?, Resume::No).contains("not empty"));
    std::fs::remove_file(there.join("notes.txt")).expect("it is ours");
    // An empty folder is as good as none.
    draft(at, &["seed=1,2"])?.write(Resume::No)?;
    assert!(error(draft(at, &["seed=1,2"])?, Resume::No).contains("--resume"));
    draft(at, &["seed=1,2"])?.write(Resume::Yes)?;
    let other = error(draft(at, &["seed=1,3"])?, Resume::Yes);
    assert!(
        other.contains("seed=1,2") && other.contains("seed=1,3"),
        "{other}"
    );
    let file = base(at, "weight_decay = 0.5");
    let other = error(SweepDraft::new(file, ["seed=1,2"], None)?, Resume::Yes);
    assert!(other.contains("weight_decay"), "{other}");
    Ok(())
}

#[test]
fn runs_train_go_on_and_stand_in_the_table() -> Result<()> {
    let folder = folder();
    let over = ["trainer.learning_rate=1e-3,1e9", "seed=1,2"];
    let sweep = draft(folder.path(), &over)?.write(Resume::No)?;
    let table = |sweep: &SweepFolder| crate::display::Render::render(sweep).plain().to_owned();
    assert_eq!(table(&sweep).matches("waits").count(), 4);
    // One of them as a task of its own, which is the run that its file alone gives.
    let run = sweep.train(1)?;
    assert_eq!(run.about.state, RunState::Finished);
    let mut alone = sweep.config(1)?;
    alone.output = folder.path().join("alone");
    alone.prepare(Resume::No)?;
    alone.train(Resume::No)?;
    let losses = |run: &Run| {
        run.records()
            .iter()
            .map(|record| record.loss)
            .collect::<Vec<_>>()
    };
    assert_eq!(losses(&run), losses(&Run::open(&alone.output)?));
    let begun = run.about.begun.clone();
    // Another process has run 0.
    let lock = File::create(sweep.of(0).join(LOCK)).expect("it is ours");
    lock.try_lock().expect("nobody has it");
    let error = sweep.train(0).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    sweep.train_all()?;
    let error = sweep.all_finished().unwrap_err().to_string();
    assert!(
        error.contains("0 (trainer.learning_rate=0.001, seed=1): not begun"),
        "{error}"
    );
    assert!(!error.contains("1 (trainer"), "{error}");
    drop(lock);
    sweep.train_all()?;
    // What was finished stays as it was.
    assert_eq!(Run::open(sweep.of(1))?.about.begun, begun);
    let text = table(&sweep);
    assert!(text.contains("finished") && text.contains("3/3"), "{text}");
    // A damaged run is one line of the table, and the rest are shown.
    std::fs::write(sweep.of(1).join(RUN), "{").expect("it is ours");
    let text = table(&sweep);
    assert!(
        text.contains("unreadable") && text.contains("run.json"),
        "{text}"
    );
    assert!(AboutRun::read(&sweep.of(0)).is_ok());
    Ok(())
}

#[test]
fn the_script_names_the_runs_that_are_left_and_is_never_written_over() -> Result<()> {
    let folder = folder();
    let sweep = draft(folder.path(), &["seed=1,2,3"])?.write(Resume::No)?;
    sweep.train(1)?;
    let job = SlurmJob {
        program: "/opt/my programs/glassbox".into(),
        at_once: Some(2),
        time: Some("10".into()),
        partition: Some("main".into()),
        ntasks: 1,
        launcher: SlurmJob::default().launcher,
        cpus: 4,
        memory: Some("2G".into()),
        more: vec!["--account=physics".into()],
    };
    let file = folder.path().join("sweep.sbatch");
    sweep.slurm(&job, &file)?;
    let script = std::fs::read_to_string(&file).expect("it was written");
    for line in [
        "#!/bin/bash",
        "#SBATCH --array=0,2%2",
        "#SBATCH --time=10",
        "#SBATCH --signal=B:USR1@60",
        "#SBATCH --partition=main",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=2G",
        "#SBATCH --requeue",
        "#SBATCH --account=physics",
    ] {
        assert!(
            script.lines().any(|own| own == line),
            "{line} is not in\n{script}"
        );
    }
    assert!(
        script.contains("'/opt/my programs/glassbox' sweep "),
        "{script}"
    );
    assert!(!script.contains("srun"), "{script}");
    assert!(sweep.folder().join("logs").is_dir());
    // By several ranks, on as many nodes as Slurm finds good.
    let shared = folder.path().join("shared.sbatch");
    let ranks = SlurmJob {
        ntasks: 3,
        ..job.clone()
    };
    sweep.slurm(&ranks, &shared)?;
    let shared = std::fs::read_to_string(&shared).expect("it was written");
    assert!(shared.contains("#SBATCH --ntasks=3\n"), "{shared}");
    assert!(!shared.contains("--nodes"), "{shared}");
    let starts = shared.lines().find(|line| line.starts_with("srun "));
    let starts = starts.expect("srun starts the ranks");
    assert!(
        starts.starts_with("srun --mpi=pmix -n 3 sh -c "),
        "{starts}"
    );
    let error = sweep.slurm(&job, &file).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
    sweep.train_all()?;
    let error = sweep
        .slurm(&job, folder.path().join("other"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("nothing to submit"), "{error}");
    Ok(())
}

#[test]
fn a_damaged_sweep_is_said() -> Result<()> {
    let folder = folder();
    let sweep = draft(folder.path(), &["seed=1,2"])?.write(Resume::No)?;
    let file = sweep.folder().join(FILE);
    let whole = std::fs::read_to_string(&file).expect("it was written");
    for (text, why) in [
        (whole.replace("\"runs\": 2", "\"runs\": 3"), "damaged"),
        (
            whole.replace("\"format\": 1", "\"format\": 9"),
            "newer version",
        ),
        ("{".to_owned(), "not valid"),
    ] {
        std::fs::write(&file, text).expect("it is ours");
        let error = SweepFolder::open(sweep.folder())
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    }
    Ok(())
}
