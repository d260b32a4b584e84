//! The middle and the ends of many measurements.

use std::time::Duration;

/// The middle one, in seconds.
pub fn median(times: Vec<Duration>) -> Option<f64> {
    median_of(times.iter().map(Duration::as_secs_f64).collect())
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
