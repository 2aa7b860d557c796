//! Damaged files: pictures, configs, weights, GGUF files, tokenizers, adapters, settings, datasets, molecules and spectra, made from the fixtures by
//! random edits, must give values or typed errors. A panic, an abort, a huge allocation and a case that does not end are faults.
//!
//! `GLASSBOX_FUZZ_CASES` is the number of cases of each of the targets (default 300); a fault that is found becomes a
//! regression test beside the code that had it. `GLASSBOX_FUZZ_SEED` starts other sequences.

mod allocations;
mod datasets;
mod edits;
mod gguf_heads;
mod loading;
mod models;
mod pictures;
mod senses;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// Largest single allocation that a damaged file may cause: what a large photograph takes.
const LARGEST_ALLOCATION: usize = 1 << 30;

/// How long a case may take on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

/// When the case that runs began, in milliseconds since the first; 0 between cases.
static BEGAN: AtomicU64 = AtomicU64::new(0);
/// Its number in its target.
static CASE: AtomicU64 = AtomicU64::new(0);

/// Ends the program with a word about a case that does not end.
fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let began = BEGAN.load(Ordering::Relaxed);
                if began > 0 && now().saturating_sub(began) > LONGEST.as_millis() as u64 {
                    _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!(
                        "case {} of the target that runs (--test-threads=1 says which) does not end within {LONGEST:?}; seed {}",
                        CASE.load(Ordering::Relaxed),
                        number("GLASSBOX_FUZZ_SEED", 0)
                    ));
                    std::process::exit(102);
                }
            }
        });
    });
}

static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

fn now() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// One target at a time: what is allocated is counted for the whole program.
static TURN: Mutex<()> = Mutex::new(());

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `test` on many values; a failing one is made smaller and printed.
fn fuzz<S: Strategy>(strategy: &S, test: impl Fn(S::Value)) {
    // A panic that the code under test turns into an error is no failure: only the last one is remembered.
    std::panic::set_hook(Box::new(|panic| {
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = Config {
        cases: number("GLASSBOX_FUZZ_CASES", 300) as u32,
        failure_persistence: None,
        max_shrink_iters: 2000,
        // The usual limit ends a run of a million cases whose inputs are drawn by conditions.
        max_local_rejects: u32::MAX,
        ..Config::default()
    };
    let mut seed = [7u8; 32];
    seed[..8].copy_from_slice(&number("GLASSBOX_FUZZ_SEED", 0).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    watch();
    CASE.store(0, Ordering::Relaxed);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, |value| {
        allocations::reset();
        CASE.fetch_add(1, Ordering::Relaxed);
        BEGAN.store(now(), Ordering::Relaxed);
        test(value);
        BEGAN.store(0, Ordering::Relaxed);
        let largest = allocations::largest();
        proptest::prop_assert!(
            largest <= LARGEST_ALLOCATION,
            "one allocation of {largest} bytes"
        );
        Ok(())
    });
    BEGAN.store(0, Ordering::Relaxed); // of a case that failed
    if let Err(failure) = outcome {
        let last = LAST_PANIC
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        _ = std::panic::take_hook();
        panic!("{failure}\nthe last panic: {last}");
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

fn read(name: &str) -> Vec<u8> {
    let path = fixture(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
