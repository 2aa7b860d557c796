//! `:time CODE`: runs code like a cell and says where the time went.

use std::time::Duration;

use super::Call;
use crate::figures::time;
use crate::session::event::{Event, StreamName};
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    if call.code.trim().is_empty() {
        return call.refuse("there is no code to time; write `:time CODE`");
    }
    let before = call.session.interrupter().processor_time();
    let outcome = call.session.evaluate_logged(&call.code, call.sink);
    let after = call.session.interrupter().processor_time();
    if let Some(ran) = outcome.ran {
        let busy = after
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        let text = sentence(ran, busy, outcome.duration);
        (call.sink)(Event::Stream {
            name: StreamName::Stdout,
            text,
        });
    }
    outcome
}

/// The system counts processor time in hundredths of a second: below this it says nothing.
const WORTH_SAYING: Duration = Duration::from_millis(50);

fn sentence(ran: Duration, busy: Option<Duration>, whole: Duration) -> String {
    let processor = busy
        .filter(|_| ran >= WORTH_SAYING)
        .map(|busy| format!(" (processor time {})", time(busy)))
        .unwrap_or_default();
    format!(
        "ran {}{processor}; compiled and loaded {}\n",
        time(ran),
        time(whole.saturating_sub(ran))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_say_nothing_of_the_processor() {
        let ms = Duration::from_millis;
        assert_eq!(
            sentence(ms(2), Some(ms(0)), ms(202)),
            "ran 2.00 ms; compiled and loaded 200 ms\n"
        );
        assert_eq!(
            sentence(ms(1000), Some(ms(1900)), ms(1200)),
            "ran 1.00 s (processor time 1.90 s); compiled and loaded 200 ms\n"
        );
    }
}
