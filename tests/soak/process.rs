//! What the system says of processes and folders.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Resident memory in megabytes.
pub fn resident(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .context("the system does not tell the memory of a process")?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// The process below `kernel` that runs cells.
pub fn child_that_runs_cells(kernel: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.into_iter().find(|id| {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}"));
        let parent = file("status").ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            line.trim().parse::<u32>().ok()
        });
        parent == Some(kernel)
            && file("cmdline").is_ok_and(|line| line.split('\0').any(|word| word == "__child"))
    })
}

/// Files below a folder, and their bytes.
pub fn folder_size(folder: &Path) -> (usize, u64) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return (0, 0);
    };
    entries
        .filter_map(Result::ok)
        .fold((0, 0), |(files, bytes), entry| match entry.metadata() {
            Ok(found) if found.is_dir() => {
                let (more, size) = folder_size(&entry.path());
                (files + more, bytes + size)
            }
            Ok(found) => (files + 1, bytes + found.len()),
            Err(_) => (files, bytes),
        })
}
