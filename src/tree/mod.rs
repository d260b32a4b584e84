//! to be written
pub(crate) mod pages;
