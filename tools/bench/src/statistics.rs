//! The middle and the ends of many measurements.

use std::time::Duration;

/// The middle one, in seconds.
pub fn median(times: Vec<Duration>) -> Option<f64> {
    median_of(times.iter().map(Duration::as_secs_f64).collect())
}

/// The sum, shared evenly, in seconds.
pub fn mean(times: Vec<Duration>) -> Option<f64> {
    let sum: Duration = times.iter().sum();
    (!times.is_empty()).then(|| sum.as_secs_f64() / times.len() as f64)
}

pub fn median_of(values: Vec<f64>) -> Option<f64> {
    percentile(values, 0.5)
}

/// The value below which a share of the others lie.
pub fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share) as usize;
    values
        .get(place.min(values.len().saturating_sub(1)))
        .copied()
}
