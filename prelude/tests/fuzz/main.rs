//! Damaged files: pictures, configs, weights, tokenizers, adapters, settings and COCO annotations, made from the fixtures by
//! random edits, must give values or typed errors. A panic, an abort and a huge allocation are faults.
//!
//! `GLASSBOX_FUZZ_CASES` is the number of cases of each of the targets (default 300); a fault that is found becomes a
//! regression test beside the code that had it. `GLASSBOX_FUZZ_SEED` starts other sequences.

mod allocations;
mod edits;
mod loading;
mod pictures;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Largest single allocation that a damaged file may cause: what a large photograph takes.
const LARGEST_ALLOCATION: usize = 1 << 30;

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
        ..Config::default()
    };
    let mut seed = [7u8; 32];
    seed[..8].copy_from_slice(&number("GLASSBOX_FUZZ_SEED", 0).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, |value| {
        allocations::reset();
        test(value);
        let largest = allocations::largest();
        proptest::prop_assert!(
            largest <= LARGEST_ALLOCATION,
            "one allocation of {largest} bytes"
        );
        Ok(())
    });
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
