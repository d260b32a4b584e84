//! Making a file, and opening one: the durable checkpoint, then the log on top of it.
//!
//! ```text
//! lock     nobody else has the file
//! header   the valid slot with the highest checkpoint number
//! log      read and judged (`log::replay`): a torn tail is dropped, damage is an error
//! renew    the chosen slot, long values of the last commits, and the accepted records are written
//!          again and synced
//! cut      the file ends where what they need ends
//! replay   the accepted records, on top of the checkpoint's trees, in memory
//! ```
//!
//! The cost follows the length of the log, not that of the file: of the space map only the index
//! is read, and of the trees what the log touches.
//!
//! # Invariants
//!
//! 1. Nothing is trusted because it can be read: after a failed sync the system may show bytes
//!    that are not on the disk. So what recovery decided is made durable before any page that an
//!    older checkpoint uses can be written to: by the open, or, if the file was closed cleanly and the log
//!    has no record, by the first call that writes (`session`).
//! 2. A slot is only ever renewed with the bytes it was read with, and only if they were valid. A
//!    torn slot never gets a fresh checksum.
//! 3. Places of long values that the log refers to are reserved before replay allocates anything.
//! 4. A crash in here leaves the file as it was: the same slot, the same records.
//! 5. Nor is the length trusted where nothing durable needs it: what a sync that failed should have
//!    made longer may be shorter after the next crash. So the file is cut to what the slot and the
//!    records need, and grows anew.

use std::collections::HashSet;
use std::sync::Arc;

use super::engine::{Core, Engine, Settings};
use super::reclaim::Reclaimer;
use super::replay;
use super::ring::FIRST_RING_BYTES;
use super::state::{MAX_TREE, State, TreeId, Trees, catalog};
use crate::events;
use crate::format::header::{Header, LogRegion, MAX_COUNT, SLOT_BYTES};
use crate::format::page::{MAX_PAGE_SIZE, MIN_PAGE_SIZE};
use crate::format::record::Operation;
use crate::format::{Fault, TreeRoot, Version, page};
use crate::log::{Geometry, Log, Position, Scan, scan};
use crate::pager::{Cause, Pager, Space};
use crate::storage::{MemoryStorage, Storage};
use crate::tree;
use crate::{Error, Result};

/// Why a file in which nothing was stored yet is no database.
const EMPTY: &str = "the file is empty";

impl Engine {
    /// Opens the database in `storage`, or makes one if it is empty and `create` says so.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        settings: Settings,
        create: bool,
    ) -> Result<Arc<Engine>> {
        Engine::lock(&*storage, &settings)?;
        let length = storage
            .length()
            .map_err(|error| Error::io("read the length of the file", 0, error))?;
        let slots = read_slots(&*storage, length)?;
        let engine = match slots {
            Some(slot) => open(storage, settings, &slot, length)?,
            None if create && !settings.read_only => make(storage, settings, length)?,
            None => {
                return Err(Error::NotADatabase { reason: EMPTY });
            }
        };
        if let Err(error) = engine.begin_service() {
            // Those that did start hold the engine, and with it the lock of the file.
            if let Err(also) = engine.close() {
                let what = "a database that could not be opened was not closed";
                events::tell(move || tracing::warn!(error = %also, "{what}"));
            }
            return Err(error);
        }
        Ok(engine)
    }

    /// With a session right away if there is nothing that it can be left to.
    fn begin_service(self: &Arc<Self>) -> Result<()> {
        self.serve_all()?;
        match self.settings.read_only || self.is_left_to_first_write() {
            true => Ok(()),
            false => self.begin_session(),
        }
    }

    /// Whether a file was refused because nothing was stored in it yet.
    pub(crate) fn has_found_nothing(error: &Error) -> bool {
        matches!(error, Error::NotADatabase { reason } if *reason == EMPTY)
    }

    /// Keeps other openers out for as long as there is the storage. Who has the lock can take it again.
    pub(crate) fn lock(storage: &dyn Storage, settings: &Settings) -> Result<()> {
        storage.lock(!settings.read_only).map_err(|error| {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                Error::Locked
            } else {
                Error::io("lock the file", 0, error)
            }
        })
    }
}

/// A valid slot: what it says, and the very bytes (invariant 2).
struct Slot {
    header: Header,
    bytes: [u8; SLOT_BYTES],
}

/// Finds the newest valid slot. `None`: not a byte was ever made durable, the file is empty or its
/// creation was cut short.
fn read_slots(storage: &dyn Storage, length: u64) -> Result<Option<Slot>> {
    if length == 0 {
        return Ok(None);
    }
    let first = read_slot(storage, 0, length)?;
    let second = match &first {
        Some(Ok(slot)) => read_slot(storage, u64::from(slot.header.page_size), length)?,
        _ => search_second(storage, length)?,
    };
    let mut newest: Option<Slot> = None;
    let mut refusal = None;
    for slot in [first, second].into_iter().flatten() {
        match slot {
            Ok(slot) => {
                let is_newer = |n: &Slot| slot.header.checkpoint > n.header.checkpoint;
                if newest.as_ref().is_none_or(is_newer) {
                    newest = Some(slot);
                }
            }
            // What a newer program wrote is never taken for damage.
            Err(error @ (Error::NewerFormat { .. } | Error::UnknownFeatures { .. })) => {
                return Err(error);
            }
            Err(error) => {
                let damaged = error.is_corruption();
                if refusal.is_none() || damaged {
                    refusal = Some(error);
                }
            }
        }
    }
    match (newest, refusal) {
        (Some(slot), _) => Ok(Some(slot)),
        (None, _) if is_unborn(storage, length)? => Ok(None),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::NotADatabase {
            reason: "it is too short",
        }),
    }
}

/// The second slot is where the page size says, which only the slots know. If the first is
/// damaged, the sizes are tried from the smallest up: up to the right one, all that is read lies in
/// page 0, where nobody else's bytes are.
fn search_second(storage: &dyn Storage, length: u64) -> Result<Option<Result<Slot>>> {
    let mut damaged = None;
    for log2 in MIN_PAGE_SIZE.ilog2()..=MAX_PAGE_SIZE.ilog2() {
        let size = 1u32 << log2;
        match read_slot(storage, u64::from(size), length)? {
            Some(Ok(slot)) if slot.header.page_size == size => return Ok(Some(Ok(slot))),
            Some(Err(error)) if error.is_corruption() => {
                damaged = damaged.or(Some(Err(error)));
            }
            Some(Err(Error::NotADatabase { .. })) | Some(Ok(_)) | None => {}
            Some(Err(error)) => return Ok(Some(Err(error))),
        }
    }
    Ok(damaged)
}

fn read_slot(storage: &dyn Storage, offset: u64, length: u64) -> Result<Option<Result<Slot>>> {
    if offset + SLOT_BYTES as u64 > length {
        return Ok(None);
    }
    let mut bytes = [0; SLOT_BYTES];
    storage
        .read_at(offset, &mut bytes)
        .map_err(|error| Error::io("read the header", offset, error))?;
    let decoded = Header::decode(&bytes, offset);
    Ok(Some(decoded.map(|header| Slot { header, bytes })))
}

/// The header is the last thing that the creation of a file writes, and nothing is acknowledged
/// before. So a file that holds nothing but a part of what creation writes was never born; any
/// other byte makes it somebody's file, which is not touched.
fn is_unborn(storage: &dyn Storage, length: u64) -> Result<bool> {
    if length > UNBORN_LIMIT_BYTES {
        return Ok(false);
    }
    let mut bytes = vec![0; length as usize];
    storage
        .read_at(0, &mut bytes)
        .map_err(|error| Error::io("read the file", 0, error))?;
    for log2 in MIN_PAGE_SIZE.ilog2()..=MAX_PAGE_SIZE.ilog2() {
        // Bytes that differ between two salts are the salt and checksums, and can be anything.
        let one = creation(1 << log2, 0x5555_5555_5555_5555)?;
        let other = creation(1 << log2, 0xaaaa_aaaa_aaaa_aaaa)?;
        let mut template = one.iter().zip(&other);
        let fits = bytes.iter().all(|byte| match template.next() {
            Some((a, b)) => *byte == 0 || a != b || byte == a,
            None => *byte == 0,
        });
        if fits {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Nothing larger can be the rest of a creation.
const UNBORN_LIMIT_BYTES: u64 = 2 << 20;
const FIRST_VERSION: u64 = 1;

/// What creation writes, with the salt and all checksums set to bytes of `salt`.
fn creation(page_size: u32, salt: u64) -> Result<Vec<u8>> {
    let memory = MemoryStorage::new();
    let laid_out = lay_out(Arc::new(memory.clone()), page_size, salt, 1 << 20)?;
    let mut bytes = memory.to_bytes();
    let mut overwrite = |at: usize, length: usize| {
        if let Some(part) = bytes.get_mut(at..at + length) {
            part.fill(salt as u8);
        }
    };
    for page in laid_out.space.tree().pages() {
        let start = page as usize * page_size as usize;
        overwrite(start + page::CHECKSUM, 4);
        // The checksum in the first entry of an index page; bits of a bitmap lie before it.
        if laid_out.header.space.page == page {
            overwrite(start + page::HEADER_BYTES + 4, 4);
        }
    }
    let slot = laid_out.header.encode();
    let start = page_size as usize * (laid_out.header.checkpoint % 2) as usize;
    if let Some(part) = bytes.get_mut(start..start + slot.len()) {
        part.copy_from_slice(&slot);
        for field in [32..40, 100..104, 252..256] {
            if let Some(part) = part.get_mut(field) {
                part.fill(salt as u8);
            }
        }
    }
    Ok(bytes)
}

/// A new file's parts, durable but for the header slot.
struct LaidOut {
    pager: Arc<Pager>,
    space: Space,
    header: Header,
}

/// Writes and syncs what an empty database has before its header: the ring, the space map.
fn lay_out(
    storage: Arc<dyn Storage>,
    size: u32,
    salt: u64,
    memory_bytes: usize,
) -> Result<LaidOut> {
    let pager = Arc::new(Pager::new(storage, size, salt, memory_bytes)?);
    let mut space = Space::create(size);
    let pages = FIRST_RING_BYTES.div_ceil(size);
    let log = LogRegion {
        first: space.allocate_run(&pager, pages)?,
        pages,
    };
    let mut image = space.take_image();
    for page in (0..2).chain(log.first..log.first + log.pages) {
        space.set_used_in(&pager, &mut image, page, true)?;
    }
    let mut plan = space.plan(&pager, image, &|_| false)?;
    pager.ensure_pages(u64::from(plan.pages))?;
    // With the pages of the slots before it, of which the next checkpoint must find room for one on a disk that is full.
    let zeros = vec![0; pager.offset(log.first) as usize + log.length_bytes(size) as usize];
    pager.write_at(0, &zeros, Cause::Checkpoint)?;
    for node in plan.nodes.clone() {
        let mut bytes = plan.encode(size, FIRST_VERSION, node);
        let checksum = page::checksum(&bytes, node.2, salt);
        crate::format::put_u32(&mut bytes, page::CHECKSUM, checksum);
        plan.seal(node, checksum);
        pager.write_at(node.2, &bytes, Cause::Checkpoint)?;
    }
    pager.sync_all()?;
    let (space_root, space_level) = plan.root();
    let header = Header {
        page_size: size,
        checkpoint: 1,
        version: FIRST_VERSION,
        salt,
        pages: plan.pages,
        space: space_root,
        space_level,
        log,
        ..Header::default()
    };
    space.set_tree(plan.tree);
    Ok(LaidOut {
        pager,
        space,
        header,
    })
}

/// Makes an empty database.
fn make(storage: Arc<dyn Storage>, settings: Settings, length: u64) -> Result<Arc<Engine>> {
    let salt = settings.salt.unwrap_or_else(random);
    clear(&*storage, length)?;
    let made = lay_out(storage, settings.page_size, salt, settings.memory_bytes)?;
    super::checkpoint::write_slot(&made.pager, made.header.checkpoint, &made.header.encode())?;
    let page_size = settings.page_size;
    events::tell(move || tracing::info!(page_size, "created a database"));
    let position = Position { lsn: 0, crc: 0 };
    let geometry = Geometry {
        start: 0,
        first: made.header.log,
        switched: None,
        next: None,
    };
    let state = Arc::new(State {
        version: FIRST_VERSION,
        trees: Trees::default(),
    });
    let log = Log::new(made.pager.clone(), geometry, position, 1, state.clone());
    let engine = assemble(settings, made.pager, log, made.header, state, made.space);
    engine.log.write_mark(0, true)?;
    Ok(engine)
}

/// The rest of a creation that was cut short goes first, for good: what is left of two with different page sizes is not
/// known for the rest of one.
fn clear(storage: &dyn Storage, length: u64) -> Result<()> {
    let cut = storage.set_length(0);
    cut.map_err(|error| Error::io("set the length of the file", 0, error))?;
    if length == 0 {
        return Ok(());
    }
    let synced = storage.sync_all();
    synced.map_err(|error| Error::io("sync", 0, error))
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Keys of the standard library's hash maps come from the system's source of randomness.
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

fn assemble(
    settings: Settings,
    pager: Arc<Pager>,
    log: Log<State>,
    header: Header,
    state: Arc<State>,
    space: Space,
) -> Arc<Engine> {
    let mut reclaimer = Reclaimer::default();
    reclaimer.watch(state.clone());
    let core = Core {
        current: state.clone(),
        reclaimer,
        dirty: Vec::new(),
        header,
        checkpoint_state: state,
        checkpoints: 0,
        checkpoint_failure: None,
    };
    Arc::new(Engine::assemble(settings, pager, log, core, space))
}

fn open(
    storage: Arc<dyn Storage>,
    settings: Settings,
    slot: &Slot,
    length: u64,
) -> Result<Arc<Engine>> {
    let header = slot.header;
    let expected = u64::from(header.pages) * u64::from(header.page_size);
    if length < expected {
        return Err(Error::Truncated {
            expected,
            found: length,
        });
    }
    if header.read_compatible != 0 && !settings.read_only {
        return Err(Error::UnknownFeatures {
            flags: header.read_compatible,
        });
    }
    let read_only = settings.read_only;
    let pager = Arc::new(Pager::new(
        storage,
        header.page_size,
        header.salt,
        settings.memory_bytes,
    )?);
    let scanned = scan(&pager, &header)?;
    pager.set_newest(header.version, header.pages);
    // Before the file is cut: the map knows if the header speaks of too few pages, whose last ones would be gone.
    let space = Space::open(&pager, &header)?;
    let leaves_all = scanned.is_clean && scanned.end.lsn == header.log_start;
    if !read_only {
        refuse_high_counts(&pager, &header, &scanned)?;
    }
    if !read_only && !leaves_all {
        renew(&pager, slot, &scanned)?;
    }
    // Before anything is read through a map: no file is cut under one.
    if !read_only && !scanned.is_clean {
        forget_tail(&pager, &header, &scanned)?;
    }
    let state = read_catalog(&pager, &header, scanned.newest_dropped)?;
    let log = Log::new(
        pager.clone(),
        scanned.geometry,
        scanned.end,
        header.checkpoint,
        state.clone(),
    );
    let engine = assemble(settings, pager, log, header, state, space);
    replay::replay_helped(&engine, &scanned)?;
    if !read_only && leaves_all {
        engine.leave_to_first_write(header.checkpoint, slot.bytes);
    } else if !read_only {
        engine.log.write_mark(0, true)?;
    }
    let (checkpoint, clean) = (header.checkpoint, scanned.is_clean);
    let (records, log_bytes) = (scanned.commits.len(), scanned.end.lsn - header.log_start);
    events::tell(move || {
        tracing::info!(checkpoint, records, log_bytes, clean, "opened a database");
    });
    Ok(engine)
}

/// What a session adds to them must not bring them where they cannot be read any more.
fn refuse_high_counts(pager: &Pager, header: &Header, scanned: &Scan) -> Result<()> {
    let last = scanned.commits.last().map_or(0, |commit| commit.version);
    let counts = [
        header.checkpoint,
        header.version,
        scanned.end.lsn,
        last,
        scanned.newest_dropped,
    ];
    let highest = counts.into_iter().max().unwrap_or(0);
    if highest <= MAX_COUNT / 2 {
        return Ok(());
    }
    let what = "a count is near its end: the file can be opened to read only";
    Err(pager.corrupt(0, Fault::new(what, 0, MAX_COUNT / 2, highest)))
}

/// Invariants 1 and 2.
fn renew(pager: &Pager, slot: &Slot, scanned: &Scan) -> Result<()> {
    super::checkpoint::write_slot(pager, slot.header.checkpoint, &slot.bytes)?;
    scanned.rewrite(pager)
}

/// Invariant 5. The tail is free, so nothing is lost with it.
fn forget_tail(pager: &Pager, header: &Header, scanned: &Scan) -> Result<()> {
    let mut end = header.pages;
    replay::for_each_operation(pager, scanned, |operation| {
        if let Operation::PutRun { run, .. } = operation {
            let pages = run.pages(pager.page_size());
            end = end.max(run.first.saturating_add(pages));
        }
        Ok(())
    })?;
    pager.truncate_pages(end, ())
}

/// The state of the checkpoint. Its version is `newest_dropped` if that is higher: what is committed next gets a higher
/// one (invariant 4 of `log::replay`).
fn read_catalog(
    pager: &Arc<Pager>,
    header: &Header,
    newest_dropped: Version,
) -> Result<Arc<State>> {
    let corrupt = |what, expected, found| {
        let fault = Fault::new(what, 0, expected, found);
        pager.corrupt(header.catalog.root.page, fault)
    };
    let mut entries: Vec<(String, TreeId, TreeRoot)> = Vec::new();
    let mut cursor = tree::Cursor::new(&**pager, &header.catalog);
    let mut more = cursor.first()?;
    while more {
        let name = std::str::from_utf8(cursor.key()).ok().map(str::to_string);
        let entry = catalog::decode(&cursor.value()?);
        let (Some(name), Some((id, root))) = (name, entry) else {
            return Err(corrupt("an entry of the catalog does not parse", 24, 0));
        };
        // Pages that lead to each other would go on for ever.
        if entries.last().is_some_and(|(last, ..)| *last >= name) {
            let what = "the names in the catalog are not in order";
            return Err(corrupt(what, 0, entries.len() as u64));
        }
        entries.push((name, id, root));
        more = cursor.next()?;
    }
    let count = entries.len() as u64;
    if count != header.catalog.count {
        let what = "the catalog has another number of entries than the header says";
        return Err(corrupt(what, header.catalog.count, count));
    }
    let file_bytes = pager.offset(pager.file_pages());
    let mut trees = Trees::default();
    let mut known = HashSet::new();
    for (name, id, root) in entries {
        if id > MAX_TREE || !known.insert(id) {
            let what = "the number of a tree in the catalog is too high, or that of another";
            return Err(corrupt(what, u64::from(MAX_TREE), u64::from(id)));
        }
        if (root.is_empty() && root != TreeRoot::default()) || root.level > tree::MAX_LEVEL {
            let what = "the root of a tree in the catalog cannot be one";
            return Err(corrupt(what, 0, u64::from(root.level)));
        }
        // Walks are bounded by it, and each entry takes some bytes.
        if root.count > file_bytes {
            let what = "a tree counts more entries than the file has bytes";
            return Err(corrupt(what, file_bytes, root.count));
        }
        trees.insert(&name, id, root);
    }
    Ok(Arc::new(State {
        version: header.version.max(newest_dropped),
        trees,
    }))
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use crate::storage::SimDisk;
    use crate::{Aurora, Builder};

    fn builder() -> Builder {
        Aurora::builder().background(false).salt(3)
    }

    /// A closed database with two trees and free pages.
    fn image() -> Vec<u8> {
        let disk = SimDisk::new(1);
        let db = builder().open_storage(disk.storage()).unwrap();
        for n in 0..2_000u32 {
            let tree = ["a", "b"][n as usize % 2];
            let put = |tx: &mut crate::WriteTransaction| {
                tx.tree(tree)?.put(n.to_be_bytes(), [7; 100]).map(drop)
            };
            db.write(put).unwrap();
        }
        db.tree("a").unwrap().delete_range::<&[u8]>(..).unwrap();
        db.close().unwrap();
        disk.image()
    }

    /// Opens it with another newest header, whose checksum is right.
    fn open_with(image: &[u8], change: impl FnOnce(&mut Header)) -> Result<Aurora> {
        let mut image = image.to_vec();
        let slot = |at: usize| {
            let bytes = image[at..at + SLOT_BYTES].first_chunk().unwrap();
            (at, Header::decode(bytes, at as u64).unwrap())
        };
        let slots = [slot(0), slot(4096)];
        let (at, mut header) = slots.into_iter().max_by_key(|(_, h)| h.checkpoint).unwrap();
        change(&mut header);
        image[at..at + SLOT_BYTES].copy_from_slice(&header.encode());
        builder().open_storage(SimDisk::from_image(image, 1).storage())
    }

    fn reason(opened: Result<Aurora>) -> String {
        match opened {
            Err(error) if error.is_corruption() => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_header_that_lies_is_found_out() {
        let image = image();
        let db = open_with(&image, |_| ()).unwrap();
        assert_eq!(db.tree_names().unwrap(), ["a", "b"]);
        drop(db);
        for wrong in [0, 3, 1 << 40] {
            let found = reason(open_with(&image, |header| header.catalog.count = wrong));
            assert!(found.contains("another number of entries"), "{found}");
        }
        let near = open_with(&image, |header| header.checkpoint = MAX_COUNT - 5);
        assert!(reason(near).contains("opened to read only"));
        let found = reason(open_with(&image, |header| header.version = 5));
        assert!(found.contains("younger than the checkpoint"), "{found}");
    }

    /// The image with another count of the second tree in its catalog; all checksums are right.
    fn open_with_count(image: &[u8], count: u64) -> Result<Aurora> {
        let mut image = image.to_vec();
        let mut catalog = crate::format::PageRef::default();
        drop(open_with(&image, |header| catalog = header.catalog.root));
        let at = catalog.page as usize * 4096;
        let bytes = &mut image[at..at + 4096];
        let crate::format::node::ValueAt::Inline(value) =
            crate::format::node::Node::new(bytes).value(1)
        else {
            panic!("the catalog has a long value");
        };
        crate::format::put_u64(&mut bytes[value], 16, count);
        let checksum = page::checksum(bytes, catalog.page, 3);
        crate::format::put_u32(bytes, page::CHECKSUM, checksum);
        open_with(&image, |header| header.catalog.root.checksum = checksum)
    }

    #[test]
    fn a_tree_with_more_entries_than_the_file_has_bytes_is_damage() {
        let image = image();
        open_with_count(&image, image.len() as u64).unwrap();
        let found = reason(open_with_count(&image, image.len() as u64 + 4096));
        assert!(
            found.contains("more entries than the file has bytes"),
            "{found}"
        );
    }

    /// A page with a header slot would be the first that is given away, and the slot would be gone at the next checkpoint.
    #[test]
    fn pages_with_header_slots_are_not_free() {
        let image = image();
        let mut space = crate::format::PageRef::default();
        drop(open_with(&image, |header| space = header.space));
        for slot in 0..2 {
            let mut image = image.clone();
            let seal = |image: &mut [u8], page: u32| {
                let bytes = &mut image[page as usize * 4096..][..4096];
                let checksum = page::checksum(bytes, page, 3);
                crate::format::put_u32(bytes, page::CHECKSUM, checksum);
                checksum
            };
            let index = space.page as usize * 4096;
            let mut entry = crate::format::space::entry(&image[index..], 0);
            image[entry.page.page as usize * 4096 + page::HEADER_BYTES] ^= 1 << slot;
            entry.used -= 1;
            entry.page.checksum = seal(&mut image, entry.page.page);
            crate::format::space::put_entry(&mut image[index..], 0, &entry);
            let checksum = seal(&mut image, space.page);
            let opened = open_with(&image, |header| header.space.checksum = checksum);
            let found = reason(opened);
            assert!(found.contains("header slot as free"), "{found}");
        }
    }

    #[test]
    fn what_a_header_names_is_not_free() {
        let image = image();
        let pages = (image.len() / 4096) as u32;
        let free = (2..pages).find(|page| {
            let opened = open_with(&image, |header| {
                header.next_log = LogRegion {
                    first: *page,
                    pages: 8,
                };
            });
            opened.is_err_and(|error| error.to_string().contains("names as free"))
        });
        assert!(free.is_some(), "of {pages} pages");
    }
}
