//! Stops a cell whose own code looks for no interrupt, and keeps the variables that it was not changing.
//!
//! ```text
//! SIGINT ─▶ flag ── nobody looks for GRACE ──▶ SIGINT once more, which sees where the cell is:
//!   in its own code      ─────────────────────────────────────────────┐
//!   in a function that it called ─▶ its code is made not executable   │
//!       └─ the function returns, or calls the cell back: SIGSEGV ─────┴─▶ guarded() returns
//! ```
//! Whoever looks for interrupts, the loops of the prelude among them, is left to stop in its own way. What was on the stack is
//! leaked, as if the functions never returned: a lock that the cell holds, or a function that called it back, stays locked. Between two
//! calls everything that they refer to is as whole as when a panic begins. In the middle of the cell's own code it need not be, so what
//! the cell could change is lost then.
//!
//! A call that never returns is not stopped, nor is code that only other threads run. Linux on x86-64 only; elsewhere nothing is stopped.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{INTERRUPTED, stopping};

/// How long a cell may go on without looking for an interrupt.
const GRACE: Duration = Duration::from_millis(1500);

/// Where a cell was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A function that it had called returned, or called it back.
    AtCall,
    /// In the middle of its own code.
    Anywhere,
}

static CODE_START: AtomicUsize = AtomicUsize::new(0);
static CODE_END: AtomicUsize = AtomicUsize::new(0);
/// The thread that runs cells.
static THREAD: AtomicI32 = AtomicI32::new(0);
/// Where its stack was when it called the cell; 0 while no cell can be stopped.
static STACK: AtomicUsize = AtomicUsize::new(0);
/// The next SIGINT is to stop the cell.
static FORCE: AtomicBool = AtomicBool::new(false);
/// The cell's code is not executable.
static ARMED: AtomicBool = AtomicBool::new(false);
/// Somebody has looked for the interrupt.
static LOOKED: AtomicBool = AtomicBool::new(false);
/// Where the last cell was stopped: 0 if it was not.
static STOPPED: AtomicU8 = AtomicU8::new(0);

/// A cell begins whose code is at these addresses.
pub(super) fn cell_begins(code: Range<usize>) {
    CODE_START.store(code.start, Ordering::Relaxed);
    CODE_END.store(code.end, Ordering::Relaxed);
    // SAFETY: no memory is involved.
    THREAD.store(unsafe { libc::gettid() }, Ordering::Relaxed);
    FORCE.store(false, Ordering::Relaxed);
    LOOKED.store(false, Ordering::Relaxed);
    STOPPED.store(0, Ordering::Release);
}

/// Somebody looks for the interrupt, which has come: the cell stops in its own way.
pub(super) fn looked() {
    LOOKED.store(true, Ordering::Relaxed);
    FORCE.store(false, Ordering::Relaxed);
    disarm();
}

/// Where the cell that ran last was stopped, if it was.
pub(crate) fn stopped() -> Option<Stop> {
    match STOPPED.load(Ordering::Acquire) {
        0 => None,
        1 => Some(Stop::AtCall),
        _ => Some(Stop::Anywhere),
    }
}

/// What a thread beside the cell knows, which calls [`Watch::look`] some times a second.
#[derive(Default)]
pub(super) struct Watch {
    interrupted: Option<Instant>,
    /// Whoever interrupted knows what is still being done.
    told: bool,
}

impl Watch {
    /// Has the cell stopped if it was interrupted a while ago and nobody looked.
    pub(super) fn look(&mut self) {
        let asked = INTERRUPTED.load(Ordering::Relaxed);
        let held = asked && stopping::held();
        if held && !self.told {
            stopping::tell();
        }
        self.told = held;
        let waits = asked && !held && !LOOKED.load(Ordering::Relaxed);
        if !waits || STACK.load(Ordering::Acquire) == 0 {
            self.interrupted = None;
        } else if self.interrupted.get_or_insert_with(Instant::now).elapsed() > GRACE {
            self.interrupted = None;
            if ARMED.load(Ordering::Acquire) {
                return;
            }
            FORCE.store(true, Ordering::Release);
            let thread = THREAD.load(Ordering::Relaxed);
            // SAFETY: no memory is involved. If the cell has put a handler of its own in place of ours, that is asked once more.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGINT) };
        }
    }
}

/// Makes the cell's code executable, or not. May be called in a signal handler.
fn protect(protection: libc::c_int) {
    let start = CODE_START.load(Ordering::Relaxed);
    let length = CODE_END.load(Ordering::Relaxed).saturating_sub(start);
    if length > 0 {
        // SAFETY: the pages are those of the cell's code, which can be read all the time and is never written to.
        unsafe { libc::mprotect(start as *mut libc::c_void, length, protection) };
    }
}

fn disarm() {
    if ARMED.swap(false, Ordering::AcqRel) {
        protect(libc::PROT_READ | libc::PROT_EXEC);
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine {
    use std::ffi::c_void;

    use super::*;

    /// How long other threads that run the cell's code wait for the cell to stop, in milliseconds.
    const PATIENCE: u32 = 1000;
    /// The processor's flag that makes string instructions go backwards.
    const DIRECTION: libc::greg_t = 0x400;

    std::arch::global_asm!(
        ".globl glassbox_guarded",
        ".hidden glassbox_guarded",
        ".globl glassbox_stopped",
        ".hidden glassbox_stopped",
        "glassbox_guarded:", // (code, data, stack)
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdx], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "xor eax, eax",
        "2:",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        // A handler sends the thread here, with the stack as it was noted above.
        "glassbox_stopped:",
        "mov eax, 1",
        "jmp 2b",
        ".cfi_endproc",
    );

    unsafe extern "C" {
        /// Notes the stack in `stack` and calls `code(data)`. 0 if that returned, 1 if the thread was sent to [`glassbox_stopped`].
        fn glassbox_guarded(
            code: unsafe extern "C" fn(*mut c_void),
            data: *mut c_void,
            stack: *const AtomicUsize,
        ) -> u32;
        fn glassbox_stopped();
    }

    unsafe extern "C" fn call(data: *mut c_void) {
        // SAFETY: `data` is what `guarded` below passed.
        let code = unsafe { &mut *data.cast::<&mut dyn FnMut()>() };
        code();
    }

    /// Calls `code`, which does not panic; returns early, and says where, if the cell's code in it was stopped.
    pub(crate) fn guarded(mut code: &mut dyn FnMut()) -> Option<Stop> {
        // SAFETY: `call` gets what it expects, and all of it is alive until the call is over.
        let stopped = unsafe { glassbox_guarded(call, (&raw mut code).cast(), &raw const STACK) };
        STACK.store(0, Ordering::Release);
        disarm();
        if stopped == 0 { None } else { super::stopped() }
    }

    /// SIGINT has come to the thread that runs cells.
    pub(in crate::session) fn asked(context: *mut c_void) {
        // SAFETY: no memory is involved.
        let here = unsafe { libc::gettid() } == THREAD.load(Ordering::Relaxed);
        if !here || STACK.load(Ordering::Acquire) == 0 || !FORCE.swap(false, Ordering::AcqRel) {
            return;
        }
        if in_cell(place(context)) {
            send(context, Stop::Anywhere);
        } else {
            ARMED.store(true, Ordering::Release);
            protect(libc::PROT_READ);
        }
    }

    /// A fault has come. Whether it was one of code that is not executable: then the thread goes on elsewhere, or where it was.
    pub(in crate::session) fn caught(
        information: *const libc::siginfo_t,
        context: *mut c_void,
    ) -> bool {
        // SAFETY: the system passes a valid pointer to a handler with SA_SIGINFO, and this signal has an address.
        let address = unsafe { (*information).si_addr() } as usize;
        if address != place(context) || !in_cell(address) {
            return false;
        }
        // SAFETY: no memory is involved.
        let here = unsafe { libc::gettid() } == THREAD.load(Ordering::Relaxed);
        if !here {
            wait();
        } else if STACK.load(Ordering::Acquire) != 0 && ARMED.load(Ordering::Acquire) {
            send(context, Stop::AtCall);
        }
        // Also where somebody else has called it off meanwhile: nobody must be left with code that can't be executed.
        ARMED.store(false, Ordering::Release);
        protect(libc::PROT_READ | libc::PROT_EXEC);
        true
    }

    /// Lets the thread that runs cells come to a stop first.
    fn wait() {
        let moment = libc::timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        for _ in 0..PATIENCE {
            if !ARMED.load(Ordering::Acquire) {
                return;
            }
            // SAFETY: the structure is alive.
            unsafe { libc::nanosleep(&raw const moment, std::ptr::null_mut()) };
        }
    }

    fn in_cell(address: usize) -> bool {
        (CODE_START.load(Ordering::Relaxed)..CODE_END.load(Ordering::Relaxed)).contains(&address)
    }

    /// Where the thread was when the signal came.
    fn place(context: *mut c_void) -> usize {
        // SAFETY: the system passes the thread's state to a handler with SA_SIGINFO.
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
    }

    /// Has the thread go on behind the call of the cell once the handler returns.
    fn send(context: *mut c_void, stop: Stop) {
        STOPPED.store(1 + u8::from(stop == Stop::Anywhere), Ordering::Release);
        // SAFETY: as above; the handler is the only one who uses it.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        let registers = &mut context.uc_mcontext.gregs;
        registers[libc::REG_RIP as usize] = glassbox_stopped as *const c_void as libc::greg_t;
        registers[libc::REG_RSP as usize] = STACK.load(Ordering::Acquire) as libc::greg_t;
        registers[libc::REG_EFL as usize] &= !DIRECTION;
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod machine {
    use std::ffi::c_void;

    use super::*;

    /// Calls `code`.
    pub(crate) fn guarded(code: &mut dyn FnMut()) -> Option<Stop> {
        code();
        None
    }

    pub(in crate::session) fn asked(_context: *mut c_void) {}

    pub(in crate::session) fn caught(
        _information: *const libc::siginfo_t,
        _context: *mut c_void,
    ) -> bool {
        false
    }
}

pub(crate) use machine::guarded;
pub(super) use machine::{asked, caught};
