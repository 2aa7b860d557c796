//! What the figures of a few seeds say of all seeds: values → mean and the half-width of its 95% interval.
//!
//! Student's: mean ± t · s / √n with n − 1 degrees of freedom. It takes figures of seeds as spread like a bell.

/// t below which 97.5% of Student's distribution lie, for 1 to 10 degrees of freedom.
const T: [f64; 10] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
];
/// The same for infinitely many.
const Z: f64 = 1.959_963_984_540_054;

/// Mean, and half the width of its interval where there are two values or more.
pub(super) fn of(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().map(|value| value / n).sum::<f64>();
    let Some(freedom) = values.len().checked_sub(1).filter(|freedom| *freedom > 0) else {
        return (mean, None);
    };
    let squares = values.iter().map(|value| (value - mean).powi(2));
    let deviation = (squares.sum::<f64>() / freedom as f64).sqrt();
    (mean, Some(t(freedom) * deviation / n.sqrt()))
}

fn t(freedom: usize) -> f64 {
    if let Some(t) = T.get(freedom - 1) {
        return *t;
    }
    // Cornish and Fisher's expansion; right to three digits behind the point from here on.
    let n = freedom as f64;
    let z = |power| Z.powi(power);
    Z + (z(3) + Z) / (4.0 * n)
        + (5.0 * z(5) + 16.0 * z(3) + 3.0 * Z) / (96.0 * n * n)
        + (3.0 * z(7) + 19.0 * z(5) + 17.0 * z(3) - 15.0 * Z) / (384.0 * n * n * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [
            (1, 12.7062),
            (10, 2.2281),
            (11, 2.2010),
            (30, 2.0423),
            (120, 1.9799),
        ] {
            assert!(
                (t(freedom) - expected).abs() < 2e-4,
                "{freedom}: {}",
                t(freedom)
            );
        }
    }

    #[test]
    fn one_value_has_no_interval() {
        assert_eq!(of(&[2.0]), (2.0, None));
        let (mean, half) = of(&[1.0, 2.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-12);
        assert!((half.unwrap_or_default() - 4.3027 / 3f64.sqrt()).abs() < 1e-9);
    }
}
