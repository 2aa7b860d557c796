//! Several processes of one run, as `mpirun` and `srun` start them: which of them this one is. The first one shows and writes for all.

use glassbox_wire::launcher;

/// What the prelude says on the ranks where a failure of another one arrives.
const ENDED_BY: &str = " ended the run: ";

/// This process's number, where a launcher has started several.
pub fn own() -> Option<usize> {
    among(&|name| std::env::var(name).ok())
}

/// Whether another process shows and writes.
pub fn follows() -> bool {
    own().is_some_and(|rank| rank > 0)
}

/// Whether an error is one that the first process reports: the ranks have told each other.
pub fn is_told(message: &str) -> bool {
    let after = message.strip_prefix("rank ");
    after.is_some_and(|after| {
        after.starts_with(|first: char| first.is_ascii_digit()) && after.contains(ENDED_BY)
    })
}

fn among(variable: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    let (at, ranks) = launcher::said(variable)?;
    if ranks.parse().is_ok_and(|ranks: usize| ranks < 2) {
        return None;
    }
    // A batch script of Slurm has no number of its own.
    let own = variable(launcher::VARIABLES[at].1).and_then(|text| text.trim().parse().ok());
    Some(own.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Option<usize> {
        among(&|name| {
            let found = set.iter().find(|(own, _)| *own == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_nearest_launcher_says_which_process_this_is() {
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("SLURM_NTASKS", "1"), ("SLURM_PROCID", "0")]), None);
        assert_eq!(with(&[("SLURM_NTASKS", "4")]), Some(0));
        let slurm = [("SLURM_NTASKS", "4"), ("SLURM_PROCID", "3")];
        assert_eq!(with(&slurm), Some(3));
        let mpirun = [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")];
        assert_eq!(with(&[slurm, mpirun].concat()), Some(1));
        assert_eq!(with(&[("PMI_SIZE", "2"), ("PMI_RANK", "1")]), Some(1));
    }

    #[test]
    fn only_what_the_ranks_told_each_other_is_left_to_the_first() {
        assert!(is_told("rank 1 of 2 ended the run: no room on the disk"));
        assert!(!is_told("no room on the disk"));
        assert!(!is_told("rank and file ended the run: no"));
    }
}
