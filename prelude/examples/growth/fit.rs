//! The exponent of a power that goes through measured values.

/// So many of the largest sizes are fitted.
const LARGEST: usize = 3;
/// What is smaller (seconds, megabytes) is noise.
const LEAST: f64 = 0.01;

/// e of `value = c · size^e` by least squares over the logarithms of the three largest sizes; `None` where a value is too small to
/// say anything.
pub fn exponent(sizes: &[usize], values: &[f64]) -> Option<f64> {
    let from = sizes.len().checked_sub(LARGEST)?;
    let points: Vec<(f64, f64)> = sizes[from..]
        .iter()
        .zip(values.get(from..)?)
        .map(|(&size, &value)| (value > LEAST).then(|| ((size as f64).ln(), value.ln())))
        .collect::<Option<_>>()?;
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    Some(above / below)
}
