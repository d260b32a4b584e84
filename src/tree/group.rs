//! Finding many entries at once.
//!
//! Each step down is taken for all of them before the next is taken for any: what one waits for in
//! memory arrives while the others are asked for.

use std::ops::Deref;

use crate::Result;
use crate::format::node::{self, Node, ValueAt};
use crate::format::{PageRef, RunRef, TreeRoot};

use super::node_at;
use super::pages::ReadPages;
use super::upcoming::Upcoming;

/// So many entries are looked for at once by [`find_group`].
pub(crate) const GROUP: usize = 32;

/// Finds up to [`GROUP`] entries at once. Gives each key's leaf, and where in it the value is, to
/// `take`, until that says that it wants no more.
pub(crate) fn find_group<P: ReadPages>(
    pages: &P,
    root: &TreeRoot,
    keys: &[&[u8]],
    mut take: impl FnMut(&[u8], Option<(&[u8], ValueAt)>) -> Result<bool>,
) -> Result<bool> {
    if root.is_empty() {
        for key in keys {
            if !take(key, None)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let mut at = [root.root; GROUP];
    let mut slots = [0; GROUP];
    for level in (1..=root.level).rev() {
        let nodes = read_group(pages, &at, keys.len())?;
        let mut before = None;
        for (i, (key, slot)) in keys.iter().zip(&mut slots).enumerate() {
            let node = nodes.node(i, &at, level)?;
            *slot = match before {
                // Keys in order often go the same way.
                Some((near, slot)) if near == nodes.place(i) => node.child_index_near(key, slot),
                _ => node.child_index(key),
            };
            node.warm_child(*slot);
            before = Some((nodes.place(i), *slot));
        }
        for (i, (page, slot)) in at.iter_mut().zip(slots).take(keys.len()).enumerate() {
            *page = Node::new(nodes.bytes(i)).child(slot).page;
        }
    }
    let leaves = read_group(pages, &at, keys.len())?;
    for (i, (key, slot)) in keys.iter().zip(&mut slots).enumerate() {
        let node = leaves.node(i, &at, 0)?;
        *slot = node.lowest(key);
        node.warm_cell(*slot);
    }
    let mut has_fetched = false;
    for (i, (key, lowest)) in keys.iter().zip(slots).enumerate() {
        let leaf = leaves.bytes(i);
        let node = Node::new(leaf);
        let found = node.search_from(lowest, key).ok();
        let found = found.map(|slot| (leaf, node.value(slot)));
        if let Some((_, ValueAt::Run(run))) = &found
            && !has_fetched
            && pages.is_far(run.first)
        {
            has_fetched = true;
            pages.fetch_runs(leaves.runs(i, keys, &slots));
        }
        if !take(key, found)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The pages of a group of keys; neighbours share theirs.
struct PageGroup<B> {
    pages: [Option<B>; GROUP],
    /// Which of them is a key's.
    places: [u8; GROUP],
}

impl<B: Deref<Target = [u8]>> PageGroup<B> {
    #[inline]
    fn place(&self, i: usize) -> u8 {
        self.places.get(i).copied().unwrap_or_default()
    }

    #[inline]
    fn bytes(&self, i: usize) -> &[u8] {
        let page = self.pages.get(usize::from(self.place(i)));
        page.and_then(Option::as_deref).unwrap_or_default()
    }

    /// The long values of the keys from `first` on, in leaves where they are to be found from those slots on.
    fn runs<'k>(
        &'k self,
        first: usize,
        keys: &'k [&[u8]],
        slots: &'k [usize; GROUP],
    ) -> impl Iterator<Item = RunRef> + 'k {
        let places = keys.iter().zip(slots).enumerate().skip(first);
        places.filter_map(|(i, (key, lowest))| {
            let node = Node::new(self.bytes(i));
            node.run(node.search_from(*lowest, key).ok()?)
        })
    }

    #[inline]
    fn node(&self, i: usize, at: &[PageRef; GROUP], level: u8) -> Result<Node<'_>> {
        let page = at.get(i).map_or(0, |at| at.page);
        node_at(self.bytes(i), page, level)
    }
}

/// Reads the pages of so many keys.
#[inline]
fn read_group<'p, P: ReadPages>(
    pages: &'p P,
    at: &[PageRef; GROUP],
    count: usize,
) -> Result<PageGroup<P::Bytes<'p>>> {
    for page in at.iter().take(count) {
        pages.ask(page);
    }
    let mut group = PageGroup {
        pages: std::array::from_fn(|_| None),
        places: [0; GROUP],
    };
    let mut last = None;
    let mut upcoming = Upcoming::default();
    for ((i, page), place) in { 0u8.. }.zip(at).zip(&mut group.places).take(count) {
        *place = match last {
            Some((place, before)) if before == page.page => place,
            _ => {
                let turn = |i: usize| Some(at.get(..count)?.get(i)?.page);
                upcoming.turn(pages, usize::from(i), turn);
                let bytes = pages.read(page)?;
                node::warm(&bytes);
                if let Some(page) = group.pages.get_mut(usize::from(i)) {
                    *page = Some(bytes);
                }
                i
            }
        };
        last = Some((*place, page.page));
    }
    Ok(group)
}
