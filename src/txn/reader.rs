//! Many lookups in one tree, one after the other, without a count for each.
//!
//! [`TreeView::get`] takes a pin, which is a fence, for each descent, and a count of the frame that
//! the value is in, so that the value can stay for as long as its snapshot. Both are changes of memory
//! behind which the processor does not look ahead. A reader keeps one pin for all of its lookups and
//! lends the value until the next one: it counts nothing.

use super::shared::PinnedPages;
use super::value::ValueRef;
use super::view::{Source, TreeView};
use crate::Result;
use crate::format::node::ValueAt;
use crate::pager::{Pin, PinnedBytes, pin};
use crate::tree;

/// Looks up one key after the other in a tree, and lends the values.
///
/// For loops over many keys: a lookup takes about a twentieth less than [`TreeView::get`], and the
/// value is good until the next one. It stays with its thread.
///
/// From one call to the next, memory of pages that others replace or that leave the cache is not used
/// again, by any database of the process: make one for a batch of lookups, and let it go when they
/// are done. (Of two readers in one thread, both have to go.)
///
/// ```
/// # let db = aurora::Aurora::in_memory()?;
/// db.write(|tx| tx.tree("capitals")?.put("Norway", "Oslo"))?;
///
/// let snapshot = db.begin_read()?;
/// let capitals = snapshot.tree("capitals")?;
/// let mut reader = capitals.reader();
/// assert_eq!(reader.get("Norway")?, Some(&b"Oslo"[..]));
/// assert_eq!(reader.get("Atlantis")?, None);
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug)]
pub struct TreeReader<'a> {
    view: TreeView<'a>,
    pin: Pin,
    /// The value that was lent last, if it needs a count.
    held: Option<ValueRef<'a>>,
}

impl<'a> TreeReader<'a> {
    pub(super) fn new(view: TreeView<'a>) -> Self {
        TreeReader {
            view,
            pin: pin(),
            held: None,
        }
    }

    /// The value of a key, until the next call.
    ///
    /// A value that is longer than a third of a page is checked as a whole when it is first read.
    #[inline]
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<&[u8]>> {
        // Pages that were replaced since the last call can go. (Nothing of it is borrowed any more.)
        self.pin.renew();
        let key = key.as_ref();
        let Source::Shared(pager) = self.view.source else {
            return get_held(&self.view, key, &mut self.held);
        };
        let pages = PinnedPages {
            pager,
            pin: &self.pin,
        };
        let Some(found) = tree::find(&pages, &self.view.root, key)? else {
            return Ok(None);
        };
        match (found.value, found.leaf) {
            (ValueAt::Inline(range), PinnedBytes::Frame(frame)) => Ok(frame.bytes().get(range)),
            (ValueAt::Inline(range), PinnedBytes::Mapped(bytes)) => Ok(bytes.get(range)),
            (ValueAt::Run(_), _) => get_held(&self.view, key, &mut self.held),
        }
    }
}

/// A value that needs more than the pin to stay.
#[cold]
fn get_held<'r, 'a>(
    view: &TreeView<'a>,
    key: &[u8],
    held: &'r mut Option<ValueRef<'a>>,
) -> Result<Option<&'r [u8]>> {
    *held = view.get(key)?;
    Ok(held.as_deref())
}
