//! Page headers, nodes of trees, and pages of the space map.

use super::Flaw;
use crate::format::node::{self, ValueAt};
use crate::format::{self, PageRef, RunRef, TreeRoot, page, space};
use crate::txn::state::catalog;

/// A reference to a page: its number, and the checksum that its bytes must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Reference {
    pub page: u32,
    pub checksum: u32,
}

/// Where a tree begins. Page 0: it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Root {
    pub at: Reference,
    pub count: u64,
    pub level: u8,
}

/// A reference to a long value in pages of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Run {
    pub first: u32,
    pub length_bytes: u32,
    pub checksum: u32,
    pub birth: u64,
}

/// What a branch knows of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Child {
    pub at: Reference,
    pub count: u64,
}

/// An entry of an index page of the space map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SpaceEntry {
    pub at: Reference,
    pub used: u32,
}

impl From<PageRef> for Reference {
    fn from(at: PageRef) -> Self {
        Reference {
            page: at.page,
            checksum: at.checksum,
        }
    }
}

impl From<TreeRoot> for Root {
    fn from(root: TreeRoot) -> Self {
        Root {
            at: root.root.into(),
            count: root.count,
            level: root.level,
        }
    }
}

impl From<RunRef> for Run {
    fn from(run: RunRef) -> Self {
        Run {
            first: run.first,
            length_bytes: run.length_bytes,
            checksum: run.checksum,
            birth: run.birth,
        }
    }
}

impl Run {
    /// How many pages it covers.
    pub fn pages(&self, page_size: u32) -> u32 {
        self.length_bytes.div_ceil(page_size.max(1))
    }
}

/// The 32 bytes that nodes and pages of the space map begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PageHeader {
    pub checksum: u32,
    pub page: u32,
    pub birth: u64,
    pub kind: u8,
    pub level: u8,
    pub count: u16,
    pub cells_start: u32,
    pub prefix: u16,
    pub garbage: u16,
    /// The length of all suffixes of a uniform leaf, which has no garbage.
    pub suffix: u16,
    pub appends: u16,
    pub lengths: u16,
}

impl PageHeader {
    /// Reads it from the beginning of a page.
    pub fn decode(bytes: &[u8]) -> Self {
        let is_uniform = page::kind(bytes) == page::UNIFORM_LEAF;
        let garbage = format::get_u16(bytes, page::GARBAGE);
        PageHeader {
            checksum: format::get_u32(bytes, page::CHECKSUM),
            page: format::get_u32(bytes, page::PAGE),
            birth: page::birth(bytes),
            kind: page::kind(bytes),
            level: page::level(bytes),
            count: format::get_u16(bytes, page::COUNT),
            cells_start: format::get_u32(bytes, page::CELLS_START),
            prefix: format::get_u16(bytes, page::PREFIX),
            garbage: if is_uniform { 0 } else { garbage },
            suffix: if is_uniform { garbage } else { 0 },
            appends: format::get_u16(bytes, page::APPENDS),
            lengths: format::get_u16(bytes, page::LENGTHS),
        }
    }

    /// The bytes of each slot of a node.
    pub fn slot_bytes(&self) -> usize {
        match self.kind {
            page::UNIFORM_LEAF => node::UNIFORM_SLOT_BYTES,
            _ => node::SLOT_BYTES,
        }
    }

    /// The offset in the page of a node's slot.
    pub fn slot_offset(&self, slot: usize) -> u32 {
        (page::HEADER_BYTES + self.slot_bytes() * slot) as u32
    }
}

/// The checksum that a page of these bytes must carry.
pub fn checksum(bytes: &[u8], page: u32, salt: u64) -> u32 {
    page::checksum(bytes, page, salt)
}

/// Checks a page against the reference that led to it.
pub fn verify(bytes: &[u8], at: Reference, salt: u64) -> Result<(), Flaw> {
    Ok(page::verify(bytes, at.page, at.checksum, salt)?)
}

/// A node of a tree that was found to be readable.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    node: node::Node<'a>,
    bytes: &'a [u8],
}

/// A value as a leaf holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// In the leaf.
    Inline(&'a [u8]),
    /// In pages of its own.
    Run(Run),
}

impl<'a> Node<'a> {
    /// The node of these bytes, if every offset and length lies in the page. `page` is the number
    /// that it was found under.
    pub fn read(bytes: &'a [u8], page: u32) -> Result<Self, Flaw> {
        node::validate(bytes, page)?;
        Ok(Node {
            node: node::Node::new(bytes),
            bytes,
        })
    }

    /// Rules that reading does not need: overlaps, garbage, padding.
    pub fn check_cells(&self) -> Result<(), Flaw> {
        Ok(self.node.check_cells()?)
    }

    /// Whether it holds children.
    pub fn is_branch(&self) -> bool {
        self.node.is_branch()
    }

    /// 0 for leaves.
    pub fn level(&self) -> u8 {
        self.node.level()
    }

    /// How many slots it has.
    pub fn count(&self) -> usize {
        self.node.count()
    }

    /// What all of its keys begin with.
    pub fn prefix(&self) -> &'a [u8] {
        self.node.prefix()
    }

    /// Bytes of slots, cells and prefix, without garbage.
    pub fn used(&self) -> usize {
        self.node.used()
    }

    /// The key of a slot. That of slot 0 of a branch is empty.
    pub fn key(&self, slot: usize) -> Vec<u8> {
        self.node.key_vec(slot)
    }

    /// The value of a leaf's slot.
    pub fn value(&self, slot: usize) -> Cell<'a> {
        match self.node.value(slot) {
            ValueAt::Inline(range) => Cell::Inline(self.bytes.get(range).unwrap_or_default()),
            ValueAt::Run(run) => Cell::Run(run.into()),
        }
    }

    /// A child of a branch.
    pub fn child(&self, slot: usize) -> Child {
        let child = self.node.child(slot);
        Child {
            at: child.page.into(),
            count: child.count,
        }
    }

    /// In a leaf: the slot of the key, or the one where it belongs.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.node.search(key)
    }

    /// In a branch: the child whose keys include the key.
    pub fn child_index(&self, key: &[u8]) -> usize {
        self.node.child_index(key)
    }

    /// The offset in the page of a slot.
    pub fn slot_offset(&self, slot: usize) -> u32 {
        self.node.slot_at(slot) as u32
    }

    /// The offset in the page of a slot's cell, and the length of the suffix that it describes.
    pub fn slot(&self, slot: usize) -> (u16, u16) {
        let (offset, length) = self.node.cell_at(slot);
        (offset as u16, length as u16)
    }
}

/// What a page has for slots, cells and the prefix.
pub fn usable_bytes(page_size: u32) -> usize {
    node::usable_bytes(page_size as usize)
}

/// The longest key.
pub fn longest_key(page_size: u32) -> usize {
    node::max_key_bytes(page_size)
}

/// Whether a value belongs into the leaf.
pub fn is_inline(page_size: u32, key_bytes: usize, value_bytes: usize) -> bool {
    node::is_inline(page_size, key_bytes, value_bytes)
}

/// The number and the root of a tree, from its value in the catalog.
pub fn decode_catalog_entry(value: &[u8]) -> Option<(u32, Root)> {
    let (number, root) = catalog::decode(value)?;
    Some((number, root.into()))
}

/// How many pages a bitmap page covers.
pub fn space_bits(page_size: u32) -> u32 {
    space::bits_per_page(page_size)
}

/// How many entries an index page of the space map can have.
pub fn space_entries_per_page(page_size: u32) -> usize {
    space::entries_per_page(page_size)
}

/// The level of the root of a space map.
pub fn space_root_level(bitmaps: usize, page_size: u32) -> u8 {
    space::root_level(bitmaps, page_size)
}

/// An entry of an index page.
pub fn space_entry(bytes: &[u8], index: usize) -> SpaceEntry {
    let entry = space::entry(bytes, index);
    SpaceEntry {
        at: entry.page.into(),
        used: entry.used,
    }
}
