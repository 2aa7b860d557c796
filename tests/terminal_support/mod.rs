//! A terminal for tests: the real program in a pseudo terminal, keys in, and what stands on the screen.
//!
//! keys → pseudo terminal → program → bytes → terminal emulator → rows of text

// Tests that hold sessions too have it from there as well.
#[allow(clippy::duplicate_mod)]
#[path = "../session_support/analyst.rs"]
mod analyst;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The first session of a machine waits for the prelude to be built.
const COLD: Duration = Duration::from_secs(30 * 60);
const WARM: Duration = Duration::from_secs(60);
/// How often the screen is looked at.
const LOOK: Duration = Duration::from_millis(20);

pub const CTRL_C: &str = "\u{3}";
pub const CTRL_D: &str = "\u{4}";
pub const CTRL_R: &str = "\u{12}";
pub const ESCAPE: &str = "\u{1b}";
pub const ALT_ENTER: &str = "\u{1b}\r";
pub const ENTER: &str = "\r";
pub const TAB: &str = "\t";

/// Answers what programs ask a terminal: where its cursor is.
struct Answers {
    keys: File,
}

impl vt100::Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        first: Option<u8>,
        _: Option<u8>,
        parameters: &[&[u16]],
        command: char,
    ) {
        if command == 'n' && first.is_none() && parameters == [[6]] {
            let (row, column) = screen.cursor_position();
            let _ = write!(self.keys, "\u{1b}[{};{}R", row + 1, column + 1);
        }
    }
}

struct Shown {
    emulator: vt100::Parser<Answers>,
    /// Everything that was written so far.
    written: Vec<u8>,
}

/// A program in a terminal.
pub struct Terminal {
    program: Child,
    keys: File,
    shown: Arc<Mutex<Shown>>,
    /// Where the program remembers what was typed.
    _home: Option<tempfile::TempDir>,
}

impl Terminal {
    /// `glassbox repl` in a terminal of 100 columns and 40 rows, ready for the first cell.
    pub fn start() -> Terminal {
        Terminal::start_with(100, None, &[])
    }

    /// The same with so many columns, a folder for the history, and variables besides.
    pub fn start_with(columns: u16, home: Option<&Path>, variables: &[(&str, &str)]) -> Terminal {
        let own_home = match home {
            Some(_) => None,
            None => Some(tempfile::tempdir().expect("a temporary folder")),
        };
        let data = home.or(own_home.as_ref().map(tempfile::TempDir::path));
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
        command
            .arg("repl")
            .env("TERM", "xterm-256color")
            .env("COLORTERM", "truecolor")
            .envs(data.map(|path| ("XDG_DATA_HOME", path)));
        for variable in ["NO_COLOR", "TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM"] {
            command.env_remove(variable);
        }
        command.envs(variables.iter().copied());
        let mut terminal = Terminal::of(command, columns);
        terminal._home = own_home;
        terminal.wait_for_long("[1]", COLD);
        terminal
    }

    fn of(mut command: Command, columns: u16) -> Terminal {
        analyst::beside();
        let rows = 40;
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: the pointers are to live values; no name or settings are asked for.
        let opened = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                &size,
            )
        };
        assert_eq!(opened, 0, "no pseudo terminal");
        // SAFETY: both descriptors were just made and nobody else owns them.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let copy = || theirs.try_clone().expect("a descriptor can be copied");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: only functions that are safe between fork and exec are called.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let program = command.spawn().expect("the program starts");
        let keys = File::from(ours);
        let copy = || keys.try_clone().expect("a descriptor can be copied");
        let answers = Answers { keys: copy() };
        let shown = Arc::new(Mutex::new(Shown {
            emulator: vt100::Parser::new_with_callbacks(rows, columns, 0, answers),
            written: Vec::new(),
        }));
        let (mut screen, filled) = (copy(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails when the program has gone.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let mut shown = filled.lock().unwrap();
                shown.emulator.process(&bytes[..count]);
                shown.written.extend_from_slice(&bytes[..count]);
            }
        });
        Terminal {
            program,
            keys,
            shown,
            _home: None,
        }
    }

    /// Presses keys, all at once.
    pub fn press(&mut self, keys: &str) {
        self.keys
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Types a line and presses Enter.
    pub fn enter(&mut self, line: &str) {
        self.press(&format!("{line}{ENTER}"));
    }

    /// The rows of the screen.
    pub fn screen(&self) -> String {
        self.shown.lock().unwrap().emulator.screen().contents()
    }

    /// All that was written to the terminal, control sequences included.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap().written).into_owned()
    }

    /// Waits until the screen looks as it should.
    pub fn wait_until(&self, what: &str, patience: Duration, is_so: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return;
            }
            assert!(begun.elapsed() < patience, "no {what} on:\n{screen}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until `text` stands on the screen.
    pub fn wait_for(&self, text: &str) {
        self.wait_for_long(text, WARM);
    }

    fn wait_for_long(&self, text: &str, patience: Duration) {
        self.wait_until(&format!("{text:?}"), patience, |screen| {
            screen.contains(text)
        });
    }

    /// Waits until the prompt of a cell is the last thing on the screen; returns the rows above it.
    pub fn prompt(&self, number: usize) -> String {
        let prompt = format!("[{number}] ›");
        self.wait_until(&format!("prompt {number}"), WARM, |screen| {
            screen.trim_end().lines().next_back().map(str::trim_end) == Some(&prompt)
        });
        let screen = self.screen();
        let above = screen.trim_end().trim_end_matches('›').trim_end();
        above
            .rsplit_once('\n')
            .map_or("", |(above, _)| above)
            .to_owned()
    }

    /// Types a cell, and waits for the prompt of the next one.
    pub fn run(&mut self, cell: &str, next: usize) -> String {
        self.enter(cell);
        self.prompt(next)
    }

    /// Presses keys after which a prompt with the same number comes again, and waits for it.
    pub fn again(&mut self, keys: &str, number: usize) -> String {
        let before = self.prompt(number);
        self.press(keys);
        let prompt = format!("[{number}] ›");
        self.wait_until("another prompt", WARM, |screen| {
            let (above, last) = screen.trim_end().rsplit_once('\n').unwrap_or_default();
            last.trim_end() == prompt && above.trim_end() != before.trim_end()
        });
        self.prompt(number)
    }

    /// Types a command, after which the prompt has the same number.
    pub fn command(&mut self, command: &str, number: usize) -> String {
        self.again(&format!("{command}{ENTER}"), number)
    }

    /// Waits until the program has ended.
    pub fn ended(&mut self) -> ExitStatus {
        self.program.wait().expect("the program ends")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
