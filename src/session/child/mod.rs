//! The process in which cells run: our own binary in the role `child`.
//!
//! ```text
//! host  ── Command ──▶ private fd ──▶ dlopen, call
//! host  ◀── Control lines  ◀── private fd
//! host  ◀── the cell's stdout and stderr  ◀── fd 1, fd 2 (named pipes, see [`crate::session::pipes::streams`])
//! ```
//! Control lines never share a descriptor with the user's text, so text cannot be mistaken for them, and a
//! cell that reads stdin finds it empty instead of eating commands (see [`self::stdin`]). The prelude is loaded before the first cell.
//!
//! # Layout
//! - [`descriptors`]: what cells can't take of them
//! - [`forked`]: a copy of the process that a cell made
//! - [`origin`]: which cell began a thread, and what is written while it is not its turn
//! - [`pages`]: memory of cells that have run
//! - [`stdin`]: what a cell finds that reads standard input
//! - [`tell`]: what the child itself has to say

pub(crate) mod descriptors;
pub(crate) mod forked;
pub(crate) mod origin;
pub(crate) mod pages;
pub(crate) mod stdin;
pub(crate) mod tell;

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use glassbox_wire::names::{
    FOLDER_VARIABLE, INTERRUPT_FILE, LIBRARY_PATH_BEFORE_VARIABLE, NONCE_VARIABLE,
    PRELUDE_VARIABLE, STDERR_PIPE, STDOUT_PIPE,
};
use glassbox_wire::{Comm, Command, Control, Event};
use libloading::os::unix::{self, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

use crate::patience;
use crate::session::offspring;
use crate::session::pipes::pipe_path;
use pages::Pages;
use tell::send_frame;

/// First argument of the binary in this role.
pub const ROLE: &str = "__child";

/// Tells the process the umask of its user: the session's is stricter.
pub(crate) const UMASK_VARIABLE: &str = "GLASSBOX_UMASK";
/// Ends the name of what a library with statics for later cells holds besides the function: the function's name stands before it.
pub(crate) const EXPORTS: &str = "_exports";
/// The exit code of a process that could not begin.
pub(crate) const UNUSABLE: i32 = 99;

type UserFunction = unsafe extern "C" fn();

/// Runs cells until the session closes our stdin. The exit code is for [`std::process::exit`].
pub fn main() -> i32 {
    match Child::prepare().and_then(|mut child| child.serve()) {
        Ok(()) => {
            // The session has ended, and what its cells started ends with it.
            offspring::end(std::process::id());
            0
        }
        Err(error) => {
            // Once the pipes are connected, this reaches the user.
            let _ = writeln!(std::io::stderr(), "cell process: {error}");
            UNUSABLE
        }
    }
}

struct Child {
    commands: BufReader<File>,
    replies: File,
    /// The reading end of the pipe into which generated code writes control lines.
    control: File,
    nonce: String,
    interrupt_file: PathBuf,
    prelude: Prelude,
    cells: u64,
    /// The next cell's number for the host, 0 for one that is not the user's.
    number: u64,
    /// The file of the last cell's library.
    last_library: Option<PathBuf>,
    pages: Pages,
}

impl Child {
    fn prepare() -> std::io::Result<Child> {
        let folder = PathBuf::from(required(FOLDER_VARIABLE)?);
        let nonce = required(NONCE_VARIABLE)?.to_string_lossy().into_owned();
        let library = PathBuf::from(required(PRELUDE_VARIABLE)?);
        // Ctrl-c in a terminal is for the front end, which decides what it means for the cell.
        // SAFETY: no memory is involved.
        unsafe { libc::setpgid(0, 0) };

        let commands = File::from(duplicate(libc::STDIN_FILENO)?);
        let replies = File::from(duplicate(libc::STDOUT_FILENO)?);
        let [control, control_write] = control_pipe()?;
        restore_environment();
        end_with_the_session(commands.as_raw_fd())?;
        redirect(&pipe_path(&folder, STDOUT_PIPE), libc::STDOUT_FILENO, true)?;
        redirect(&pipe_path(&folder, STDERR_PIPE), libc::STDERR_FILENO, true)?;
        redirect(Path::new("/dev/null"), libc::STDIN_FILENO, false)?;
        stdin::start(&folder, &nonce)?;
        let private = [
            commands.as_raw_fd(),
            replies.as_raw_fd(),
            control.as_raw_fd(),
            control_write.as_raw_fd(),
        ];
        forked::start(private, &nonce)?;
        origin::start(&nonce);
        descriptors::start();

        let prelude = Prelude::load(&library)?;
        // SAFETY: the function's signature is the prelude's, and the descriptor stays open: it is never closed.
        unsafe { (prelude.session_start)(control_write.into_raw_fd()) };
        // SAFETY: the signature is the prelude's, and the count lives as long as the process.
        unsafe { (prelude.watch_threads)(origin::threads()) };
        Ok(Child {
            commands: BufReader::new(commands),
            replies,
            control: File::from(control),
            nonce,
            interrupt_file: folder.join(INTERRUPT_FILE),
            prelude,
            cells: 0,
            number: 0,
            last_library: None,
            pages: Pages::default(),
        })
    }

    fn serve(&mut self) -> std::io::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.commands.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match Command::parse(&line) {
                Some(Command::Cell(number)) => self.number = number,
                Some(Command::Run { library, function }) => self.run(&library, &function)?,
                Some(Command::Show { name }) => self.show(&name)?,
                Some(Command::Comm(comm)) => self.deliver(&comm)?,
                None => return Err(std::io::Error::other(format!("unknown command {line:?}"))),
            }
        }
    }

    fn run(&mut self, path: &Path, function_name: &str) -> std::io::Result<()> {
        let begin = Instant::now();
        // All symbols now: one that is missing is an error of this cell, not the death of the process in its middle.
        // SAFETY: loading runs no code of the cell except its constructors, which are the user's own.
        let opened = descriptors::with_own(|| unsafe {
            unix::Library::open(Some(path), RTLD_NOW | RTLD_LOCAL)
        });
        let library = match opened {
            Ok(library) => library,
            Err(error) => return self.not_loaded(&error),
        };
        // SAFETY: the host generates every such function with this signature.
        let function = *unsafe { library.get::<UserFunction>(function_name.as_bytes()) }
            .map_err(std::io::Error::other)?;
        let exports = format!("{function_name}{EXPORTS}");
        // SAFETY: only whether it is there is looked at.
        if unsafe { library.get::<*const u8>(exports.as_bytes()) }.is_ok() {
            // SAFETY: the library is loaded already: this only lets later ones find its symbols.
            let shared = descriptors::with_own(|| unsafe {
                unix::Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL)
            });
            match shared {
                Ok(shared) => std::mem::forget(shared),
                Err(error) => return self.not_loaded(&error),
            }
        }
        let loaded = begin.elapsed();
        self.forget_file(path.to_owned());
        let code = self.pages.note(function as *const c_void);
        self.begin(code);
        let begin = Instant::now();
        // SAFETY: as above; panics are caught in it.
        unsafe { function() };
        let ran = begin.elapsed();
        stdin::cell_ends();
        // SAFETY: the signature is the prelude's.
        unsafe { (self.prelude.cell_end)(self.cells) };
        if forked::is_copy() {
            forked::leave();
        }
        // Never unloaded: values of its types, thread-local destructors and running threads may need its code.
        std::mem::forget(library);
        let panicked = self.report(loaded, ran)?;
        origin::cell_ends();
        // After the reply, for which somebody waits. A panic's trace has looked at all libraries.
        self.pages.give_back(panicked);
        Ok(())
    }

    /// Says that code begins to run, which is at these addresses, if that is known.
    fn begin(&mut self, code: Range<usize>) {
        self.cells += 1;
        origin::cell_begins(self.number);
        stdin::cell_begins(self.cells);
        send_frame(&self.nonce, &Event::Began);
        // SAFETY: the signature is the prelude's.
        unsafe { (self.prelude.cell_begin)(code.start as *const u8, code.len()) };
        if self.interrupt_file.exists() {
            // SAFETY: the prelude's handler for this signal only sets a flag.
            unsafe { libc::raise(libc::SIGINT) };
        }
    }

    /// Has the prelude do what a message to a control asks for, which may run code of any cell.
    fn deliver(&mut self, comm: &Comm) -> std::io::Result<()> {
        let message = serde_json::to_string(comm)?;
        self.run_in_prelude(|prelude| {
            // SAFETY: the signature is the prelude's, and the text is alive.
            unsafe { (prelude.comm)(message.as_ptr(), message.len()) };
        })
    }

    /// Runs what the prelude holds, watched over like a cell.
    fn run_in_prelude(&mut self, run: impl FnOnce(&Prelude)) -> std::io::Result<()> {
        self.begin(0..0);
        let begin = Instant::now();
        run(&self.prelude);
        stdin::cell_ends();
        // SAFETY: the signature is the prelude's.
        unsafe { (self.prelude.cell_end)(self.cells) };
        if forked::is_copy() {
            forked::leave();
        }
        self.report(Duration::ZERO, begin.elapsed())?;
        origin::cell_ends();
        Ok(())
    }

    /// Has the prelude show a variable, watched over like a cell, or says that it cannot.
    fn show(&mut self, name: &str) -> std::io::Result<()> {
        // SAFETY: the signature is the prelude's, and the text is alive.
        if !unsafe { (self.prelude.can_show)(name.as_ptr(), name.len()) } {
            return self.reply(&[Control::NotShown, Control::Complete]);
        }
        self.run_in_prelude(|prelude| {
            // SAFETY: as above.
            unsafe { (prelude.show)(name.as_ptr(), name.len()) };
        })
    }

    /// Removes the file of the library before this one: what is loaded stays, its file only names functions in a backtrace of
    /// the cell that runs.
    fn forget_file(&mut self, path: PathBuf) {
        if let Some(last) = self.last_library.replace(path)
            && Some(&last) != self.last_library.as_ref()
        {
            // A file that can't be removed goes with the session's folder.
            let _ = std::fs::remove_file(last);
        }
    }

    fn not_loaded(&mut self, error: &libloading::Error) -> std::io::Result<()> {
        let mut reason = reason(error);
        if reason.contains("Too many open files") {
            let most = descriptors::of_cells();
            reason += &format!(
                " (the cells hold all {most} descriptors that they may have: `:restart` closes them, and all variables go)"
            );
        }
        self.reply(&[Control::NotLoaded { reason }, Control::Complete])
    }

    fn reply(&mut self, lines: &[Control]) -> std::io::Result<()> {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.replies.write_all(lines.as_bytes())
    }

    /// Passes the cell's control lines on to the host and says on the user's side how the cell ended. Returns whether it panicked.
    fn report(&mut self, loaded: Duration, ran: Duration) -> std::io::Result<bool> {
        let mut lines = Vec::new();
        match self.control.read_to_end(&mut lines) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let text = String::from_utf8_lossy(&lines);
        let said: Vec<Control> = text.lines().filter_map(Control::parse).collect();
        let (line, column) = said
            .iter()
            .find_map(|control| match control {
                Control::FailedAt { line, column } => Some((*line, *column)),
                _ => None,
            })
            .unwrap_or_default();
        let panicked = said.contains(&Control::Panicked);
        let ended = Event::Ended {
            panicked,
            failed: said.contains(&Control::Failed),
            interrupted: said.contains(&Control::Interrupted),
            line,
            column,
        };
        send_frame(&self.nonce, &ended);
        let mut reply = vec![Control::LoadTime(loaded), Control::RunTime(ran)];
        reply.extend(said);
        reply.push(Control::Complete);
        self.reply(&reply)?;
        Ok(panicked)
    }
}

/// What the child calls in the prelude.
struct Prelude {
    session_start: unsafe extern "C" fn(i32),
    cell_begin: unsafe extern "C" fn(*const u8, usize),
    cell_end: unsafe extern "C" fn(u64),
    comm: unsafe extern "C" fn(*const u8, usize),
    can_show: unsafe extern "C" fn(*const u8, usize) -> bool,
    show: unsafe extern "C" fn(*const u8, usize),
    watch_threads: unsafe extern "C" fn(*const AtomicUsize),
}

impl Prelude {
    fn load(path: &Path) -> std::io::Result<Prelude> {
        let failed = |error: libloading::Error| {
            std::io::Error::other(format!(
                "cannot load the prelude from {}: {}",
                path.display(),
                reason(&error)
            ))
        };
        // Its symbols and those of what it needs are for all cells, which are linked against nothing.
        // SAFETY: the library is the one that the session built; it has no constructors with side effects.
        let library =
            unsafe { unix::Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(failed)?;
        // SAFETY: the prelude exports these functions with these signatures.
        let prelude = unsafe {
            Prelude {
                session_start: *library.get(b"glassbox_session_start\0").map_err(failed)?,
                cell_begin: *library.get(b"glassbox_cell_begin\0").map_err(failed)?,
                cell_end: *library.get(b"glassbox_cell_end\0").map_err(failed)?,
                comm: *library.get(b"glassbox_comm\0").map_err(failed)?,
                can_show: *library.get(b"glassbox_can_show\0").map_err(failed)?,
                show: *library.get(b"glassbox_show\0").map_err(failed)?,
                watch_threads: *library.get(b"glassbox_watch_threads\0").map_err(failed)?,
            }
        };
        std::mem::forget(library);
        Ok(prelude)
    }
}

/// What the system said: the error itself names only the call.
fn reason(error: &libloading::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

fn required(name: &'static str) -> std::io::Result<std::ffi::OsString> {
    std::env::var_os(name).ok_or_else(|| {
        std::io::Error::other(format!(
            "{name} is not set: this role is for sessions to start"
        ))
    })
}

/// A copy of a descriptor that programs started by cells do not inherit.
fn duplicate(fd: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: no memory is involved; the result is checked before it is owned.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn control_pipe() -> std::io::Result<[OwnedFd; 2]> {
    let mut ends = [0; 2];
    // SAFETY: the array has room for both descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptors were just made and nobody else owns them.
    Ok(ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn redirect(path: &Path, fd: RawFd, write: bool) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .read(!write)
        .write(write)
        .open(path)
        .map_err(|error| {
            std::io::Error::other(format!("cannot open {}: {error}", path.display()))
        })?;
    // SAFETY: both descriptors are open.
    match unsafe { libc::dup2(file.as_raw_fd(), fd) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes back what the session set in the environment for this process only, so that programs started by cells don't
/// meet our libraries.
fn restore_environment() {
    // SAFETY: this process has no other thread that reads the environment yet.
    unsafe {
        match std::env::var_os(LIBRARY_PATH_BEFORE_VARIABLE) {
            Some(before) => std::env::set_var("LD_LIBRARY_PATH", before),
            None => std::env::remove_var("LD_LIBRARY_PATH"),
        }
        std::env::remove_var(LIBRARY_PATH_BEFORE_VARIABLE);
        // Set by the session. Errors of candle would carry a backtrace in their message; panics get theirs in any case.
        std::env::remove_var("RUST_BACKTRACE");
        // What cells make has the modes that the user wants.
        if let Some(umask) = std::env::var(UMASK_VARIABLE)
            .ok()
            .and_then(|octal| libc::mode_t::from_str_radix(&octal, 8).ok())
        {
            libc::umask(umask);
        }
        std::env::remove_var(UMASK_VARIABLE);
    }
}

/// Ends the process, whatever cell runs in it, when the other end of `commands` is closed: the session is gone.
fn end_with_the_session(commands: RawFd) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("session watch".to_owned())
        .spawn(move || {
            let mut polled = libc::pollfd {
                fd: commands,
                events: 0,
                revents: 0,
            };
            loop {
                // SAFETY: the structure is alive.
                let ready = unsafe { libc::poll(&mut polled, 1, -1) };
                if ready > 0
                    && polled.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
                {
                    break;
                }
            }
            // An idle process sees the end of its commands and leaves by itself.
            std::thread::sleep(patience::ORPHAN);
            offspring::end(std::process::id());
            // SAFETY: no memory is involved. The group is this process and what its cells started.
            unsafe { libc::kill(0, libc::SIGKILL) };
        })?;
    Ok(())
}
