//! What the system says of processes and folders.

use std::path::Path;

use anyhow::{Context as _, Result};

/// The memory of a process, in megabytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// All that is resident.
    pub resident: f64,
    /// What of that are libraries of cells: their code, and their data once it is written to.
    pub libraries: f64,
    /// How many ranges of addresses are in use.
    pub mappings: usize,
}

/// A figure of `/proc/PID/…` that is given in kilobytes, in megabytes.
fn megabytes(line: &str) -> Option<f64> {
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

/// Resident memory in megabytes.
pub fn resident(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    status
        .lines()
        .find_map(|line| megabytes(line.strip_prefix("VmRSS:")?))
        .context("the system does not tell the memory of a process")
}

/// The same with what it is made of. Slower: the system looks at every page.
pub fn memory(process: u32) -> Result<Memory> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut memory = Memory::default();
    let mut library = false;
    for line in maps.lines() {
        if let Some(size) = line.strip_prefix("Rss:").and_then(megabytes) {
            memory.resident += size;
            if library {
                memory.libraries += size;
            }
        } else if line
            .split(' ')
            .next()
            .is_some_and(|range| range.contains('-'))
        {
            memory.mappings += 1;
            library = line.contains("/cells/cell_");
        }
    }
    Ok(memory)
}

/// Open files of a process.
pub fn open_files(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// Processor time in milliseconds: the process's own, and that of the processes it started that have ended.
pub fn processor_time(process: u32) -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // pid (name) state …; user and system time are the 14th and 15th field, those of ended children the next two.
    let (_, fields) = stat.rsplit_once(')').context("no process")?;
    let fields: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse().ok())
        .collect();
    let &[user, system, children_user, children_system] = fields.as_slice() else {
        anyhow::bail!("the system does not tell the time of a process");
    };
    // The unit is a hundredth of a second on every Linux that is in use.
    Ok((
        (user + system) * 10.0,
        (children_user + children_system) * 10.0,
    ))
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
