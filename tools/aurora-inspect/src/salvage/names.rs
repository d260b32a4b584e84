//! Trees whose entry in the catalog is lost.
//!
//! # Invariants
//!
//! 1. A name is vouched for only if the damaged page still pairs it with the number and with
//!    exactly the root that is there, and an intact page or record pairs name and number, too. The
//!    database's own trees are never renamed, so for them the last root that is known will do.

use std::collections::HashMap;

use aurora::anatomy::{Node, Operation, PageHeader, Reference, Root, UNIFORM_LEAF, operations};

use super::gather::Gap;
use super::index::{Index, Named, catalog_leaf, likely};
use super::records::Log;
use crate::Source;

const OWN: &str = "aurora/";

/// What is known of trees from elsewhere than the catalog of the state.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Names that an intact page or record gave a number, at some time.
    pairs: std::collections::HashSet<(String, u32)>,
    /// What roots were called in catalogs of earlier states.
    earlier: HashMap<(u32, u32), Named>,
    /// What the damaged pages say.
    damaged: HashMap<(u32, u32), Named>,
}

/// What a tree without an entry is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// Vouched for.
    Sure(String, u32),
    /// As far as one knows.
    Likely(String),
    /// Nobody knows.
    Unknown,
}

impl Names {
    pub fn collect(source: &Source, index: &Index, log: &Log, gaps: &[Gap]) -> Self {
        let mut names = Names::default();
        let mut births: HashMap<(u32, u32), u64> = HashMap::new();
        for page in index.all().filter(|page| page.is_node() && page.level == 0) {
            let Ok(bytes) = source.raw_once(page.at.page) else {
                continue;
            };
            let Ok(node) = Node::read(&bytes, page.at.page) else {
                continue;
            };
            for entry in catalog_leaf(index, &node).unwrap_or_default() {
                names.pairs.insert((entry.name.clone(), entry.number));
                let root = (entry.root.at.page, entry.root.at.checksum);
                let newest = births.entry(root).or_default();
                if page.birth >= *newest {
                    *newest = page.birth;
                    names.earlier.insert(root, entry);
                }
            }
        }
        for found in log.all() {
            let payload = log.payload(source, found).unwrap_or_default();
            for operation in operations(&payload).map_while(|operation| operation) {
                if let Operation::CreateTree { tree, name } | Operation::RenameTree { tree, name } =
                    operation
                    && let Ok(name) = std::str::from_utf8(name)
                {
                    names.pairs.insert((name.to_string(), tree));
                }
            }
        }
        for gap in gaps.iter().filter(|gap| gap.is_evidence && gap.level == 0) {
            if let Ok(bytes) = source.raw(gap.at.page) {
                for entry in fragments(&bytes) {
                    let root = (entry.root.at.page, entry.root.at.checksum);
                    names.damaged.insert(root, entry);
                }
            }
        }
        names
    }

    /// The name of the tree with this root.
    pub fn of(&self, at: Reference, root: &Root) -> Name {
        let key = (at.page, at.checksum);
        if let Some(found) = self.damaged.get(&key)
            && found.root == *root
        {
            let pair = (found.name.clone(), found.number);
            return match self.pairs.contains(&pair) {
                true => Name::Sure(pair.0, pair.1),
                false => Name::Likely(pair.0),
            };
        }
        match self.earlier.get(&key) {
            Some(found) if found.name.starts_with(OWN) && found.root == *root => {
                Name::Sure(found.name.clone(), found.number)
            }
            Some(found) => Name::Likely(found.name.clone()),
            None => Name::Unknown,
        }
    }
}

/// The entries that can still be made out in a damaged leaf of the catalog.
pub(super) fn fragments(bytes: &[u8]) -> Vec<Named> {
    const HEADER: usize = 32;
    let header = PageHeader::decode(bytes);
    let prefix = usize::from(header.prefix).min(bytes.len());
    let cells_end = bytes.len() - prefix;
    let prefix = bytes.get(cells_end..).unwrap_or_default();
    let slots = bytes.get(HEADER..).unwrap_or_default();
    let slots = slots.chunks_exact(header.slot_bytes());
    let slots = slots.take(usize::from(header.count)).enumerate();
    slots
        .filter_map(|(i, slot)| {
            let (offset, length) = match header.kind {
                UNIFORM_LEAF => uniform_cell(&header, cells_end, i)?,
                _ => match (number(slot, 4)?, number(slot, 6)?) {
                    (0, length) => (1 << 16, length),
                    found => found,
                },
            };
            fragment(bytes, header.lengths, prefix, slot, offset, length)
        })
        .collect()
}

fn number(slot: &[u8], at: usize) -> Option<usize> {
    let two = slot.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_le_bytes(two)))
}

/// The offset of a cell of a uniform leaf, and the length of every suffix.
fn uniform_cell(header: &PageHeader, cells_end: usize, i: usize) -> Option<(usize, usize)> {
    let suffix = usize::from(header.suffix);
    let cell = suffix.saturating_sub(4) + usize::from(header.lengths.checked_sub(1)?);
    let offset = cells_end.checked_sub(cell.checked_mul(i + 1)?)?;
    Some((offset, suffix))
}

fn fragment(
    bytes: &[u8],
    lengths: u16,
    prefix: &[u8],
    slot: &[u8],
    offset: usize,
    length: usize,
) -> Option<Named> {
    let rest = length.saturating_sub(4);
    let mut cell = bytes.get(offset..)?;
    let value_length = match lengths.checked_sub(1) {
        Some(all) => all,
        None => {
            let (length, behind) = cell.split_first_chunk()?;
            cell = behind;
            u16::from_le_bytes(*length)
        }
    };
    let value = cell.get(rest..rest + usize::from(value_length))?;
    // The head is a big-endian number that is stored as a little-endian one.
    let mut head: Vec<u8> = slot.get(..4)?.iter().rev().copied().collect();
    head.truncate(length);
    let name = [prefix, &head, cell.get(..rest)?].concat();
    likely(&name, value)
}
