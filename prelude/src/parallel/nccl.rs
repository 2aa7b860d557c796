//! NCCL, loaded when the program runs: tensors on the ranks' GPUs → their sums, without a way through the host.
//!
//! ```text
//! every rank: a GPU, libnccl? ─ all have it ─► rank 0's id, told over the host's collective ─► a communicator ─► sums on candle's stream
//!                             └ one has not ─► None, and a note: the host carries the sums
//! ```
//! Nothing of NCCL is needed to build. cudarc has its functions too, but candle has cudarc link what it names, and then every program would
//! need the library. Streams and memory are cudarc's. **Not yet run on a GPU**: tested with a stand-in for the library.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};

use super::library::{Opened, open};
use super::{Collective, GpuSums};
use crate::{Error, Result, notes};

/// Names a library by its file, before any other.
const GIVEN: &str = "GLASSBOX_NCCL";
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// `ncclFloat32`, `ncclSum`.
const FLOAT: c_int = 7;
const SUM: c_int = 0;

/// `ncclUniqueId`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Id([u8; 128]);

/// `ncclComm_t`.
type Communicator = *mut c_void;

type UniqueId = unsafe extern "C" fn(*mut Id) -> c_int;
type InitRank = unsafe extern "C" fn(*mut Communicator, c_int, Id, c_int) -> c_int;
type AllReduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    c_int,
    c_int,
    Communicator,
    *mut c_void,
) -> c_int;
type End = unsafe extern "C" fn(Communicator) -> c_int;
type Text = unsafe extern "C" fn(c_int) -> *const c_char;
type Version = unsafe extern "C" fn(*mut c_int) -> c_int;

/// The functions that are used.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    unique_id: UniqueId,
    init_rank: InitRank,
    all_reduce: AllReduce,
    abort: End,
    text: Text,
    version: Version,
}

/// The library, or why it can't be loaded.
pub(super) fn load() -> std::result::Result<Functions, String> {
    let names: Vec<PathBuf> = match std::env::var_os(GIVEN) {
        Some(given) => vec![given.into()],
        None => NAMES.iter().map(PathBuf::from).collect(),
    };
    let mut tried = Vec::new();
    for name in names {
        match open(&name) {
            Ok(opened) => return functions(opened, &name),
            Err(why) => tried.push(format!("{} ({why})", name.display())),
        }
    }
    Err(format!(
        "NCCL can't be loaded: {}; `pip install nvidia-nccl-cu13` brings it, name its file by {GIVEN}=/path/to/libnccl.so.2",
        tried.join("; ")
    ))
}

/// A function of the library, of the type that its place in [`Functions`] has.
macro_rules! function {
    ($opened:ident, $path:ident, $name:literal, $kind:ty) => {{
        let found = $opened.symbol($name).ok_or_else(|| {
            format!("{} has no {}", $path.display(), $name.to_string_lossy())
        })?;
        // SAFETY: the symbol is NCCL's function of that name, whose arguments are those of its type here.
        unsafe { std::mem::transmute::<*mut c_void, $kind>(found) }
    }};
}

fn functions(opened: Opened, path: &Path) -> std::result::Result<Functions, String> {
    Ok(Functions {
        unique_id: function!(opened, path, c"ncclGetUniqueId", UniqueId),
        init_rank: function!(opened, path, c"ncclCommInitRank", InitRank),
        all_reduce: function!(opened, path, c"ncclAllReduce", AllReduce),
        abort: function!(opened, path, c"ncclCommAbort", End),
        text: function!(opened, path, c"ncclGetErrorString", Text),
        version: function!(opened, path, c"ncclGetVersion", Version),
    })
}

impl Functions {
    fn check(&self, call: &str, code: c_int) -> std::result::Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the function takes any number, and gives null or a text that lasts.
        let text = unsafe { (self.text)(code) };
        let why = match text.is_null() {
            true => "no reason is given".into(),
            // SAFETY: it is not null, see above.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy(),
        };
        Err(format!("{call}: {why} (code {code})"))
    }

    fn new_id(&self) -> std::result::Result<Id, String> {
        let mut id = Id([0; 128]);
        // SAFETY: the function writes one id.
        self.check("ncclGetUniqueId", unsafe { (self.unique_id)(&raw mut id) })?;
        Ok(id)
    }

    /// `NCCL 2.28.3`
    fn name(&self) -> String {
        let mut version = 0;
        // SAFETY: the function writes one int.
        match unsafe { (self.version)(&raw mut version) } {
            0 if version >= 10_000 => format!(
                "NCCL {}.{}.{}",
                version / 10_000,
                version / 100 % 100,
                version % 100
            ),
            _ => "NCCL".into(),
        }
    }
}

/// The ranks' GPUs as one communicator; `None` on all ranks where one of them lacks the library or can't join, with a note that says why.
///
/// # Errors
/// Those of `host`.
pub(super) fn join(
    host: &dyn Collective,
    device: &Device,
    library: std::result::Result<Functions, String>,
) -> Result<Option<Arc<dyn GpuSums>>> {
    let library = library.and_then(|library| bind(device).map(|()| library));
    let Some(library) = on_all(host, library)? else {
        return Ok(None);
    };
    let own = match host.rank() {
        0 => library.new_id(),
        _ => Ok(Id([0; 128])),
    };
    let Some(mut id) = on_all(host, own)? else {
        return Ok(None);
    };
    host.broadcast(&mut id.0, 0)?;
    let mut communicator = std::ptr::null_mut();
    // SAFETY: the id is the one that rank 0 was given, each rank calls once with its number, and the communicator is written.
    let code = unsafe {
        (library.init_rank)(
            &raw mut communicator,
            host.ranks() as c_int,
            id,
            host.rank() as c_int,
        )
    };
    let joined = library.check("ncclCommInitRank", code).map(|()| Nccl {
        name: library.name(),
        library,
        communicator,
    });
    Ok(match on_all(host, joined)? {
        Some(nccl) => Some(Arc::new(nccl)),
        None => None,
    })
}

/// What each rank has, if all have it.
fn on_all<T>(host: &dyn Collective, outcome: std::result::Result<T, String>) -> Result<Option<T>> {
    let mut failed = [u64::from(outcome.is_err())];
    host.sum_u64(&mut failed)?;
    if let Err(why) = &outcome {
        notes::say(&format!(
            "rank {} of {}: {why}. Gradients go by the host on all ranks",
            host.rank(),
            host.ranks()
        ));
    }
    Ok(outcome.ok().filter(|_| failed[0] == 0))
}

/// Has the calling thread work with this GPU, as NCCL asks.
#[cfg(feature = "cuda")]
fn bind(device: &Device) -> std::result::Result<(), String> {
    match device {
        Device::Cuda(cuda) => {
            let bound = cuda.cuda_stream().context().bind_to_thread();
            bound.map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

#[cfg(not(feature = "cuda"))]
fn bind(_: &Device) -> std::result::Result<(), String> {
    Ok(())
}

/// A communicator, which lasts as long as the program: ending it waits for all ranks.
struct Nccl {
    library: Functions,
    name: String,
    communicator: Communicator,
}

// SAFETY: NCCL takes calls from any thread, one at a time; the collective above takes them from one thread only.
unsafe impl Send for Nccl {}
// SAFETY: as above.
unsafe impl Sync for Nccl {}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: the communicator is this one's, and nothing calls it any more. Of ranks that could not all join, none waits.
        unsafe { (self.library.abort)(self.communicator) };
    }
}

impl Nccl {
    /// Adds up `count` values from one place into another, in the stream's order.
    ///
    /// # Safety
    /// Both places hold as many f32 values, where the library's communicator has its memory.
    unsafe fn add_up(
        &self,
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        stream: *mut c_void,
    ) -> candle_core::Result<()> {
        // SAFETY: the caller's promise.
        let code = unsafe {
            (self.library.all_reduce)(from, to, count, FLOAT, SUM, self.communicator, stream)
        };
        let checked = self.library.check("ncclAllReduce", code);
        checked.map_err(candle_core::Error::Msg)
    }
}

impl GpuSums for Nccl {
    fn sum(&self, values: &Tensor) -> Result<Tensor> {
        if values.dtype() != DType::F32 {
            return Err(Error::Parallel(format!(
                "sums on GPUs are of f32, these values are {:?}",
                values.dtype()
            )));
        }
        let sum = values
            .detach()
            .contiguous()?
            .apply_op1_no_bwd(&Reduced(self));
        sum.map_err(|error| Error::Parallel(format!("{} failed: {error}", self.name)))
    }

    fn library(&self) -> String {
        self.name.clone()
    }
}

/// A sum over all ranks, as an operation of candle: so it gets at memory and stream.
struct Reduced<'a>(&'a Nccl);

impl CustomOp1 for Reduced<'_> {
    fn name(&self) -> &'static str {
        "sum_over_ranks"
    }

    /// Of the stand-in alone, whose memory is the host's.
    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        if !cfg!(test) {
            candle_core::bail!("NCCL adds up what lies on GPUs");
        }
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("a sum over ranks reads contiguous f32 values")
        };
        let from = &values[start..end];
        let mut to = vec![0f32; from.len()];
        // SAFETY: both hold as many values, in the memory that the stand-in works on.
        unsafe {
            self.0.add_up(
                from.as_ptr().cast(),
                to.as_mut_ptr().cast(),
                from.len(),
                std::ptr::null_mut(),
            )?;
        }
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        use candle_core::cuda_backend::WrapErr;
        use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DevicePtrMut};
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("a sum over ranks reads contiguous values")
        };
        let device = storage.device().clone();
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let from = storage.as_cuda_slice::<f32>()?.slice(start..end);
        // SAFETY: every value is written by the sum before anything reads it, in the stream's order.
        let mut to = unsafe { device.alloc::<f32>(end - start) }?;
        {
            let (from, _read) = from.device_ptr(&stream);
            let (to, _written) = to.device_ptr_mut(&stream);
            // SAFETY: both hold as many values on this rank's GPU, and stay until the stream has come by: cudarc frees in its order.
            unsafe {
                self.0.add_up(
                    from as *const c_void,
                    to as *mut c_void,
                    end - start,
                    stream.cu_stream().cast(),
                )?;
            }
        }
        let sum = candle_core::CudaStorage::wrap_cuda_slice(to, device);
        Ok((sum, layout.shape().clone()))
    }
}

/// NCCL's functions over threads and the host's memory.
#[cfg(test)]
pub(super) mod stand_in {
    use super::*;
    use crate::parallel::threads;
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    type Ranks = Vec<Arc<dyn Collective>>;

    /// Who meets under an id.
    static ROOMS: Mutex<Option<HashMap<u64, Ranks>>> = Mutex::new(None);
    static IDS: AtomicU64 = AtomicU64::new(1);

    unsafe extern "C" fn unique_id(id: *mut Id) -> c_int {
        let number = IDS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller gives a place for one id.
        unsafe { (&mut (*id).0)[..8].copy_from_slice(&number.to_ne_bytes()) };
        0
    }

    unsafe extern "C" fn init_rank(
        communicator: *mut Communicator,
        ranks: c_int,
        id: Id,
        rank: c_int,
    ) -> c_int {
        let mut number = [0; 8];
        number.copy_from_slice(&id.0[..8]);
        let number = u64::from_ne_bytes(number);
        if number == 0 {
            return 4; // the id was not told
        }
        let mut rooms = ROOMS.lock().expect("no panic");
        let rooms = rooms.get_or_insert_default();
        let room = rooms
            .entry(number)
            .or_insert_with(|| threads(ranks as usize));
        let own: Box<Arc<dyn Collective>> = Box::new(room[rank as usize].clone());
        // SAFETY: the caller gives a place for one communicator.
        unsafe { *communicator = Box::into_raw(own).cast() };
        0
    }

    unsafe extern "C" fn fails_on_one(
        communicator: *mut Communicator,
        ranks: c_int,
        id: Id,
        rank: c_int,
    ) -> c_int {
        match rank {
            1 => 5,
            // SAFETY: the caller's own promise.
            _ => unsafe { init_rank(communicator, ranks, id, rank) },
        }
    }

    unsafe extern "C" fn all_reduce(
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        kind: c_int,
        operation: c_int,
        communicator: Communicator,
        _: *mut c_void,
    ) -> c_int {
        if (kind, operation) != (FLOAT, SUM) {
            return 4;
        }
        // SAFETY: the caller's places hold as many values, and the communicator is one that `init_rank` made.
        let (from, to, own) = unsafe {
            (
                std::slice::from_raw_parts(from.cast::<f32>(), count),
                std::slice::from_raw_parts_mut(to.cast::<f32>(), count),
                &*communicator.cast::<Arc<dyn Collective>>(),
            )
        };
        to.copy_from_slice(from);
        own.sum_f32(to).map_or(6, |()| 0)
    }

    unsafe extern "C" fn abort(communicator: Communicator) -> c_int {
        // SAFETY: `init_rank` made it, and it is ended once.
        drop(unsafe { Box::from_raw(communicator.cast::<Arc<dyn Collective>>()) });
        0
    }

    unsafe extern "C" fn text(_: c_int) -> *const c_char {
        c"the stand-in says no".as_ptr()
    }

    unsafe extern "C" fn version(version: *mut c_int) -> c_int {
        // SAFETY: the caller gives a place for one int.
        unsafe { *version = 22_803 };
        0
    }

    pub fn functions() -> Functions {
        Functions {
            unique_id,
            init_rank,
            all_reduce,
            abort,
            text,
            version,
        }
    }

    pub fn functions_that_fail_on_rank_1() -> Functions {
        Functions {
            init_rank: fails_on_one,
            ..functions()
        }
    }

    /// The same ranks with GPUs that reach each other.
    pub fn with_gpus(ranks: Vec<Arc<dyn Collective>>) -> Vec<Arc<dyn Collective>> {
        let ranks = ranks.into_iter();
        ranks
            .map(|host| Arc::new(WithGpus(host)) as Arc<dyn Collective>)
            .collect()
    }

    struct WithGpus(Arc<dyn Collective>);

    impl Collective for WithGpus {
        fn on_gpus(&self, device: &Device) -> Result<Option<Arc<dyn GpuSums>>> {
            join(&*self.0, device, Ok(functions()))
        }
        fn rank(&self) -> usize {
            self.0.rank()
        }
        fn ranks(&self) -> usize {
            self.0.ranks()
        }
        fn library(&self) -> String {
            self.0.library()
        }
        fn sum_f32(&self, _: &mut [f32]) -> Result<()> {
            Err(Error::Parallel("these sums are the GPUs'".into()))
        }
        fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
            self.0.sum_f64(values)
        }
        fn sum_u64(&self, values: &mut [u64]) -> Result<()> {
            self.0.sum_u64(values)
        }
        fn broadcast(&self, bytes: &mut [u8], from: usize) -> Result<()> {
            self.0.broadcast(bytes, from)
        }
        fn abort(&self) {
            self.0.abort();
        }
        fn leave(&self) -> Result<()> {
            self.0.leave()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::threads;

    /// What `work` comes to on each of three ranks.
    fn on_ranks<T: Send>(work: impl Fn(&dyn Collective) -> T + Sync) -> Vec<T> {
        let (all, work) = (threads(3), &work);
        std::thread::scope(|scope| {
            let running = all.iter().map(|rank| scope.spawn(move || work(&**rank)));
            let running: Vec<_> = running.collect();
            let ended = running.into_iter().map(|one| one.join().expect("no panic"));
            ended.collect()
        })
    }

    #[test]
    fn ranks_join_by_an_id_of_the_first_and_have_the_sums_of_all() -> Result<()> {
        let outcomes = on_ranks(|rank| -> Result<(String, Vec<Vec<f32>>)> {
            let gpus = join(rank, &Device::Cpu, Ok(stand_in::functions()))?;
            let gpus = gpus.ok_or_else(|| Error::Parallel("they do not join".into()))?;
            let own = rank.rank() as f32;
            let values = Tensor::new(&[[own, 1.0, 5.0], [2.0, own * own, 6.0]], &Device::Cpu)?;
            // Not contiguous, and not from the beginning of its memory.
            let sum = gpus.sum(&values.narrow(1, 0, 2)?.t()?)?;
            let error = gpus.sum(&values.to_dtype(DType::F16)?).unwrap_err();
            assert!(error.to_string().contains("f32"), "{error}");
            Ok((gpus.library(), sum.to_vec2()?))
        });
        for outcome in outcomes {
            let (name, sum) = outcome?;
            assert_eq!(name, "NCCL 2.28.3");
            assert_eq!(sum, [[3.0, 6.0], [3.0, 5.0]]);
        }
        Ok(())
    }

    #[test]
    fn where_one_rank_lacks_the_library_or_cannot_join_none_uses_it() {
        let lacking = on_ranks(|rank| {
            let library = match rank.rank() {
                2 => Err("no library".to_owned()),
                _ => Ok(stand_in::functions()),
            };
            join(rank, &Device::Cpu, library)
        });
        let failing = on_ranks(|rank| {
            let library = stand_in::functions_that_fail_on_rank_1();
            join(rank, &Device::Cpu, Ok(library))
        });
        for outcome in lacking.into_iter().chain(failing) {
            assert!(matches!(outcome, Ok(None)));
        }
    }

    #[test]
    fn a_library_that_is_missing_or_another_is_named() {
        let error = open(Path::new("/nowhere/libnccl.so.2")).map(|_| ());
        assert!(error.unwrap_err().contains("/nowhere/libnccl.so.2"));
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            let name = Path::new("libc.so.6");
            let opened = open(name).expect("the C library of this process can be opened");
            let error = functions(opened, name).map(|_| ()).unwrap_err();
            assert!(
                error.contains("libc.so.6 has no ncclGetUniqueId"),
                "{error}"
            );
        }
    }
}
