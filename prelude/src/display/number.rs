//! Figures as people read them: thousands separated, a few significant digits, units that fit.

use std::time::Duration;

/// A count with separated thousands: `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// About four significant digits, without an exponent where a reader can do without: `0.01234`, `12.35`, `1.2e−7`.
pub fn float(value: f64) -> String {
    significant(value, 4)
}

/// About three significant digits, for narrow columns: `0.0123`, `12.4`, `1.2e−7`.
pub fn short(value: f64) -> String {
    significant(value, 3)
}

fn significant(value: f64, digits: i32) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 {
            "∞".into()
        } else {
            "−∞".into()
        }
    } else if size == 0.0 {
        "0".into()
    } else if !(1e-4..1e6).contains(&size) {
        minus(format!("{value:.2e}"))
    } else {
        let decimals = (digits - 1 - size.log10().floor() as i32).max(0) as usize;
        minus(trim_zeros(format!("{value:.decimals$}")))
    }
}

/// A share as per cent: `12.5%`, `<0.1%`.
pub fn percent(fraction: f64) -> String {
    if !fraction.is_finite() {
        "–".into()
    } else if fraction > 0.0 && fraction < 0.0005 {
        "<0.1%".into()
    } else if fraction.abs() >= 1e6 {
        format!("{}%", float(fraction * 100.0)) // digits that say nothing are left out
    } else {
        format!("{:.1}%", fraction * 100.0)
    }
}

/// A size in memory: `940 B`, `1.5 MB` (powers of 1000).
pub fn bytes(value: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < units.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value} B")
    } else {
        format!("{size:.1} {}", units[unit])
    }
}

/// A time that was measured, in seconds: three digits that count, in the unit that fits.
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s >= 1e-6 => (s * 1e6, "µs"),
        s => (s * 1e9, "ns"),
    };
    format!("{} {unit}", short(value))
}

/// A time that passes, as progress shows it: `0.8 ms`, `12.3 s`, `4:05`, `1:02:30`.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    let whole = seconds.round() as u64;
    if seconds < 0.9995 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{}:{:02}", whole / 60, whole % 60)
    } else {
        format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
    }
}

fn trim_zeros(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// The typographic minus has the width of a digit, so that columns of figures stand still.
fn minus(text: String) -> String {
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_separated() {
        assert_eq!(
            [0, 12, 123, 1234, 62_914_560].map(count),
            ["0", "12", "123", "1,234", "62,914,560"]
        );
    }

    #[test]
    fn floats_are_short() {
        let shown = [
            0.0,
            0.012345,
            12.345678,
            -3.5,
            123456.7,
            1.2e-7,
            f64::NAN,
            f64::NEG_INFINITY,
        ]
        .map(float);
        assert_eq!(
            shown,
            [
                "0",
                "0.01235",
                "12.35",
                "−3.5",
                "123457",
                "1.20e−7",
                "NaN",
                "−∞"
            ]
        );
    }

    #[test]
    fn short_floats_are_shorter() {
        let shown = [0.0, -0.012345, 12.345678, 1234.5].map(short);
        assert_eq!(shown, ["0", "−0.0123", "12.3", "1234"]);
    }

    #[test]
    fn units_fit() {
        assert_eq!(
            [940, 1_500_000, 999_999].map(bytes),
            ["940 B", "1.5 MB", "1.0 MB"]
        );
        let times =
            [0.0008, 12.34, 245.0, 3750.0, 59.99].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(times, ["0.8 ms", "12.3 s", "4:05", "1:02:30", "1:00"]);
        assert_eq!(
            [0.125, 0.0001, 0.0, 1e8].map(percent),
            ["12.5%", "<0.1%", "0.0%", "1.00e10%"]
        );
    }
}
