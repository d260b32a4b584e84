//! How fast the tree is on its own: a measurement, not a test.

use crate::format::{PageNumber, PageRef, RunRef, TreeRoot, Version, page};
use crate::{Error, Result};

use super::pages::{Ends, ReadPages, WritePages};
use super::tests::Random;
use super::*;

/// Pages side by side in memory that was touched before: the clock sees the tree, not the kernel
/// clearing fresh pages. Freed pages are reused at once, so there are no snapshots.
struct ArenaPages {
    page_size: usize,
    version: Version,
    arena: Vec<u8>,
    base: usize,
    used: PageNumber,
    free: Vec<PageNumber>,
    ends: Ends,
}

impl ArenaPages {
    fn new(page_size: u32, bytes: usize) -> Self {
        let arena = vec![1; bytes];
        ArenaPages {
            page_size: page_size as usize,
            version: 1,
            base: arena.as_ptr().align_offset(4096),
            arena,
            used: 2,
            free: Vec::new(),
            ends: Ends::default(),
        }
    }

    fn next_version(&mut self) {
        self.version += 1;
    }

    fn at(&self, page: PageNumber) -> usize {
        self.base + page as usize * self.page_size
    }

    fn take(&mut self) -> PageNumber {
        self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        })
    }
}

impl ReadPages for ArenaPages {
    type Bytes<'p> = &'p [u8];

    fn page_size(&self) -> u32 {
        self.page_size as u32
    }

    #[inline]
    fn read(&self, page: &PageRef) -> Result<&[u8]> {
        let at = self.at(page.page);
        self.arena.get(at..at + self.page_size).ok_or(Error::Closed)
    }

    fn read_run(&self, _: &RunRef) -> Result<&[u8]> {
        Err(Error::Closed)
    }
}

impl WritePages for ArenaPages {
    fn version(&self) -> Version {
        self.version
    }

    fn make_private(&mut self, at: &PageRef) -> Result<PageNumber> {
        if page::birth(self.read(at)?) == self.version {
            return Ok(at.page);
        }
        let copy = self.take();
        let from = self.at(at.page);
        let to = self.at(copy);
        self.arena.copy_within(from..from + self.page_size, to);
        let version = self.version;
        let bytes = self.bytes_mut(copy)?;
        bytes[page::PAGE..page::PAGE + 4].copy_from_slice(&copy.to_le_bytes());
        bytes[page::BIRTH..page::BIRTH + 8].copy_from_slice(&version.to_le_bytes());
        self.free.push(at.page);
        Ok(copy)
    }

    #[inline]
    fn bytes_mut(&mut self, page: PageNumber) -> Result<&mut [u8]> {
        let at = self.at(page);
        self.arena
            .get_mut(at..at + self.page_size)
            .ok_or(Error::Closed)
    }

    fn allocate(&mut self, kind: u8, level: u8) -> Result<PageNumber> {
        let page = self.take();
        let version = self.version;
        let bytes = self.bytes_mut(page)?;
        bytes.fill(0);
        page::init(bytes, page, version, kind, level);
        Ok(page)
    }

    fn free(&mut self, page: PageNumber, _: Version) {
        self.free.push(page);
    }

    fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }

    fn allocate_run(&mut self, _: &[u8]) -> Result<RunRef> {
        Err(Error::Closed)
    }

    fn free_run(&mut self, _: &RunRef) {}
}

/// `cargo test --release --lib -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed_of_a_million_entries() {
    use std::time::Instant;
    const ENTRIES: u64 = 1_000_000;
    for page_size in [4096, 8192] {
        let mut pages = ArenaPages::new(page_size, 640 << 20);
        let mut root = TreeRoot::default();
        let value = [9; 150];
        let key = |i: u64| {
            let mut random = Random(i.wrapping_mul(77));
            let mut key = [0; 24];
            for chunk in key.chunks_exact_mut(8) {
                chunk.copy_from_slice(&random.next().to_le_bytes());
            }
            key
        };
        let per = |start: Instant, n: u64| start.elapsed().as_nanos() / u128::from(n);
        let start = Instant::now();
        for i in 0..ENTRIES {
            put(&mut pages, &mut root, &key(i), &value).unwrap();
        }
        let load = per(start, ENTRIES);
        let mut random = Random(1);
        let mut sum = 0;
        let mut read = u128::MAX;
        for _ in 0..7 {
            let start = Instant::now();
            for _ in 0..ENTRIES {
                let found = find(&pages, &root, &key(random.below(ENTRIES))).unwrap();
                let value = found.as_ref().and_then(Found::inline).unwrap();
                sum += usize::from(value[0]);
            }
            read = read.min(per(start, ENTRIES));
        }
        // What the machine asks for one line of a random page, nothing else.
        let mut touch = u128::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            let mut at = 0;
            for _ in 0..ENTRIES {
                let n = (random.next() ^ at) % u64::from(pages.used);
                at = u64::from(pages.arena[n as usize * page_size as usize]);
            }
            sum += at as usize;
            touch = touch.min(per(start, ENTRIES));
        }
        let start = Instant::now();
        let mut cursor = Cursor::new(&pages, &root);
        for _ in 0..200_000 {
            let mut more = cursor.seek(&key(random.below(ENTRIES))).unwrap();
            for _ in 0..10 {
                if !more {
                    break;
                }
                let (key, value) = cursor.entry().unwrap();
                sum += key.len() + value.len();
                more = cursor.next().unwrap();
            }
        }
        let scan = per(start, 200_000);
        let start = Instant::now();
        let mut more = cursor.first().unwrap();
        while more {
            let (key, value) = cursor.entry().unwrap();
            sum += key.len() + value.len();
            more = cursor.next().unwrap();
        }
        let walk = per(start, ENTRIES);
        let shape = check(&pages, &root, &mut |_, _, _| Ok(())).unwrap();
        let start = Instant::now();
        for i in 0..ENTRIES / 4 {
            put(&mut pages, &mut root, &key(i), &value).unwrap();
        }
        let replace = per(start, ENTRIES / 4);
        let start = Instant::now();
        for i in 0..ENTRIES / 10 {
            pages.next_version();
            put(&mut pages, &mut root, &key(i + ENTRIES), &value).unwrap();
        }
        let single = per(start, ENTRIES / 10);
        let start = Instant::now();
        pages.next_version();
        for i in 0..ENTRIES / 2 {
            delete(&mut pages, &mut root, &key(i * 2)).unwrap();
        }
        let remove = per(start, ENTRIES / 2);
        let mut ordered = ArenaPages::new(page_size, 320 << 20);
        let start = Instant::now();
        let mut ordered_root = TreeRoot::default();
        for i in 0..ENTRIES {
            let mut key = [1; 24];
            key[16..].copy_from_slice(&i.to_be_bytes());
            put(&mut ordered, &mut ordered_root, &key, &value).unwrap();
        }
        let append = per(start, ENTRIES);
        println!(
            "page {page_size}: load {load} ns, read {read} ns, seek + 10 {scan} ns, walk {walk} ns, \
             replace {replace} ns, one-put transactions {single} ns, delete {remove} ns, \
             sequential load {append} ns, one random line {touch} ns; depth {}, fill {:.3} ({sum})",
            shape.depth,
            shape.fill(page_size)
        );
    }
}
