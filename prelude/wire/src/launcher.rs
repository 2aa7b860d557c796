//! What launchers of several processes tell each of them: how many there are, and which it is.

/// Names of variables, each with that of the process's own number, from 0: the launcher that is nearest to the process comes first, as
/// `mpirun` may have been started by Slurm.
pub const VARIABLES: [(&str, &str); 4] = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), // Open MPI's mpirun
    ("PMI_SIZE", "PMI_RANK"),                         // MPICH's, and Slurm's PMI-2
    ("SLURM_NTASKS", "SLURM_PROCID"),                 // srun, sbatch and salloc
    ("WORLD_SIZE", "RANK"),                           // torchrun and Kubernetes' training operators
];

/// The first of them that says something: its index, and what it says.
pub fn said(variable: &dyn Fn(&str) -> Option<String>) -> Option<(usize, String)> {
    VARIABLES.iter().enumerate().find_map(|(at, (size, _))| {
        let text = variable(size)?;
        let text = text.trim();
        (!text.is_empty()).then(|| (at, text.to_owned()))
    })
}

/// Names of variables that say which process this is among those of its machine, from 0, in the same order: it takes that GPU.
pub const LOCAL: [&str; 4] = [
    "OMPI_COMM_WORLD_LOCAL_RANK", // Open MPI's mpirun
    "MPI_LOCALRANKID",            // MPICH's and Intel's
    "SLURM_LOCALID",              // srun
    "LOCAL_RANK",                 // torchrun and Kubernetes' training operators
];

/// The first of [`LOCAL`] that says something: its name, and what it says.
pub fn local(variable: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    LOCAL.into_iter().find_map(|name| {
        let text = variable(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| (name, text.to_owned()))
    })
}
