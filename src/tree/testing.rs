//! Pages in memory, strict about the rules of [`super::pages`].

use std::collections::HashMap;

use crate::Result;
use crate::format::{PageNumber, PageRef, RunRef, TreeRoot, Version, node, page};

use super::check::{PageKind, TreeShape, check};
use super::pages::{Ends, ReadPages, WritePages};

/// Numbers are never used twice, so a stale reference is noticed. Pages of older versions stay
/// readable for ever; private pages vanish when they are freed.
pub(crate) struct TestPages {
    page_size: u32,
    version: Version,
    pages: Vec<Option<Box<[u8]>>>,
    runs: HashMap<PageNumber, Vec<u8>>,
    /// Pages in use: 1 for nodes, the length for runs.
    live: HashMap<PageNumber, u32>,
    pub strict: bool,
    ends: Ends,
}

impl TestPages {
    pub(crate) fn new(page_size: u32) -> Self {
        TestPages {
            page_size,
            version: 1,
            pages: vec![None, None],
            runs: HashMap::new(),
            live: HashMap::new(),
            strict: true,
            ends: Ends::default(),
        }
    }

    /// Ends the transaction: what was private is not so any more.
    pub(crate) fn next_version(&mut self) {
        self.version += 1;
    }

    /// The structural check; and the pages in use are exactly those reachable.
    pub(crate) fn check(&self, root: &TreeRoot) -> TreeShape {
        let mut seen = HashMap::new();
        let shape = check(self, root, &mut |kind, first, count| {
            assert!(seen.insert(first, count).is_none(), "page {first} twice");
            assert_eq!(self.runs.contains_key(&first), kind == PageKind::Run);
            Ok(())
        })
        .expect("the tree is sound");
        if self.strict {
            assert_eq!(seen, self.live, "reachable and allocated differ");
        }
        assert_eq!(shape.entries, root.count);
        shape
    }

    /// The nodes in use, in no order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &[u8]> {
        let nodes = self
            .live
            .keys()
            .filter(|page| !self.runs.contains_key(page));
        nodes.filter_map(|page| self.pages[*page as usize].as_deref())
    }

    pub(crate) fn live_pages(&self) -> usize {
        self.live.len()
    }

    fn push(&mut self, bytes: Box<[u8]>) -> PageNumber {
        self.pages.push(Some(bytes));
        let page = (self.pages.len() - 1) as PageNumber;
        if self.strict {
            self.live.insert(page, 1);
        }
        page
    }
}

impl ReadPages for TestPages {
    type Bytes<'p> = &'p [u8];

    fn page_size(&self) -> u32 {
        self.page_size
    }

    #[inline]
    fn read(&self, page: &PageRef) -> Result<&[u8]> {
        let bytes = self.pages[page.page as usize]
            .as_deref()
            .expect("read of a freed page");
        if self.strict {
            node::validate(bytes, page.page).expect("the page is valid");
        }
        Ok(bytes)
    }

    fn read_run(&self, run: &RunRef) -> Result<&[u8]> {
        let bytes = self.runs.get(&run.first).expect("read of a freed run");
        assert_eq!(bytes.len(), run.length_bytes as usize);
        assert_eq!(crc32c::crc32c(bytes), run.checksum);
        Ok(bytes)
    }
}

impl WritePages for TestPages {
    fn version(&self) -> Version {
        self.version
    }

    fn make_private(&mut self, at: &PageRef) -> Result<PageNumber> {
        let bytes = self.pages[at.page as usize]
            .as_deref()
            .expect("copy of a freed page");
        let birth = page::birth(bytes);
        if birth == self.version {
            assert_eq!(at.checksum, 0);
            return Ok(at.page);
        }
        let mut copy: Box<[u8]> = bytes.into();
        let number = self.pages.len() as PageNumber;
        copy[page::PAGE..page::PAGE + 4].copy_from_slice(&number.to_le_bytes());
        copy[page::BIRTH..page::BIRTH + 8].copy_from_slice(&self.version.to_le_bytes());
        self.free(at.page, birth);
        Ok(self.push(copy))
    }

    fn bytes_mut(&mut self, page: PageNumber) -> Result<&mut [u8]> {
        let bytes = self.pages[page as usize]
            .as_deref_mut()
            .expect("change of a freed page");
        assert_eq!(page::birth(bytes), self.version, "change of a shared page");
        Ok(bytes)
    }

    fn allocate(&mut self, kind: u8, level: u8) -> Result<PageNumber> {
        let mut bytes = vec![0; self.page_size as usize].into_boxed_slice();
        let number = self.pages.len() as PageNumber;
        page::init(&mut bytes, number, self.version, kind, level);
        Ok(self.push(bytes))
    }

    fn free(&mut self, page: PageNumber, birth: Version) {
        let bytes = self.pages[page as usize].as_deref().expect("freed twice");
        assert_eq!(page::birth(bytes), birth, "freed with another birth");
        if self.strict {
            assert_eq!(self.live.remove(&page), Some(1), "freed twice");
        }
        if birth == self.version {
            self.pages[page as usize] = None;
        }
    }

    fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }

    fn allocate_run(&mut self, value: &[u8]) -> Result<RunRef> {
        let run = RunRef {
            first: self.pages.len() as PageNumber,
            length_bytes: value.len() as u32,
            checksum: crc32c::crc32c(value),
            birth: self.version,
        };
        let count = run.pages(self.page_size);
        self.pages
            .resize_with(self.pages.len() + count as usize, || None);
        self.runs.insert(run.first, value.to_vec());
        self.live.insert(run.first, count);
        Ok(run)
    }

    fn free_run(&mut self, run: &RunRef) {
        let count = run.pages(self.page_size);
        assert_eq!(self.live.remove(&run.first), Some(count), "freed twice");
        if run.birth == self.version {
            self.runs.remove(&run.first);
        }
    }
}
