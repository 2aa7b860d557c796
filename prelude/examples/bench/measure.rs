//! Time and memory of a piece of work, under the names that `bench_torch.py` gives them.

use std::time::Instant;

use candle_core::Device;
use glassbox_prelude::prelude::DeviceChoice;
use serde_json::{Map, Value, json};

use crate::Failure;

/// One case's figures, in the order in which they are printed.
pub type Figures = Map<String, Value>;

/// Where everything is measured: what `GLASSBOX_DEVICE` names, for both peers.
pub fn device() -> Result<Device, Failure> {
    Ok(Device::chosen()?)
}

/// Runs `work` `warmup` times unmeasured and `reps` times measured; it is told the number of the run.
pub fn timed(
    reps: usize,
    warmup: usize,
    mut work: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<Figures, Failure> {
    // A GPU works on behind the program's back.
    let device = device()?;
    for run in 0..warmup {
        work(run)?;
    }
    device.synchronize()?;
    let (mut wall, mut cpu) = (Vec::with_capacity(reps), Vec::with_capacity(reps));
    for run in 0..reps {
        let (begun, cpu_before) = (Instant::now(), cpu_seconds());
        work(run)?;
        device.synchronize()?;
        wall.push(begun.elapsed().as_secs_f64());
        cpu.push(cpu_seconds() - cpu_before);
    }
    let mut figures = Figures::new();
    for (name, value) in [
        ("median_s", median(&wall)),
        ("min_s", smallest(&wall)),
        ("max_s", wall.iter().copied().fold(0.0, f64::max)),
        ("cpu_median_s", median(&cpu)),
        ("cpu_min_s", smallest(&cpu)),
    ] {
        figures.insert(name.to_owned(), rounded(value, 4));
    }
    figures.insert("reps".to_owned(), json!(reps));
    Ok(figures)
}

/// Adds `amount` per median second of wall and of processor time, under `what_per_s` and `what_per_cpu_s`.
pub fn add_rates(figures: &mut Figures, what: &str, amount: usize, places: i32) {
    for (seconds, unit) in [("median_s", "s"), ("cpu_median_s", "cpu_s")] {
        let seconds = figures
            .get(seconds)
            .and_then(Value::as_f64)
            .unwrap_or(f64::NAN);
        figures.insert(
            format!("{what}_per_{unit}"),
            rounded(amount as f64 / seconds, places),
        );
    }
}

/// A number with so many places behind the point; `null` if it is not finite.
pub fn rounded(value: f64, places: i32) -> Value {
    let scale = 10f64.powi(places);
    json!((value * scale).round() / scale)
}

/// The middle value, or the mean of the two middle ones.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Processor seconds of this process so far, all threads together.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` outlives the call, which only writes to it.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } != 0;
    if failed {
        f64::NAN
    } else {
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    }
}

/// The most memory that this process has held so far, in MiB.
pub fn peak_rss_mb() -> Value {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` outlives the call; zeroed it is a valid value even if the call fails.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") {
        1024.0 * 1024.0
    } else {
        1024.0
    };
    rounded(usage.ru_maxrss as f64 / unit, 1)
}

/// How busy the machine is: runnable processes over 1, 5 and 15 minutes.
pub fn load_average() -> Value {
    let mut loads = [0f64; 3];
    // SAFETY: the array has room for the three numbers asked for.
    let count = unsafe { libc::getloadavg(loads.as_mut_ptr(), 3) };
    if count < 3 {
        return Value::Null;
    }
    json!(loads.map(|load| (load * 100.0).round() / 100.0))
}
