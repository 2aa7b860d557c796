//! The REPL in a terminal: keys typed into a pseudo terminal, and what stands on its screen.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The first session of a machine waits for the prelude to be built.
const COLD: Duration = Duration::from_secs(30 * 60);
const WARM: Duration = Duration::from_secs(60);
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_R: &str = "\u{12}";
const ENTER: &str = "\r";

/// A program in a terminal of 100 columns and 40 rows.
struct Terminal {
    program: Child,
    keys: File,
    /// Everything that was written so far.
    written: Arc<Mutex<String>>,
    /// How much of it was looked at.
    seen: usize,
    _home: tempfile::TempDir,
}

impl Terminal {
    fn start() -> Terminal {
        let size = libc::winsize {
            ws_row: 40,
            ws_col: 100,
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
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
        command
            .arg("repl")
            .env("TERM", "xterm-256color")
            .env("COLORTERM", "truecolor")
            .env("XDG_DATA_HOME", home.path())
            .env_remove("NO_COLOR")
            .stdin(copy())
            .stdout(copy())
            .stderr(copy());
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
        let written = Arc::new(Mutex::new(String::new()));
        let mut screen = keys.try_clone().expect("a descriptor can be copied");
        let (collected, mut answers) = (written.clone(), keys.try_clone().expect("as above"));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails when the program has gone.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                // A terminal is asked where its cursor is.
                for _ in text.matches("\u{1b}[6n") {
                    let _ = answers.write_all(b"\x1b[10;1R");
                }
                collected.lock().unwrap().push_str(&text);
            }
        });
        Terminal {
            program,
            keys,
            written,
            seen: 0,
            _home: home,
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Types a line and gives the editor time to take it, as a person does.
    fn enter(&mut self, line: &str) {
        self.type_keys(line);
        self.type_keys(ENTER);
    }

    /// Waits until `text` is written, after what was waited for before; gives back what came up to there, without colours.
    fn wait_for(&mut self, text: &str, patience: Duration) -> String {
        let begun = Instant::now();
        loop {
            let plain = {
                let written = self.written.lock().unwrap();
                console::strip_ansi_codes(&written).into_owned()
            };
            let new = plain.get(self.seen..).unwrap_or_default();
            if let Some(at) = new.find(text) {
                let end = at + text.len();
                let before = new[..end].to_owned();
                self.seen += end;
                return before;
            }
            assert!(begun.elapsed() < patience, "no {text:?} after:\n{new}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits for the prompt of a cell.
    fn prompt(&mut self, number: usize) -> String {
        self.wait_for(&format!("[{number}] › "), WARM)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
#[ignore = "fails after the completion menu was left with Escape and ctrl-c: what is typed next does not arrive"]
fn a_person_works_at_the_terminal() {
    let mut terminal = Terminal::start();
    terminal.wait_for("[1] › ", COLD);

    // A cell goes on until its brackets are closed.
    terminal.enter("/** Doubles a number. */ fn double(x: i32) -> i32 {");
    terminal.wait_for("· ", WARM);
    terminal.enter("x * 2 }");
    terminal.prompt(2);
    terminal.enter("double(21)");
    terminal.wait_for("\n42", WARM);
    terminal.prompt(3);

    // Help for a name.
    terminal.enter("?double");
    terminal.wait_for("Doubles a number", WARM);
    terminal.prompt(3);

    // A menu of names, with what they are.
    terminal.enter("let words = vec![String::from(\"a\")];");
    terminal.prompt(4);
    terminal.type_keys("words.first_\t");
    terminal.wait_for("first_chunk", WARM);
    terminal.type_keys("\u{1b}");
    std::thread::sleep(Duration::from_millis(200));
    terminal.type_keys(CTRL_C);
    terminal.prompt(4);

    // ctrl-c stops a cell and keeps the variables.
    terminal
        .enter("let mut n = 0; println!(\"be{}\", \"gun\"); loop { check_interrupt()?; n += 1; }");
    terminal.wait_for("begun", WARM);
    terminal.type_keys(CTRL_C);
    terminal.wait_for("Interrupted", WARM);
    terminal.prompt(5);
    terminal.enter("words.len() + 100");
    terminal.wait_for("\n101", WARM);
    terminal.prompt(6);

    // A display that changes is redrawn in place: only its last state stays on the screen.
    terminal.enter("let mut live = display_live(&MimeBundle::text(\"fir\".to_owned() + \"st\")); live.update(&MimeBundle::text(\"la\".to_owned() + \"st\"));");
    terminal.wait_for("first", WARM);
    terminal.wait_for("last", WARM);
    terminal.prompt(7);

    // A picture, in half blocks where the terminal knows no better way.
    terminal.enter("Shapes::new(ShapesConfig::default())?.sample(Split::Train, 0)?.image");
    terminal.wait_for("▄", WARM);
    terminal.prompt(8);

    // What was typed before is found by a piece of it.
    terminal.type_keys(CTRL_R);
    terminal.wait_for("search", WARM);
    terminal.type_keys("fn dou");
    terminal.wait_for("x * 2 }", WARM);
    terminal.type_keys(CTRL_C);
    terminal.prompt(8);

    // An error in colour, with a link to the page about it.
    terminal.enter("let wrong: u8 = \"é\";");
    terminal.wait_for("mismatched types", WARM);
    terminal.prompt(9);
    {
        let written = terminal.written.lock().unwrap();
        assert!(written.contains("\u{1b}]8;;https://doc.rust-lang.org/error_codes/E0308.html"));
        assert!(
            written.contains("\u{1b}[35m") || written.contains("\u{1b}[38;"),
            "no colours while typing"
        );
    }
    terminal.type_keys(CTRL_D);
    let status = terminal.program.wait().expect("the program ends");
    assert_eq!(status.code(), Some(0));
}
