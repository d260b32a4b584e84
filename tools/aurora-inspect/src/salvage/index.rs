//! Every page of the file that proves itself: checksum, own number, a node or a page of the space
//! map whose every offset is right.
//!
//! # Invariants
//!
//! 1. Memory is a few bytes for each such page.
//! 2. A page of the index is intact. Whether it is of the newest state is another question.

use aurora::anatomy::{
    self, BRANCH, Cell, LEAF, Node, PageHeader, Reference, Root, SPACE_BITMAP, SPACE_INDEX,
    UNIFORM_LEAF,
};

use crate::source::{PageBytes, Source};
use crate::{Failure, Watcher};

/// A page that proves itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intact {
    pub at: Reference,
    pub birth: u64,
    pub kind: u8,
    pub level: u8,
    /// Entries below a node.
    pub entries: u64,
}

impl Intact {
    pub fn is_node(&self) -> bool {
        [LEAF, BRANCH, UNIFORM_LEAF].contains(&self.kind)
    }
}

/// All of them, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pages: Vec<Intact>,
}

impl Index {
    /// Reads the whole file once.
    pub fn scan(source: &Source, watcher: &dyn Watcher) -> Result<Index, Failure> {
        watcher.phase("looking for intact pages", Some(source.file_pages().into()));
        let mut pages = Vec::new();
        for page in 2..source.file_pages() {
            watcher.pages(1);
            // What the device cannot read is no intact page.
            if let Ok(bytes) = source.raw_once(page)
                && let Some(intact) = examine(&bytes, page, source.salt())
            {
                pages.push(intact);
            }
        }
        Ok(Index { pages })
    }

    pub fn all(&self) -> impl Iterator<Item = &Intact> {
        self.pages.iter()
    }

    /// The intact page of that number.
    pub fn page(&self, page: u32) -> Option<&Intact> {
        let at = self.pages.binary_search_by_key(&page, |p| p.at.page).ok()?;
        self.pages.get(at)
    }

    /// The intact node that a reference leads to.
    pub fn node(&self, at: Reference) -> Option<&Intact> {
        self.page(at.page).filter(|p| p.at == at && p.is_node())
    }

    /// The node that a tree begins with, if it is what the catalog says in every way.
    pub fn root(&self, root: &Root) -> Option<&Intact> {
        let found = self.node(root.at)?;
        (found.level == root.level && found.entries == root.count).then_some(found)
    }
}

fn examine(bytes: &PageBytes, page: u32, salt: u64) -> Option<Intact> {
    let header = PageHeader::decode(bytes);
    if header.page != page || !(LEAF..=UNIFORM_LEAF).contains(&header.kind) {
        return None;
    }
    let at = Reference {
        page,
        checksum: header.checksum,
    };
    anatomy::verify(bytes, at, salt).ok()?;
    let entries = match header.kind {
        SPACE_BITMAP | SPACE_INDEX => 0,
        _ => entries_of(&Node::read(bytes, page).ok()?)?,
    };
    Some(Intact {
        at,
        birth: header.birth,
        kind: header.kind,
        level: header.level,
        entries,
    })
}

/// How many entries are below a node, if it is one that a tree can have.
fn entries_of(node: &Node<'_>) -> Option<u64> {
    node.check_cells().ok()?;
    if node.count() == 0 {
        return None;
    }
    let first = usize::from(node.is_branch());
    let mut before: Option<Vec<u8>> = None;
    for slot in first..node.count() {
        let key = node.key(slot);
        if before.is_some_and(|before| before >= key) {
            return None;
        }
        before = Some(key);
    }
    match node.is_branch() {
        false => Some(node.count() as u64),
        true => (0..node.count()).try_fold(0_u64, |sum, i| sum.checked_add(node.child(i).count)),
    }
}

/// An entry of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub name: String,
    pub number: u32,
    pub root: Root,
}

/// The entry of a catalog that these bytes are.
pub(crate) fn named(key: &[u8], value: &[u8]) -> Option<Named> {
    let name = std::str::from_utf8(key).ok()?;
    if !(1..=255).contains(&name.len()) {
        return None;
    }
    let (number, root) = anatomy::decode_catalog_entry(value)?;
    Some(Named {
        name: name.to_string(),
        number,
        root,
    })
}

/// The same with every rule that a writer keeps, for bytes that may be anything.
pub(crate) fn likely(key: &[u8], value: &[u8]) -> Option<Named> {
    let entry = named(key, value)?;
    let root = entry.root;
    let is_possible = match root.at.page {
        0 => root == Root::default(),
        page => page >= 2 && root.count > 0,
    };
    let is_reserved_zero = value.get(13..16)? == [0; 3];
    (value.len() == 24 && is_possible && is_reserved_zero).then_some(entry)
}

/// The entries of a leaf, if it is one of the catalog: all of them can be, and one at least leads
/// to the root of a tree that is there. No other leaf does, whatever its values.
pub(crate) fn catalog_leaf(index: &Index, node: &Node<'_>) -> Option<Vec<Named>> {
    if node.is_branch() {
        return None;
    }
    let mut entries = Vec::new();
    for slot in 0..node.count() {
        let Cell::Inline(value) = node.value(slot) else {
            return None;
        };
        entries.push(likely(&node.key(slot), value)?);
    }
    let proves = |entry: &Named| index.root(&entry.root).is_some();
    entries.iter().any(proves).then_some(entries)
}
