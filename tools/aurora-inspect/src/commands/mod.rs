//! The commands: each reads a file and makes a [`Report`](crate::Report).

mod blob;
mod check;
mod diff;
mod document;
mod drawing;
mod dump;
mod page;
mod pages;
mod path;
mod picture;
mod salvage;
mod space;
mod summary;
mod tree;
mod wal;

pub use blob::blob;
pub use check::check;
pub use diff::diff;
pub use document::document;
pub use dump::{dump, load};
pub use page::{PageOptions, page};
pub use pages::{Filter, pages};
pub use path::path;
pub use picture::picture;
pub use salvage::salvage;
pub use space::space;
pub use summary::{FreeSpace, summary};
pub use tree::tree;
pub use wal::wal;

use aurora::anatomy::Header;

use crate::Source;
use crate::wal::Wal;

/// What moment is shown: the checkpoint, and what waits behind it.
fn moment(source: &Source, wal: Option<&Wal>) -> String {
    let Some(header) = source.chosen() else {
        return String::from("no header slot is sound\n");
    };
    let mut text = moment_of(header);
    if let Some(wal) = wal {
        text += &match wal.commits {
            0 => String::from("; nothing waits in the log"),
            1 => String::from("; 1 later transaction waits in the log and is not in the trees"),
            n => format!("; {n} later transactions wait in the log and are not in the trees"),
        };
    }
    text.push('\n');
    text
}

fn moment_of(header: &Header) -> String {
    format!(
        "checkpoint {}, version {}",
        header.checkpoint, header.version
    )
}

fn no_tree(name: &str) -> crate::Failure {
    crate::Failure(format!(
        "the checkpoint has no tree {name:?}; `summary` lists those that it has"
    ))
}
