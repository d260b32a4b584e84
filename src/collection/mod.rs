//! Collections: documents with a schema and indexes.
//!
//! ```text
//! api, build            what users call; indexes on filled collections
//!   many                many documents in one call
//!   documents, check    a document with everything that belongs to it
//!     incoming, new_id  what comes to be stored, and its id
//!     index, catalog    entries of an index; which collections there are
//!       meta, schema    what a collection is
//!         nearest       the name that is meant by one that is none
//! ```

mod api;
mod build;
pub(crate) mod catalog;
mod check;
pub(crate) mod documents;
pub(crate) mod incoming;
pub(crate) mod index;
pub(crate) mod many;
pub(crate) mod meta;
mod nearest;
pub(crate) mod new_id;
pub(crate) mod patch;
mod schema;

pub use api::{Collection, CollectionMut, CollectionView, IndexInfo};
pub use build::BuildProgress;
pub(crate) use check::check;
pub use patch::Patch;
pub use schema::{Field, Index, Schema};
