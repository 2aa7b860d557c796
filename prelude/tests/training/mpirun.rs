//! Ranks as real processes under `mpirun`: the losses of one process, faults of one rank, and kills.
//!
//! `GLASSBOX_MPI_FOLDERS` names the folders of installations (with `bin/mpirun` in them, separated as in PATH), else `mpirun` is looked for
//! on PATH. This program is what runs as a rank: `mpirun -n 2 training --exact mpirun::the_rank`.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use glassbox_prelude::candle_core::Device;
use glassbox_prelude::data::{CocoCaptions, Split};
use glassbox_prelude::evaluate::generate_set;
use glassbox_prelude::parallel;
use glassbox_prelude::train::{
    CheckpointSettings, StepRecord, Trainer, TrainerSettings, read_log, run_checkpoints,
};
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::timed::Timed;
use super::{alone, folder, pictures, settings};

/// A run's steps, unless the variable says another number.
const STEPS: usize = 50;
const FEWER: &str = "GLASSBOX_TEST_STEPS";
/// Those of a run that is broken off.
const SHORT: usize = 24;
/// Where the ranks run, and which of them has which fault.
const PLACE: &str = "GLASSBOX_TEST_RANKS";
const FAULT: &str = "GLASSBOX_TEST_FAULT";
/// In place of a fault: the ranks write about a set of pictures, and train nothing.
const WRITES: &str = "writes";
/// A job that does not end by then hangs. How fast a machine is does not matter to it.
const HANG: Duration = Duration::from_secs(300);

fn written_to<T>(path: &Path, outcome: std::io::Result<T>) -> Result<T> {
    outcome.map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// Has every write into a file fail, as on a disk without room, or succeed again.
fn write_no_more(on: bool) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the calls read and write one structure, which lives here; a signal that is ignored runs nothing.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit);
        limit.rlim_cur = if on { 0 } else { limit.rlim_max };
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
    }
}

/// What this rank has of the texts about the pictures.
fn texts(place: &Path, rank: usize) -> Result<()> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let set = CocoCaptions::open(place.join("data"), Split::Train)?;
    let written = generate_set(&vlm, &set, |generate| {
        generate.temperature(0.9).seed(3).max_new_tokens(6)
    })?;
    let lines = written.texts.iter();
    let lines = lines.map(|one| format!("{} {:?}", one.position, one.generation.ids));
    let text = lines.collect::<Vec<_>>().join("\n");
    let ended = place.join(format!("said-{rank}"));
    written_to(&ended, std::fs::write(&ended, text))?;
    parallel::leave()
}

/// What each rank does: begins the run in its folder with the others, or goes on with it. Without a folder it does nothing.
#[test]
fn the_rank() -> Result<()> {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return Ok(());
    };
    let world = parallel::world()?;
    let rank = world.rank();
    let fault = std::env::var(FAULT).unwrap_or_default();
    if fault == WRITES {
        return texts(&place, rank);
    }
    let fault = fault.strip_prefix(&format!("{rank} ")).unwrap_or("");
    let data = match fault {
        "no data" => place.join("not-mounted"),
        "a picture less" => place.join("incomplete"),
        _ => place.join("data"),
    };
    let sums = Arc::new(AtomicU64::new(0));
    let steps = std::env::var(FEWER).ok().and_then(|text| text.parse().ok());
    let steps = steps.unwrap_or(STEPS);
    let kept = place.join("checkpoints");
    let log = place.join("log.jsonl");
    let mut trainer = Trainer::new(TrainerSettings {
        batch_size: 8,
        learning_rate: 1e-4,
        validate_every: 10,
        log: Some(log.clone()),
        checkpoints: Some(CheckpointSettings {
            every: 2,
            ..CheckpointSettings::new(&kept)
        }),
        // Another version of a program has other usual values.
        max_norm: match fault {
            "another version" => Some(0.5),
            _ => Some(1.0),
        },
        ..settings(steps)
    })?;
    trainer.train_with(Arc::new(Timed {
        ranks: world.clone(),
        sums: sums.clone(),
    }));
    let (interrupted, full, first) = (fault == "interrupt", fault == "disk", rank == 0);
    trainer.on_step(move |step| {
        if step.record().step == 7 && full {
            write_no_more(true);
        }
        if step.record().step == 7 && interrupted {
            glassbox_prelude::session::request_interrupt();
        }
        Ok(())
    });
    let vlm = Vlm::tiny(&Device::Cpu)?;
    match run_checkpoints(&kept)?.is_empty() {
        true if first => _ = std::fs::remove_file(&log), // of a run that saved nothing
        true => {}
        false => _ = trainer.resume(&kept, &vlm)?,
    }
    let own = place.join(format!("process-{rank}"));
    let ready = place.join(format!("process-{rank}.new"));
    written_to(
        &ready,
        std::fs::write(&ready, std::process::id().to_string()),
    )?;
    written_to(&own, std::fs::rename(&ready, &own))?;
    let train = CocoCaptions::open(&data, Split::Train)?;
    let held_out = CocoCaptions::open(&data, Split::Val)?;
    let fitted = trainer.fit(&vlm, &train, &held_out);
    write_no_more(false);
    let steps = trainer.step();
    let sums = sums.load(Ordering::Relaxed) as f64 / 1e6;
    let seconds = trainer.records().last().map_or(0.0, |last| last.seconds);
    let said = match &fitted {
        Ok(_) => format!("{steps} steps, {sums} s of {seconds} s in sums of gradients"),
        Err(error) => format!("step {steps}: {error}"),
    };
    let ended = place.join(format!("said-{rank}"));
    written_to(&ended, std::fs::write(&ended, said))?;
    // All ranks know of what training reports.
    let left = parallel::leave();
    fitted?;
    left
}

/// An installation of MPI.
#[derive(Clone, Debug)]
struct Mpi {
    name: String,
    mpirun: PathBuf,
    /// The library, where it is not the one that is found beside `mpirun`.
    library: Option<PathBuf>,
    open: bool,
}

impl Mpi {
    fn of(mpirun: PathBuf) -> Option<Mpi> {
        let output = Command::new(&mpirun).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let open = text.contains("Open MPI") || text.contains("PRRTE") || text.contains("prte");
        let name = match open {
            true => "Open MPI",
            false => "MPICH",
        };
        Some(Mpi {
            name: name.to_owned(),
            mpirun,
            library: None,
            open,
        })
    }

    /// This one, and the standard ABI's library beside it if there is one.
    fn with_abi(self) -> Vec<Mpi> {
        let library = self.mpirun.parent().and_then(Path::parent);
        let library = library.map(|prefix| prefix.join("lib/libmpi_abi.so.1"));
        let abi = library.filter(|library| library.is_file());
        let abi = abi.map(|library| Mpi {
            name: format!("{}, MPI-5 ABI", self.name),
            library: Some(library),
            ..self.clone()
        });
        std::iter::once(self).chain(abi).collect()
    }

    /// Starts the ranks of a run of so many steps.
    fn start(&self, ranks: usize, steps: usize, place: &Path, fault: &str) -> Child {
        let own = std::env::current_exe().expect("this test has a file");
        self.start_programs(&[(ranks, own)], steps, place, fault)
    }

    /// The same of several programs, each with so many ranks.
    fn start_programs(
        &self,
        programs: &[(usize, PathBuf)],
        steps: usize,
        place: &Path,
        fault: &str,
    ) -> Child {
        let ranks = programs.iter().map(|(ranks, _)| ranks).sum::<usize>();
        for file in ["process", "said"]
            .iter()
            .flat_map(|name| (0..ranks).map(move |rank| place.join(format!("{name}-{rank}"))))
        {
            _ = std::fs::remove_file(file);
        }
        let mut command = Command::new(&self.mpirun);
        if self.open {
            command
                .args(["--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"])
                .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
                .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        }
        let bin = self.mpirun.parent().unwrap_or(Path::new("/usr/bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).expect("folders of PATH");
        match &self.library {
            Some(library) => command.env("GLASSBOX_MPI", library),
            None => command.env_remove("GLASSBOX_MPI"),
        };
        let log = std::fs::File::create(place.join("mpirun.txt")).expect("it can be written");
        for (at, (ranks, program)) in programs.iter().enumerate() {
            command.args((at > 0).then_some(":"));
            command.args(["-n", &ranks.to_string()]).arg(program).args([
                "--exact",
                "mpirun::the_rank",
                "--nocapture",
            ]);
        }
        command
            .env("PATH", path)
            .env(PLACE, place)
            .env(FEWER, steps.to_string())
            .env(FAULT, fault)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("mpirun starts")
    }
}

/// Those that there are; says so where there is none.
fn installations() -> Vec<Mpi> {
    let folders = std::env::var_os("GLASSBOX_MPI_FOLDERS").filter(|text| !text.is_empty());
    let found: Vec<Mpi> = match &folders {
        Some(folders) => std::env::split_paths(folders)
            .map(|folder| folder.join("bin/mpirun"))
            .map(|mpirun| {
                Mpi::of(mpirun.clone()).unwrap_or_else(|| panic!("{mpirun:?} does not run"))
            })
            .collect(),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let first = std::env::split_paths(&path)
                .map(|folder| folder.join("mpirun"))
                .find(|file| file.is_file());
            first.and_then(Mpi::of).into_iter().collect()
        }
    };
    if found.is_empty() {
        // Past the harness, which shows nothing of a test that passes.
        _ = writeln!(
            std::io::stderr(),
            "NOT RUN: there is no mpirun on PATH, and GLASSBOX_MPI_FOLDERS names none"
        );
    }
    found.into_iter().flat_map(Mpi::with_abi).collect()
}

/// Whether a job ended well. One that hangs is ended.
fn ended_well(job: &mut Child, what: &str) -> bool {
    let begun = Instant::now();
    loop {
        if let Some(status) = job.try_wait().expect("it is ours") {
            return status.success();
        }
        if begun.elapsed() > HANG {
            // SAFETY: no memory is involved; the group is the job's own.
            unsafe { libc::kill(-(job.id() as i32), libc::SIGKILL) };
            panic!("{what}: the job hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        _ = file.read_to_string(&mut text);
    }
    text
}

/// A folder with data.
fn place(folder: &Path, name: &str) -> Result<PathBuf> {
    let place = folder.join(name);
    pictures(&place.join("data"), 11, 3)?;
    Ok(place)
}

/// One of a COCO folder's training pictures.
fn first_picture(folder: &Path) -> Result<PathBuf> {
    let pictures = folder.join("train2017");
    let listed = written_to(&pictures, std::fs::read_dir(&pictures))?;
    let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let none = || Error::Input(format!("{} holds no picture", pictures.display()));
    files.into_iter().next().ok_or_else(none)
}

fn records(place: &Path) -> Result<Vec<StepRecord>> {
    read_log(place.join("log.jsonl"))
}

/// Of a step its number, loss, gradient's length and validation loss.
type Bits = (usize, u64, u64, Option<u64>);

/// What must be the same, to the bit.
fn bits(place: &Path) -> Result<Vec<Bits>> {
    let one = |record: &StepRecord| {
        let held_out = record.validation_loss.map(f64::to_bits);
        let (loss, norm) = (record.loss.to_bits(), record.norm.to_bits());
        (record.step, loss, norm, held_out)
    };
    Ok(records(place)?.iter().map(one).collect())
}

/// The run of one process, without any launcher.
fn by_one_process(place: &Path, fault: &str) {
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command
        .args(["--exact", "mpirun::the_rank"])
        .env(PLACE, place)
        .env(FAULT, fault)
        .stdout(Stdio::null());
    assert!(command.status().expect("it starts").success());
}

#[test]
fn ranks_under_mpirun_have_the_losses_of_one_process() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let found = installations();
    if found.is_empty() {
        return Ok(());
    }
    let whole = place(folder.path(), "one")?;
    by_one_process(&whole, "");
    let whole = records(&whole)?;
    assert_eq!(whole.len(), STEPS);
    for mpi in found {
        // The ABI's library is the same one under other names.
        let jobs = match mpi.library {
            None => [(2, STEPS), (4, SHORT)].as_slice(),
            Some(_) => &[(2, 6)],
        };
        for &(ranks, steps) in jobs {
            let what = format!("{}, {ranks} ranks", mpi.name);
            let place = place(folder.path(), &what.replace([' ', ','], "-"))?;
            let mut job = mpi.start(ranks, steps, &place, "");
            let well = ended_well(&mut job, &what);
            assert!(well, "{what}: {}", text(&place.join("mpirun.txt")));
            let own = records(&place)?;
            assert_eq!(own.len(), steps, "the first rank alone writes the log");
            let apart = whole.iter().zip(&own).map(|(a, b)| {
                assert_eq!((a.step, a.tokens), (b.step, b.tokens));
                (a.loss - b.loss).abs() / a.loss
            });
            let apart = apart.fold(0.0, f64::max);
            println!("{what}: {apart:.1e} apart, {}", text(&place.join("said-0")));
            assert!(apart <= 1e-6, "{what}: {apart:e}");
        }
    }
    Ok(())
}

#[test]
fn ranks_under_mpirun_write_the_texts_of_one_process_to_the_bit() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let found = installations();
    if found.is_empty() {
        return Ok(());
    }
    let place = folder.path().join("texts");
    pictures(&place.join("data"), 37, 3)?;
    by_one_process(&place, WRITES);
    let whole = text(&place.join("said-0"));
    assert_eq!(whole.lines().count(), 37);
    // The ABI's library is the same one under other names.
    for mpi in found.into_iter().filter(|mpi| mpi.library.is_none()) {
        let mut job = mpi.start(2, STEPS, &place, WRITES);
        let well = ended_well(&mut job, &mpi.name);
        assert!(well, "{}: {}", mpi.name, text(&place.join("mpirun.txt")));
        for rank in 0..2 {
            let own = text(&place.join(format!("said-{rank}")));
            assert_eq!(own, whole, "{}, rank {rank}", mpi.name);
        }
    }
    Ok(())
}

/// Whether a process runs.
fn runs(process: i32) -> bool {
    let state = text(Path::new(&format!("/proc/{process}/stat")));
    let state = state
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

#[test]
fn a_job_of_which_one_rank_is_killed_ends_and_goes_on_to_the_bit() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    // The ABI's library is the same one under other names.
    let found = installations()
        .into_iter()
        .filter(|mpi| mpi.library.is_none());
    let found: Vec<Mpi> = found.collect();
    let kills = 20usize.div_ceil(found.len().max(1));
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for mpi in found {
        let name = mpi.name.replace([' ', ','], "-");
        let whole = place(folder.path(), &format!("{name}-whole"))?;
        let mut job = mpi.start(2, SHORT, &whole, "");
        assert!(ended_well(&mut job, &name));
        let step = records(&whole)?.last().map_or(0.1, |last| last.seconds) / SHORT as f64;
        let longest = (16.0 * step * 1e6) as u64; // µs
        let (mut killed, mut number, mut slowest) = (0, 0, 0.0f64);
        let mut from = Vec::new();
        let mut at = place(folder.path(), &format!("{name}-{number}"))?;
        while killed < kills {
            let mut job = mpi.start(2, SHORT, &at, "");
            let victim = rng.random_range(0..2);
            let begun = Instant::now();
            let files = [0, 1].map(|rank| at.join(format!("process-{rank}")));
            // A file is there before its text is.
            let begun_in = |file: &PathBuf| text(file).parse::<i32>().is_ok();
            while !files.iter().all(begun_in) && job.try_wait().expect("ours").is_none() {
                assert!(begun.elapsed() < HANG, "{name}: the ranks never begin");
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_micros(rng.random_range(0..longest)));
            let processes: Vec<i32> = files
                .iter()
                .filter_map(|file| text(file).parse().ok())
                .collect();
            assert_eq!(processes.len(), 2, "{}", text(&at.join("mpirun.txt")));
            // SAFETY: no memory is involved; the process is a rank of our job, which is not waited for yet.
            unsafe { libc::kill(processes[victim], libc::SIGKILL) };
            let begun = Instant::now();
            if ended_well(&mut job, &name) {
                // It was at its end: another one for the kills that are left.
                assert!(bits(&at)? == bits(&whole)?, "{name}: other losses");
                number += 1;
                at = place(folder.path(), &format!("{name}-{number}"))?;
                continue;
            }
            while processes.iter().any(|process| runs(*process)) {
                assert!(begun.elapsed() < HANG, "{name}: a rank lives on");
                std::thread::sleep(Duration::from_millis(2));
            }
            slowest = slowest.max(begun.elapsed().as_secs_f64());
            let all = run_checkpoints(at.join("checkpoints"))?;
            from.push(all.last().map_or(0, |one| one.step));
            killed += 1;
        }
        println!(
            "{name}: {kills} kills, all ended within {slowest:.1} s; newest checkpoints {from:?}"
        );
        let mut job = mpi.start(2, SHORT, &at, "");
        assert!(ended_well(&mut job, &name));
        assert!(bits(&at)? == bits(&whole)?, "{name}: other losses");
    }
    Ok(())
}

#[test]
fn a_fault_of_one_rank_ends_the_job_with_a_report_that_names_it() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    for mpi in installations()
        .into_iter()
        .filter(|mpi| mpi.library.is_none())
    {
        let name = mpi.name.replace([' ', ','], "-");
        let whole = place(folder.path(), &format!("{name}-whole"))?;
        let mut job = mpi.start(2, SHORT, &whole, "");
        assert!(ended_well(&mut job, &name));
        // What the report says, and whether the ranks have told each other.
        let faults = [
            ("0 disk", "File too large", true),
            ("1 no data", "not-mounted", false),
            ("1 a picture less", "data", true),
            ("1 another version", "settings", true),
        ];
        for (fault, word, agreed) in faults {
            let at = place(
                folder.path(),
                &format!("{name}-{}", fault.replace(' ', "-")),
            )?;
            pictures(&at.join("incomplete"), 11, 3)?;
            let lost = first_picture(&at.join("incomplete"))?;
            written_to(&lost, std::fs::remove_file(&lost))?;
            let mut job = mpi.start(2, SHORT, &at, fault);
            assert!(!ended_well(&mut job, fault), "{name}: {fault} went well");
            let said = text(&at.join("mpirun.txt"));
            let rank = fault.split(' ').next().unwrap_or_default();
            let named = agreed || said.contains(&format!("rank {rank} of 2"));
            assert!(named && said.contains(word), "{name}, {fault}: {said}");
            if agreed {
                let other = 1 - rank.parse::<usize>().unwrap_or(0);
                let told = text(&at.join(format!("said-{other}")));
                let named = told.contains(&format!("rank {rank} of 2"));
                assert!(named && told.contains(word), "{name}, {fault}: {told}");
            }
            // Without the fault it goes on, or begins, as if nothing had been.
            let mut job = mpi.start(2, SHORT, &at, "");
            let well = ended_well(&mut job, fault);
            assert!(
                well,
                "{name}, after {fault}: {}",
                text(&at.join("mpirun.txt"))
            );
            assert!(
                bits(&at)? == bits(&whole)?,
                "{name}, after {fault}: other losses"
            );
        }
        // An interrupt of one rank stops both at the same step, with a checkpoint.
        let at = place(folder.path(), &format!("{name}-interrupt"))?;
        let mut job = mpi.start(2, SHORT, &at, "0 interrupt");
        assert!(!ended_well(&mut job, "interrupt"));
        for rank in 0..2 {
            let told = text(&at.join(format!("said-{rank}")));
            assert!(told.starts_with("step 7: interrupted"), "{name}: {told}");
        }
        let all = run_checkpoints(at.join("checkpoints"))?;
        assert_eq!(all.last().map(|one| one.step), Some(7));
        let mut job = mpi.start(2, SHORT, &at, "");
        assert!(ended_well(&mut job, "interrupt"));
        assert!(
            bits(&at)? == bits(&whole)?,
            "{name}, after an interrupt: other losses"
        );
    }
    Ok(())
}

/// This program as one of another version: a copy of its file in which what it says of itself is another word, of the same length.
fn of_another_version(folder: &Path) -> Result<PathBuf> {
    let own = std::env::current_exe().expect("this test has a file");
    let mut bytes = written_to(&own, std::fs::read(&own))?;
    let version = concat!("Glassbox ", env!("CARGO_PKG_VERSION")).as_bytes();
    let other = b"Glassbox 9.";
    let places: Vec<usize> = bytes
        .windows(version.len())
        .enumerate()
        .filter(|(_, window)| *window == version)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "the program does not say its version");
    for at in places {
        bytes[at..at + other.len()].copy_from_slice(other);
    }
    let program = folder.join("another-version");
    written_to(&program, std::fs::write(&program, bytes))?;
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    written_to(&program, std::fs::set_permissions(&program, all))?;
    Ok(program)
}

#[test]
fn programs_of_two_versions_do_not_train_together_and_the_report_names_the_rank() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let other = of_another_version(folder.path())?;
    let own = std::env::current_exe().expect("this test has a file");
    for mpi in installations()
        .into_iter()
        .filter(|mpi| mpi.library.is_none())
    {
        let place = place(folder.path(), &mpi.name.replace(' ', "-"))?;
        let begun = Instant::now();
        let programs = [(2, own.clone()), (1, other.clone())];
        let mut job = mpi.start_programs(&programs, SHORT, &place, "");
        assert!(!ended_well(&mut job, &mpi.name), "{}: it trains", mpi.name);
        let said = text(&place.join("mpirun.txt"));
        for word in [
            "rank 2 of 3",
            "its program is Glassbox 9.",
            concat!("that of rank 0 is Glassbox ", env!("CARGO_PKG_VERSION")),
            "start the same program on all machines",
        ] {
            assert!(said.contains(word), "{}: {word} is not in {said}", mpi.name);
        }
        assert!(!place.join("log.jsonl").exists(), "nothing was trained");
        println!(
            "{}: refused after {:.1} s",
            mpi.name,
            begun.elapsed().as_secs_f64()
        );
        // The other program alone is as good as this one.
        let mut job = mpi.start_programs(&[(2, other.clone())], 2, &place, "");
        let well = ended_well(&mut job, &mpi.name);
        assert!(well, "{}: {}", mpi.name, text(&place.join("mpirun.txt")));
    }
    Ok(())
}

#[test]
fn ranks_that_are_promised_and_missing_are_an_error() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let at = place(folder.path(), "promised")?;
    for variable in [
        "OMPI_COMM_WORLD_SIZE",
        "PMI_SIZE",
        "SLURM_NTASKS",
        "WORLD_SIZE",
    ] {
        let output = Command::new(std::env::current_exe().expect("this test has a file"))
            .args(["--exact", "mpirun::the_rank", "--nocapture"])
            .env(PLACE, &at)
            .env("PATH", "/nowhere")
            .env("GLASSBOX_MPI", "/nowhere/libmpi.so")
            .env(variable, "3")
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = said + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{variable}");
        let promise = format!("{variable} is 3");
        assert!(
            said.contains(&promise) && said.contains("install"),
            "{said}"
        );
    }
    Ok(())
}
