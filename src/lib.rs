//! Aurora.
#![deny(missing_docs)]

mod error;
mod format;
pub mod storage;
mod tree;

pub use error::{Error, Result};
