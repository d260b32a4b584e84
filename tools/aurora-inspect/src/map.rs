//! The space map: which pages the checkpoint says that it uses.
//!
//! # Invariants
//!
//! 1. Memory is a bit for each page of the file, and one page a level.

use aurora::anatomy::{
    self, Flaw, Header, PAGE_HEADER_BYTES, PageHeader, Reference, SPACE_BITMAP, SPACE_INDEX,
};

use crate::source::{PageBytes, Source};
use crate::walk::PageSet;
use crate::{Fault, Faults};

/// What the space map says.
#[derive(Debug, Default)]
pub struct SpaceMap {
    /// Its own pages: number, level, entries, kind.
    pub pages: Vec<(u32, u8, u16, u8)>,
    /// What is wrong with it.
    pub faults: Faults,
    /// Pages that it says are used.
    pub used: u64,
    bits: Vec<u8>,
    /// Bitmaps that could be read, or that do not have to be there.
    known: Vec<bool>,
    bits_per_bitmap: u32,
}

/// An index page on the way down.
struct Frame {
    bytes: PageBytes,
    level: u8,
    next: usize,
    count: usize,
    sum: u64,
    page: u32,
    used: Option<u32>,
}

struct Reader<'s> {
    source: &'s Source,
    map: SpaceMap,
    seen: PageSet,
    /// The bitmap that comes next.
    bitmap: usize,
    bitmaps: usize,
    pages: u32,
}

impl SpaceMap {
    /// Reads the whole map.
    pub fn read(source: &Source, header: &Header) -> SpaceMap {
        SpaceMap::read_from(source, header.space, header.space_level, header.pages)
    }

    /// The same with a root from elsewhere, for so many pages.
    pub(crate) fn read_from(source: &Source, root: Reference, level: u8, pages: u32) -> SpaceMap {
        let bits_per_bitmap = anatomy::space_bits(source.page_size());
        // A header that speaks of more pages than there are is not believed.
        let bitmaps = source.pages().div_ceil(bits_per_bitmap) as usize;
        let mut reader = Reader {
            source,
            map: SpaceMap {
                bits: vec![0; source.pages().div_ceil(8) as usize],
                known: vec![false; bitmaps],
                bits_per_bitmap,
                ..SpaceMap::default()
            },
            seen: PageSet::new(source.pages()),
            bitmap: 0,
            bitmaps: pages.div_ceil(bits_per_bitmap) as usize,
            pages,
        };
        reader.run(root, level);
        reader.map
    }

    /// Whether a page is used; `None` if that part of the map is lost.
    pub fn is_used(&self, page: u32) -> Option<bool> {
        let bitmap = page.checked_div(self.bits_per_bitmap)?;
        if !*self.known.get(bitmap as usize)? {
            return None;
        }
        let byte = self.bits.get(page as usize / 8)?;
        Some(byte & 1 << (page % 8) != 0)
    }
}

impl Reader<'_> {
    fn run(&mut self, root: Reference, level: u8) {
        let wanted = anatomy::space_root_level(self.bitmaps, self.source.page_size());
        if level != wanted {
            let what = "the root of the space map has a level that the file does not ask for";
            let fault = Fault::new("space", what, wanted, level);
            self.map.faults.add(fault);
        }
        let mut stack = Vec::new();
        self.enter(root, level, None, &mut stack);
        while let Some(frame) = stack.last_mut() {
            if frame.next >= frame.count {
                if let Some(frame) = stack.pop() {
                    self.leave(&frame);
                }
                continue;
            }
            let entry = anatomy::space_entry(&frame.bytes, frame.next);
            frame.next += 1;
            frame.sum += u64::from(entry.used);
            let level = frame.level.saturating_sub(1);
            if entry.at.page == 0 {
                self.skip(level, entry.used, frame.page);
            } else {
                self.enter(entry.at, level, Some(entry.used), &mut stack);
            }
        }
        if self.bitmap != self.bitmaps {
            let what = "the space map has another number of bitmaps than the file asks for";
            let (expected, found) = (self.bitmaps, self.bitmap);
            self.map
                .faults
                .add(Fault::new("space", what, expected, found));
        }
    }

    fn fault(&mut self, page: u32, what: &'static str, offset: u32, expected: u64, found: u64) {
        let flaw = Flaw {
            what,
            offset,
            expected,
            found,
        };
        self.map.faults.add(self.source.fault("space", page, flaw));
    }

    fn leave(&mut self, frame: &Frame) {
        if let Some(used) = frame.used
            && u64::from(used) != frame.sum
        {
            let what = "a part of the space map has another count of used pages";
            self.fault(frame.page, what, 32, u64::from(used), frame.sum);
        }
    }

    /// How many bitmaps are below a page of that level.
    fn below(&self, level: u8) -> usize {
        let fanout = anatomy::space_entries_per_page(self.source.page_size());
        fanout.saturating_pow(u32::from(level))
    }

    /// Nothing below is used. (Pages of the file that are behind the end are not either.)
    fn skip(&mut self, level: u8, used: u32, page: u32) {
        if used != 0 {
            let what = "the space map counts used pages where it has no bitmap";
            self.fault(page, what, 32, 0, u64::from(used));
        }
        let end = self.bitmap.saturating_add(self.below(level));
        let end = end.min(self.bitmaps.max(self.bitmap));
        let known = self.map.known.len();
        if let Some(known) = self
            .map
            .known
            .get_mut(self.bitmap.min(known)..end.min(known))
        {
            known.fill(true);
        }
        self.bitmap = end;
    }

    /// What is below a page is lost.
    fn lose(&mut self, level: u8) {
        let end = self.bitmap.saturating_add(self.below(level));
        self.bitmap = end.min(self.bitmaps.max(self.bitmap));
    }

    fn enter(&mut self, at: Reference, level: u8, used: Option<u32>, stack: &mut Vec<Frame>) {
        let kind = if level == 0 {
            SPACE_BITMAP
        } else {
            SPACE_INDEX
        };
        let bytes = match self.source.page(at) {
            Ok(bytes) => bytes,
            Err(mut fault) => {
                fault.area = "space";
                self.map.faults.add(fault);
                if at.page >= 2 && at.page < self.source.pages() && self.seen.add(at.page) {
                    self.map.pages.push((at.page, level, 0, kind));
                }
                return self.lose(level);
            }
        };
        if !self.seen.add(at.page) {
            self.fault(at.page, "a page is referred to twice", 0, 1, 2);
            return self.lose(level);
        }
        let header = PageHeader::decode(&bytes);
        self.map.pages.push((at.page, level, header.count, kind));
        let newest = { self.source.chosen() }.map_or(u64::MAX, |header| header.version);
        if header.birth > newest {
            let what = "a page is younger than the checkpoint that names it";
            self.fault(at.page, what, 8, newest, header.birth);
        }
        if header.kind != kind || header.level != level {
            let what = "a page of the space map is of another kind or level";
            let pack = |kind: u8, level: u8| u64::from(kind) << 8 | u64::from(level);
            let (expected, found) = (pack(kind, level), pack(header.kind, header.level));
            self.fault(at.page, what, 16, expected, found);
            return self.lose(level);
        }
        if level == 0 {
            return self.bitmap(at.page, &bytes, used);
        }
        let most = anatomy::space_entries_per_page(self.source.page_size());
        let count = usize::from(header.count);
        if count == 0 || count > most {
            let what = "an index page of the space map has an impossible number of entries";
            self.fault(at.page, what, 18, most as u64, count as u64);
            return self.lose(level);
        }
        let left = self.bitmaps.saturating_sub(self.bitmap);
        let wanted = left.div_ceil(self.below(level - 1).max(1)).clamp(1, most);
        if count != wanted {
            let what = "an index page of the space map has the wrong number of entries";
            self.fault(at.page, what, 18, wanted as u64, count as u64);
        }
        stack.push(Frame {
            bytes,
            level,
            next: 0,
            count,
            sum: 0,
            page: at.page,
            used,
        });
    }

    fn bitmap(&mut self, page: u32, bytes: &[u8], used: Option<u32>) {
        let body = bytes.get(PAGE_HEADER_BYTES..).unwrap_or_default();
        let found: u32 = body.iter().map(|byte| byte.count_ones()).sum();
        if used.is_some_and(|used| used != found) {
            let what = "a part of the space map has another count of used pages";
            self.fault(page, what, 32, used.unwrap_or(0).into(), found.into());
        }
        self.map.used += u64::from(found);
        let first = self.bitmap as u64 * u64::from(self.map.bits_per_bitmap);
        let start = usize::try_from(first / 8).unwrap_or(usize::MAX);
        // Bits of a bitmap are whole bytes of the set: their number is a multiple of 8.
        let room = self.map.bits.get_mut(start..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(body) {
            *to = *from;
        }
        self.check_tail(page, body, first);
        if let Some(known) = self.map.known.get_mut(self.bitmap) {
            *known = true;
        }
        self.bitmap += 1;
    }

    /// Bits for pages behind the end are 0.
    fn check_tail(&mut self, page: u32, body: &[u8], first: u64) {
        let end = u64::from(self.pages);
        for (at, byte) in (0u64..).zip(body) {
            let start = first + at * 8;
            if start + 8 <= end || *byte == 0 {
                continue;
            }
            let inside = end.saturating_sub(start).min(8) as u32;
            let beyond = (u16::from(*byte) >> inside) as u64;
            if beyond != 0 {
                let what = "the space map marks pages behind the end as used";
                let offset = PAGE_HEADER_BYTES as u32 + at as u32;
                return self.fault(page, what, offset, 0, beyond);
            }
        }
    }
}
