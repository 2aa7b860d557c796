//! Figures as people read them.

use std::time::Duration;

/// A size in memory: `940 B`, `1.5 MB` (powers of 1000, as in the prelude).
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// A duration for people, with three digits that count: `12.3 µs`, `1.50 s`, `2 min 05 s`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 59.95 {
        let whole = seconds.round() as u64;
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    let (value, unit) = match seconds {
        // What rounds to a thousand of a unit is one of the next.
        s if s >= 0.9995 => (s, "s"),
        s if s >= 0.9995e-3 => (s * 1e3, "ms"),
        s if s >= 0.9995e-6 => (s * 1e6, "µs"),
        s => (s * 1e9, "ns"),
    };
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

/// A time of which only the order matters, for people: `45 s`, `2 min`.
pub(crate) fn about(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().ceil() as u64;
    match seconds {
        0..=90 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [size(512), size(1540), size(5 << 20), size(999_960_000)],
            ["512 B", "1.5 kB", "5.2 MB", "1.0 GB"]
        );
    }

    #[test]
    fn times_are_readable() {
        let shown = |seconds: f64| time(Duration::from_secs_f64(seconds));
        let about = |seconds: f64| about(Duration::from_secs_f64(seconds));
        assert_eq!(
            [about(0.2), about(90.0), about(119.8)],
            ["1 s", "90 s", "2 min"]
        );
        assert_eq!(
            [
                shown(12e-9),
                shown(12.34e-6),
                shown(0.25),
                shown(0.9996),
                shown(1.5),
                shown(12.34),
                shown(59.97),
                shown(125.2)
            ],
            [
                "12.0 ns",
                "12.3 µs",
                "250 ms",
                "1.00 s",
                "1.50 s",
                "12.3 s",
                "1 min 00 s",
                "2 min 05 s"
            ]
        );
    }
}
