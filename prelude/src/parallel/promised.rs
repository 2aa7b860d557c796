//! How many ranks the surroundings speak of: the variables that launchers set → a promise that MPI has to keep.
//!
//! A program that `srun` started four times without MPI's help would be four runs of one process each, which overwrite each other's
//! files. So a promise that is not kept is an error, not a run of one.

use glassbox_wire::launcher;

use crate::{Error, Result};

/// A variable that says how many ranks there are, and the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) variable: &'static str,
    pub(super) ranks: usize,
}

/// The promise of several ranks, if there is one.
pub(super) fn several() -> Result<Option<Promise>> {
    among(&|name| std::env::var(name).ok())
}

fn among(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Promise>> {
    let Some((at, text)) = launcher::said(variable) else {
        return Ok(None);
    };
    let (name, _) = launcher::VARIABLES[at];
    let ranks: usize = text.parse().map_err(|_| {
        Error::Parallel(format!(
            "the variable {name} is {text:?}, which is no number of processes: unset it to train in one process"
        ))
    })?;
    Ok((ranks > 1).then_some(Promise {
        variable: name,
        ranks,
    }))
}

impl Promise {
    /// `SLURM_NTASKS is 4`
    pub(super) fn words(&self) -> String {
        format!("{} is {}", self.variable, self.ranks)
    }

    /// Refuses a library that finds another number of ranks.
    pub(super) fn kept(&self, found: usize, library: &str) -> Result<()> {
        if found == self.ranks {
            return Ok(());
        }
        let hint = match self.variable {
            "SLURM_NTASKS" => {
                "start it with `srun --mpi=pmix` (or pmi2 for MPICH; `srun --mpi=list` says what there is) or with mpirun; unset \
                 SLURM_NTASKS for a run of one process"
            }
            "WORLD_SIZE" => {
                "start it with mpirun or `srun --mpi=pmix`; unset WORLD_SIZE for a run of one process"
            }
            _ => {
                "take the mpirun of the library that is loaded, or name another library by GLASSBOX_MPI=/path/to/libmpi.so"
            }
        };
        Err(Error::Parallel(format!(
            "{}, and {library} finds {found}: the launcher and the library do not work together; {hint}",
            self.words()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Result<Option<Promise>> {
        among(&|name| {
            let found = set.iter().find(|(own, _)| *own == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn one_rank_or_none_is_no_promise_and_several_are() -> Result<()> {
        assert_eq!(with(&[])?, None);
        assert_eq!(with(&[("SLURM_NTASKS", "1"), ("WORLD_SIZE", "")])?, None);
        // One process that mpirun started within a larger job of Slurm.
        let within = [("SLURM_NTASKS", "4"), ("OMPI_COMM_WORLD_SIZE", "1")];
        assert_eq!(with(&within)?, None);
        for (name, _) in launcher::VARIABLES {
            let promise = with(&[(name, " 3 ")])?.expect("a promise");
            assert_eq!((promise.variable, promise.ranks), (name, 3));
        }
        let error = with(&[("PMI_SIZE", "two")]).unwrap_err().to_string();
        assert!(
            error.contains("PMI_SIZE") && error.contains("two"),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn a_promise_that_is_not_kept_says_what_to_do() -> Result<()> {
        let promise = with(&[("SLURM_NTASKS", "4")])?.expect("a promise");
        assert!(promise.kept(4, "Open MPI").is_ok());
        let error = promise.kept(1, "Open MPI v5").unwrap_err().to_string();
        for part in [
            "SLURM_NTASKS is 4",
            "Open MPI v5 finds 1",
            "srun --mpi=pmix",
        ] {
            assert!(error.contains(part), "{error}");
        }
        Ok(())
    }
}
