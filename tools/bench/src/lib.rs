//! What the binaries of this package share: repeatable random numbers and the middle of a list.

mod random;
mod statistics;

pub use random::Random;
pub use statistics::{mean, median, median_of, percentile};
