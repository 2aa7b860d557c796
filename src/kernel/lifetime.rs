//! When the kernel ends without being asked: its parent is gone, or the system says so.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::wire::log;

/// How often the parent is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Sends a reason once the process named by `JPY_PARENT_PID` is gone; without that variable, waits for ever.
pub async fn end_with_parent(stop: UnboundedSender<&'static str>) {
    let named = std::env::var("JPY_PARENT_PID")
        .ok()
        .and_then(|text| text.parse::<i32>().ok());
    let Some(named) = named.filter(|pid| *pid > 1) else {
        return;
    };
    // A direct child is handed to another process when its parent ends, also if the parent stays as a zombie.
    let direct = parent() == named;
    while exists(named) && (!direct || parent() == named) {
        tokio::time::sleep(LOOK).await;
    }
    let _ = stop.send("its parent process is gone");
}

/// SIGTERM ends the kernel, SIGINT interrupts the cell.
pub async fn signals(stop: UnboundedSender<&'static str>, interrupt: impl Fn()) {
    let (mut terminate, mut ctrl_c) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(terminate), Ok(ctrl_c)) => (terminate, ctrl_c),
        (Err(error), _) | (_, Err(error)) => {
            return log(&format!("signals are not handled: {error}"));
        }
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                let _ = stop.send("it was asked to terminate");
                return;
            }
            _ = ctrl_c.recv() => interrupt(),
        }
    }
}

fn parent() -> i32 {
    // SAFETY: getppid has no preconditions and cannot fail.
    unsafe { libc::getppid() }
}

fn exists(pid: i32) -> bool {
    // SAFETY: signal 0 only asks whether the process is there.
    let found = unsafe { libc::kill(pid, 0) } == 0;
    found || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
