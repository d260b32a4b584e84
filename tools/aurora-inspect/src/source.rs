//! The file: found slots, the chosen header, and pages that are checked against references.
//!
//! # Invariants
//!
//! 1. It is opened for reading only, and no lock is taken.
//! 2. No read is longer than what the file has; what lies behind its end is a fault.
//! 3. Memory for pages is bounded.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use aurora::Error;
use aurora::anatomy::{
    self, Flaw, Header, MAX_PAGE_SIZE, MIN_PAGE_SIZE, Operation, Reference, Run, SLOT_BYTES,
};
use aurora::storage::{FileStorage, Storage};

use crate::{Failure, Fault, Faults};

/// Memory for pages that may be asked for again.
const CACHE_BYTES: usize = 32 << 20;

/// What a header slot was found to be.
#[derive(Debug, Clone)]
pub enum SlotState {
    /// Sound.
    Valid(Box<Header>),
    /// It does not begin with Aurora's mark.
    Unwritten,
    /// It begins with it, and breaks another rule.
    Damaged(Fault),
    /// A newer program's.
    Newer(String),
    /// The file ends before it, or nobody knows where it is.
    Missing,
}

/// A header slot.
#[derive(Debug, Clone)]
pub struct Slot {
    /// 0 or 1.
    pub number: u8,
    /// Where it was looked for.
    pub offset: u64,
    /// What it is.
    pub state: SlotState,
    /// All its bytes are zero.
    pub is_zero: bool,
}

impl Slot {
    /// What it says, if it is sound.
    pub fn header(&self) -> Option<&Header> {
        match &self.state {
            SlotState::Valid(header) => Some(header),
            _ => None,
        }
    }
}

/// A page's bytes.
pub type PageBytes = Arc<[u8]>;

#[derive(Debug, Default)]
struct Cache {
    pages: HashMap<u32, PageBytes>,
    order: VecDeque<u32>,
}

/// An open file.
#[derive(Debug)]
pub struct Source {
    storage: Arc<dyn Storage>,
    length: u64,
    slots: [Slot; 2],
    header: Option<Header>,
    page_size: u32,
    salt: u64,
    cache: RefCell<Cache>,
}

impl Source {
    /// Opens the file, and chooses the newest sound slot, or the one that is asked for.
    pub fn open(path: &Path, slot: Option<u8>) -> Result<Self, Failure> {
        let named = |failure: Failure| Failure(format!("{}: {failure}", path.display()));
        let storage = FileStorage::open_read_only(path);
        let storage = storage.map_err(|error| named(Failure(error.to_string())))?;
        Source::read(Arc::new(storage), slot).map_err(named)
    }

    /// The same for a file in any storage.
    pub fn read(storage: Arc<dyn Storage>, slot: Option<u8>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure(error.to_string());
        let length = storage.length().map_err(failed)?;
        let slots = read_slots(&*storage, length).map_err(failed)?;
        if let Some(reason) = refusal(&slots, slot) {
            return Err(Failure(reason));
        }
        let header = match slot {
            Some(number) => slots.iter().find(|slot| slot.number == number),
            None => newest(&slots),
        };
        let header = header.and_then(Slot::header).copied();
        let (page_size, salt) = match &header {
            Some(header) => (header.page_size, header.salt),
            None => guess(&*storage, &slots, length).map_err(failed)?,
        };
        Ok(Source {
            storage,
            length,
            slots,
            header,
            page_size,
            salt,
            cache: RefCell::default(),
        })
    }

    /// A file whose page size and salt are known from elsewhere, all of it in reach: no header says
    /// what belongs to it. For `salvage`.
    pub(crate) fn whole(
        storage: Arc<dyn Storage>,
        length: u64,
        slots: [Slot; 2],
        page_size: u32,
        salt: u64,
    ) -> Self {
        Source {
            storage,
            length,
            slots,
            header: None,
            page_size,
            salt,
            cache: RefCell::default(),
        }
    }

    /// The header that everything is read from.
    pub fn header(&self) -> Result<&Header, Failure> {
        self.header.as_ref().ok_or_else(|| {
            Failure(String::from(
                "no header slot is sound: only `check`, `page` and `summary` can say anything",
            ))
        })
    }

    /// The header, if a slot is sound.
    pub fn chosen(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Whether there is an Aurora file at the path: damaged or not, also one of a newer program.
    pub fn is_at(path: &Path) -> bool {
        let Ok(storage) = FileStorage::open_read_only(path) else {
            return false;
        };
        let is_slot =
            |slot: &Slot| !matches!(slot.state, SlotState::Unwritten | SlotState::Missing);
        let length = storage.length();
        let slots = length.and_then(|length| read_slots(&storage, length));
        slots.is_ok_and(|slots| slots.iter().any(is_slot))
    }

    /// Both slots.
    pub fn slots(&self) -> &[Slot; 2] {
        &self.slots
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Seeds all checksums.
    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// Whole pages of the file.
    pub fn file_pages(&self) -> u32 {
        u32::try_from(self.length / u64::from(self.page_size)).unwrap_or(u32::MAX - 1)
    }

    /// Pages of the checkpoint that are in the file.
    pub fn pages(&self) -> u32 {
        let pages = self.header.map_or(u32::MAX, |header| header.pages);
        pages.min(self.file_pages())
    }

    /// The file, for the engine's own code.
    pub fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    /// Whether a sound slot has that checkpoint, which is newer than the one that is looked at.
    pub(crate) fn has_newer_slot(&self, header: &Header, checkpoint: u64) -> bool {
        let mut valid = self.slots.iter().filter_map(Slot::header);
        checkpoint > header.checkpoint && valid.any(|other| other.checkpoint >= checkpoint)
    }

    /// Whether a newer checkpoint is in the file by now: pages of the shown one may be gone.
    pub fn has_moved_on(&self) -> bool {
        let Ok(length) = self.storage.length() else {
            return false;
        };
        let Ok(slots) = read_slots(&*self.storage, length) else {
            return false;
        };
        let now = newest(&slots).and_then(Slot::header);
        let then = newest(&self.slots).and_then(Slot::header);
        now.map(|h| h.checkpoint) != then.map(|h| h.checkpoint)
    }

    /// The bytes at an offset.
    pub fn bytes_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let end = offset.saturating_add(length as u64);
        if end > self.length {
            let what = "the file ends before what is referred to";
            return Err(Fault::new("file", what, end, self.length).at_offset(offset));
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(length).is_err() {
            let what = "there is no memory for it";
            return Err(
                Fault::new("file", what, format!("{length} bytes"), "less").at_offset(offset)
            );
        }
        bytes.resize(length, 0);
        match self.storage.read_at(offset, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) => {
                let what = "the file cannot be read";
                Err(Fault::new("file", what, format!("{length} bytes"), error).at_offset(offset))
            }
        }
    }

    /// A page as it is in the file.
    pub fn raw(&self, page: u32) -> Result<PageBytes, Fault> {
        if let Some(bytes) = self.cache.borrow().pages.get(&page) {
            return Ok(bytes.clone());
        }
        let offset = u64::from(page) * u64::from(self.page_size);
        let bytes = self.bytes_at(offset, self.page_size as usize);
        let bytes: PageBytes = bytes
            .map_err(|mut fault| {
                fault.page = Some(page);
                fault
            })?
            .into();
        let mut cache = self.cache.borrow_mut();
        if cache.order.len() * self.page_size as usize >= CACHE_BYTES
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.pages.remove(&oldest);
        }
        cache.order.push_back(page);
        cache.pages.insert(page, bytes.clone());
        Ok(bytes)
    }

    /// The same without a place in memory: for who reads each page once.
    pub(crate) fn raw_once(&self, page: u32) -> Result<PageBytes, Fault> {
        let offset = u64::from(page) * u64::from(self.page_size);
        Ok(self.bytes_at(offset, self.page_size as usize)?.into())
    }

    /// A page that is as its reference says.
    pub fn page(&self, at: Reference) -> Result<PageBytes, Fault> {
        if at.page < 2 || at.page >= self.pages() {
            let what = "a reference leads out of the file";
            let pages = format!("2 to {}", self.pages().saturating_sub(1));
            let mut fault = Fault::new("page", what, pages, at.page);
            fault.page = Some(at.page);
            return Err(fault);
        }
        let bytes = self.raw(at.page)?;
        match anatomy::verify(&bytes, at, self.salt) {
            Ok(()) => Ok(bytes),
            Err(flaw) => Err(self.fault("page", at.page, flaw)),
        }
    }

    /// A long value that is as its reference says.
    pub fn run(&self, run: &Run) -> Result<Vec<u8>, Fault> {
        let offset = u64::from(run.first) * u64::from(self.page_size);
        let bytes = self.bytes_at(offset, run.length_bytes as usize);
        let bytes = bytes.map_err(|mut fault| {
            fault.area = "run";
            fault.page = Some(run.first);
            fault
        })?;
        let found = anatomy::crc32c(0, &bytes);
        if found == run.checksum {
            return Ok(bytes);
        }
        let what = "a long value does not match the checksum in its reference";
        let (expected, found) = (format!("{:#010x}", run.checksum), format!("{found:#010x}"));
        Err(Fault::new("run", what, expected, found).at_page(run.first, self.page_size, 0))
    }

    /// Whether all long values that a commit's changes name are as their references say. `budget_bytes`:
    /// what may be read. They share no page, so those of a file are no longer than it.
    pub(crate) fn has_runs_of(&self, payload: &[u8], budget_bytes: &mut u64) -> bool {
        let mut operations = anatomy::operations(payload).map_while(|found| found);
        operations.all(|operation| match operation {
            Operation::PutRun { run, .. } => {
                let left = budget_bytes.checked_sub(u64::from(run.length_bytes));
                *budget_bytes = left.unwrap_or(0);
                left.is_some() && self.run(&run).is_ok()
            }
            _ => true,
        })
    }

    /// A flaw in a page of this file.
    pub fn fault(&self, area: &'static str, page: u32, flaw: Flaw) -> Fault {
        Fault::in_page(area, page, self.page_size, flaw)
    }

    /// What is wrong with the slots. A crash can leave one of them torn, unless the file was
    /// closed since.
    pub fn check_slots(&self, was_closed: bool) -> Faults {
        let mut faults = Faults::default();
        let valid = self.slots.iter().filter_map(Slot::header);
        let newest = valid.clone().map(|header| header.checkpoint).max();
        for slot in &self.slots {
            match &slot.state {
                SlotState::Valid(header) => self.check_valid(slot, header, newest, &mut faults),
                SlotState::Damaged(fault) => {
                    let harmless = newest.is_some() && !was_closed;
                    let fault = fault.clone();
                    faults.add(if harmless { fault.notice() } else { fault });
                }
                // A new file has slot 1 only.
                SlotState::Unwritten if slot.is_zero && slot.number == 0 && newest == Some(1) => {}
                SlotState::Unwritten | SlotState::Missing => {
                    let what = "a header slot does not begin with Aurora's mark";
                    let fault = Fault::new("header", what, "AURORADB", "something else");
                    let fault = fault.at_offset(slot.offset);
                    let harmless = newest.is_some() && !was_closed;
                    faults.add(if harmless { fault.notice() } else { fault });
                }
                SlotState::Newer(reason) => {
                    let what = "a header slot is a newer program's";
                    faults.add(Fault::new("header", what, 1, reason).at_offset(slot.offset));
                }
            }
        }
        if let Some(header) = &self.header {
            let expected = u64::from(header.pages) * u64::from(header.page_size);
            if self.length < expected {
                let what = "the file is shorter than its header says";
                let fault = Fault::new("file", what, expected, self.length);
                faults.add(fault.at_offset(self.length));
            }
            if header.pages == u32::MAX {
                let what = "the file has more pages than can be numbered";
                faults.add(Fault::new("header", what, u32::MAX - 1, header.pages));
            }
        }
        faults
    }

    fn check_valid(&self, slot: &Slot, header: &Header, newest: Option<u64>, out: &mut Faults) {
        let mut wrong = |what: &str, field: u64, expected: u64, found: u64| {
            let fault = Fault::new("header", what, expected, found);
            out.add(fault.at_offset(slot.offset + field));
        };
        if header.checkpoint % 2 != u64::from(slot.number) {
            let what = "a checkpoint is recorded in the slot of another";
            wrong(what, 16, header.checkpoint % 2, u64::from(slot.number));
        }
        let newest = newest.unwrap_or(header.checkpoint);
        if header.checkpoint != newest && header.checkpoint.checked_add(1) != Some(newest) {
            let what = "the slots are not of two checkpoints that follow each other";
            wrong(what, 16, newest.saturating_sub(1), header.checkpoint);
        }
        if header.salt != self.salt {
            wrong("the slots have different salts", 32, self.salt, header.salt);
        }
        if header.page_size != self.page_size {
            let (own, found) = (u64::from(self.page_size), u64::from(header.page_size));
            wrong("the slots have different page sizes", 12, own, found);
        }
        if header.read_compatible != 0 {
            let what = "the file has features that this program does not know";
            wrong(what, 48, 0, header.read_compatible);
        }
    }
}

pub(crate) fn newest(slots: &[Slot; 2]) -> Option<&Slot> {
    let valid = slots.iter().filter(|slot| slot.header().is_some());
    valid.max_by_key(|slot| slot.header().map(|header| header.checkpoint))
}

/// Why nothing can be said of the file.
fn refusal(slots: &[Slot; 2], asked: Option<u8>) -> Option<String> {
    for slot in slots {
        if let SlotState::Newer(reason) = &slot.state {
            return Some(reason.clone());
        }
    }
    let is_one = |slot: &Slot| matches!(slot.state, SlotState::Valid(_) | SlotState::Damaged(_));
    if !slots.iter().any(is_one) {
        return Some(String::from(
            "this is no Aurora file: no header slot has its mark",
        ));
    }
    let asked = asked?;
    let has = slots
        .iter()
        .any(|s| s.number == asked && s.header().is_some());
    (!has).then(|| format!("header slot {asked} is not sound"))
}

pub(crate) fn read_slots(storage: &dyn Storage, length: u64) -> std::io::Result<[Slot; 2]> {
    let first = read_slot(storage, 0, 0, length)?;
    let second = match first.header() {
        Some(header) => read_slot(storage, 1, u64::from(header.page_size), length)?,
        None => search_second(storage, length)?,
    };
    Ok([first, second])
}

/// Like the engine: sizes from the smallest up.
fn search_second(storage: &dyn Storage, length: u64) -> std::io::Result<Slot> {
    let mut best: Option<Slot> = None;
    for log2 in MIN_PAGE_SIZE.ilog2()..=MAX_PAGE_SIZE.ilog2() {
        let size = 1u32 << log2;
        let slot = read_slot(storage, 1, u64::from(size), length)?;
        match &slot.state {
            SlotState::Valid(header) if header.page_size == size => return Ok(slot),
            SlotState::Newer(_) => return Ok(slot),
            SlotState::Damaged(_) => best = best.or(Some(slot)),
            _ => {}
        }
    }
    Ok(best.unwrap_or(Slot {
        number: 1,
        offset: u64::from(MIN_PAGE_SIZE),
        state: SlotState::Missing,
        is_zero: true,
    }))
}

fn read_slot(storage: &dyn Storage, number: u8, offset: u64, length: u64) -> std::io::Result<Slot> {
    let mut slot = Slot {
        number,
        offset,
        state: SlotState::Missing,
        is_zero: true,
    };
    if offset + SLOT_BYTES as u64 > length {
        return Ok(slot);
    }
    let mut bytes = [0; SLOT_BYTES];
    storage.read_at(offset, &mut bytes)?;
    slot.is_zero = bytes.iter().all(|byte| *byte == 0);
    slot.state = match anatomy::decode_slot(&bytes, offset) {
        Ok(header) => SlotState::Valid(Box::new(header)),
        Err(Error::NotADatabase { .. }) => SlotState::Unwritten,
        Err(Error::Corrupt {
            what,
            offset,
            expected,
            found,
            ..
        }) => {
            let mut fault = Fault::new("header", what, expected, found).at_offset(offset);
            fault.page = Some(u32::from(number));
            SlotState::Damaged(fault)
        }
        Err(error) => SlotState::Newer(error.to_string()),
    };
    Ok(slot)
}

/// Page size and salt as a damaged slot has them.
fn guess(storage: &dyn Storage, slots: &[Slot; 2], length: u64) -> std::io::Result<(u32, u64)> {
    for slot in slots {
        if !matches!(slot.state, SlotState::Damaged(_)) || slot.offset + 40 > length {
            continue;
        }
        let mut bytes = [0; 40];
        storage.read_at(slot.offset, &mut bytes)?;
        let size = bytes.get(12..16).and_then(|b| b.try_into().ok());
        let size = size.map_or(0, u32::from_le_bytes);
        let salt = bytes.get(32..40).and_then(|b| b.try_into().ok());
        if size.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&size) {
            return Ok((size, salt.map_or(0, u64::from_le_bytes)));
        }
    }
    Ok((MIN_PAGE_SIZE, 0))
}
