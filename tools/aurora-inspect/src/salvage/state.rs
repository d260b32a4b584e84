//! Which state of the file is brought back: that of the newest sound header slot, or, if it is
//! lost, the newest one that pages show.
//!
//! # Invariants
//!
//! 1. A sound slot is believed as long as no record of the log proves that there was a newer one.
//!    Then pages that are newer than it are of a checkpoint that never was, and not looked at.
//! 2. A space map is believed only if it is of the state.

use aurora::anatomy::{
    Header, MAX_PAGE_SIZE, Node, Reference, Ring, Root, SLOT_BYTES, SPACE_INDEX,
};

use super::index::{Index, Intact, catalog_leaf};
use super::records::{Found, Log, rings_of};
use crate::map::SpaceMap;
use crate::source::{Slot, Source, newest};

/// Bytes of the ring of a new file.
const FIRST_RING_BYTES: u32 = 32 << 10;

/// The state that is brought back.
pub(crate) struct State {
    pub header: Option<Header>,
    /// Where the catalog begins, unless that is lost.
    pub catalog: Option<Root>,
    pub version: u64,
    pub space: Option<SpaceMap>,
    pub log: Log,
    /// Where it is from.
    pub from: String,
    /// A newer state is known to have been there.
    pub is_outdated: bool,
    /// Nothing shows that there was none: the other slot is damaged, and so is the mark that would.
    pub may_be_outdated: bool,
}

/// The commits behind the state.
pub(crate) struct Commits {
    pub chain: Vec<Found>,
    /// What is known to be missing.
    pub lost: Option<String>,
    /// Intact commits behind what is missing.
    pub later: Vec<Found>,
}

/// Chooses the state.
pub(crate) fn choose(source: &Source, index: &Index) -> State {
    let slots = source.slots();
    let sound = newest(slots).and_then(Slot::header).copied();
    let mut log = Log::default();
    if let Some(header) = &sound {
        log.follow(source, header);
    }
    for ring in rings(source, slots) {
        log.add_ring(source, ring);
    }
    if let Some(header) = sound.filter(|h| log.newest_checkpoint() <= h.checkpoint) {
        // Where both slots are sound, the other one is that of the checkpoint before.
        let is_shown = slots.iter().all(|slot| slot.header().is_some()) || log.knows(&header);
        return State {
            may_be_outdated: !is_shown,
            ..of_header(source, header, log, false)
        };
    }
    log.add_everywhere(source);
    let least = sound.map_or(0, |header| header.version);
    if let Some(state) = from_pages(source, index, least, sound.as_ref()) {
        return State { log, ..state };
    }
    match sound {
        Some(header) => of_header(source, header, log, true),
        None => State {
            header: None,
            catalog: None,
            version: u64::MAX,
            space: None,
            log,
            from: "single pages: neither a header nor a catalog is left".to_string(),
            is_outdated: true,
            may_be_outdated: false,
        },
    }
}

fn of_header(source: &Source, header: Header, log: Log, is_outdated: bool) -> State {
    State {
        header: Some(header),
        catalog: Some(header.catalog),
        version: header.version,
        space: Some(SpaceMap::read(source, &header)),
        log,
        from: format!(
            "header slot {}, checkpoint {}",
            header.checkpoint % 2,
            header.checkpoint
        ),
        is_outdated,
        may_be_outdated: false,
    }
}

/// The newest state that pages show, if it is newer than `least`.
fn from_pages(source: &Source, index: &Index, least: u64, sound: Option<&Header>) -> Option<State> {
    let is_newer = |page: &&Intact| page.birth > least || sound.is_none();
    let map_root = {
        index
            .all()
            .filter(|page| page.kind == SPACE_INDEX)
            .filter(is_newer)
    }
    .max_by_key(|page| (page.birth, page.level));
    let map = map_root.map(|root| {
        let map = SpaceMap::read_from(source, root.at, root.level, source.file_pages());
        (map, root)
    });
    // A map that does not count itself as used is none.
    let map = map.filter(|(map, root)| map.is_used(root.at.page) != Some(false));
    let catalogs = catalogs(source, index);
    let alive: Vec<&Intact> = { catalogs.iter() }
        .filter(|(page, _)| match &map {
            Some((map, root)) => {
                map.is_used(page.at.page) != Some(false) && page.birth <= root.birth
            }
            None => is_newer(page),
        })
        .map(|(page, _)| *page)
        .collect();
    let top = alive
        .iter()
        .max_by_key(|page| (page.level, page.birth))
        .copied();
    let newest_one = alive
        .iter()
        .max_by_key(|page| (page.birth, page.level))
        .copied();
    // Several of the highest level: what led to them is lost.
    let is_sure = |page: &&Intact, map: &SpaceMap| map.is_used(page.at.page) == Some(true);
    let root = match &map {
        Some((map, _)) if alive.iter().all(|page| is_sure(page, map)) => {
            top.filter(|top| alive.iter().filter(|p| p.level == top.level).count() == 1)
        }
        // The map, or the part of it that tells old copies, is lost. Each change of the catalog makes a new root.
        _ => newest_one,
    };
    let version = map
        .as_ref()
        .map(|(_, root)| root.birth)
        .max(newest_one.map(|p| p.birth))?;
    let place = match root {
        Some(root) => format!("the catalog at page {}", root.at.page),
        None => "pages of the catalog whose root is lost".to_string(),
    };
    Some(State {
        header: None,
        catalog: root.map(|root| Root {
            at: root.at,
            count: root.entries,
            level: root.level,
        }),
        version,
        space: map.map(|(map, _)| map),
        log: Log::default(),
        from: format!("{place}, version {version}: the newest header is lost"),
        is_outdated: false,
        may_be_outdated: false,
    })
}

/// Nodes of catalogs, of whatever state, and whether each is a leaf.
fn catalogs<'i>(source: &Source, index: &'i Index) -> Vec<(&'i Intact, bool)> {
    let mut found: Vec<(&Intact, bool)> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for level in 0..=u8::MAX {
        let before = found.len();
        for page in index
            .all()
            .filter(|page| page.is_node() && page.level == level)
        {
            let Ok(bytes) = source.raw_once(page.at.page) else {
                continue;
            };
            let Ok(node) = Node::read(&bytes, page.at.page) else {
                continue;
            };
            let is_one = match node.is_branch() {
                false => catalog_leaf(index, &node).is_some(),
                true => (0..node.count()).any(|i| {
                    let Reference { page, checksum } = node.child(i).at;
                    known.contains(&(page, checksum))
                }),
            };
            if is_one {
                known.insert((page.at.page, page.at.checksum));
                found.push((page, level == 0));
            }
        }
        if found.len() == before {
            break;
        }
    }
    found
}

/// Rings that anything speaks of. Records prove themselves, so it does no harm if one is none.
fn rings(source: &Source, slots: &[Slot; 2]) -> Vec<Ring> {
    let mut rings: Vec<Ring> = slots
        .iter()
        .filter_map(Slot::header)
        .flat_map(rings_of)
        .collect();
    for slot in slots.iter().filter(|slot| slot.header().is_none()) {
        let offset = match slot.number {
            0 => 0,
            _ => u64::from(source.page_size()),
        };
        let Ok(bytes) = source.bytes_at(offset, SLOT_BYTES) else {
            continue;
        };
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        for at in [112, 120] {
            rings.push(Ring {
                first: number(at),
                pages: number(at + 4),
            });
        }
    }
    rings.push(Ring {
        first: 2,
        pages: (FIRST_RING_BYTES / source.page_size().clamp(1, MAX_PAGE_SIZE)).max(1),
    });
    rings.retain(|ring| ring.first >= 2 && ring.pages > 0);
    rings.sort_by_key(|ring| (ring.first, ring.pages));
    rings.dedup();
    rings
}

impl State {
    /// What the log holds behind the state.
    pub fn commits(&self, source: &Source) -> Commits {
        let chain = match &self.header {
            Some(header) => Some(self.log.chain(header.log_start, header.log_start_crc)),
            None => self.log.chain_behind(self.version),
        };
        let start = self
            .header
            .map_or((0, 0), |h| (h.log_start, h.log_start_crc));
        let checkpoint = self.header.map_or(u64::MAX, |header| header.checkpoint);
        let Some(chain) = chain else {
            let what = "the first commits behind the state are lost";
            return Commits {
                chain: Vec::new(),
                lost: Some(what.to_string()),
                later: self.later(0, self.version),
            };
        };
        let chain = self.log.complete(source, chain);
        let last = chain.last();
        let (end, crc) = last.map_or(start, |last| (last.end(), last.record.checksum));
        let version = chain.iter().map(|found| found.record.version).max();
        let version = version.unwrap_or(0).max(self.version);
        let chain: Vec<Found> = chain.into_iter().cloned().collect();
        // Without a header and without commits, nothing says where the log would go on.
        let knows_end = self.header.is_some() || !chain.is_empty();
        let proof = knows_end
            .then(|| self.log.proof(end, crc, checkpoint))
            .flatten();
        let lost = proof.map(|proof| {
            let durable = proof.record.durable;
            match durable > end {
                true => format!(
                    "commits from position {end} on are damaged: the log was durable up to {durable}"
                ),
                false => "commits behind the state may be lost with the newest header".to_string(),
            }
        });
        let lost = lost.or_else(|| self.cut_ring(source, end, crc));
        let later = match &lost {
            Some(_) => self.later(end, version),
            None => Vec::new(),
        };
        Commits { chain, lost, later }
    }

    /// What cannot be known where the end of the file is missing, and with it a part of the log.
    fn cut_ring(&self, source: &Source, end: u64, crc: u32) -> Option<String> {
        let page_size = u64::from(source.page_size());
        let is_cut = |ring: &Ring| {
            let ring_end = u64::from(ring.first) + u64::from(ring.pages);
            ring_end.saturating_mul(page_size) > source.length()
        };
        let cut = rings_of(self.header.as_ref()?).into_iter().find(is_cut)?;
        if self.log.is_closed(end, crc) {
            return None;
        }
        let last = u64::from(cut.first) + u64::from(cut.pages) - 1;
        Some(format!(
            "the log at pages {} to {last} lies behind the end of the file, all or in part: what was committed from \
             position {end} on is lost, if anything was",
            cut.first
        ))
    }

    fn later(&self, end: u64, version: u64) -> Vec<Found> {
        let is_later = |found: &&Found| {
            found.record.kind == aurora::anatomy::COMMIT
                && found.record.lsn >= end
                && found.record.version > version
        };
        self.log.all().filter(is_later).cloned().collect()
    }
}
