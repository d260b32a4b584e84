//! `format-spec.md` against the code: every row of its tables of constants and of vectors.
//!
//! Where the code has no name for a number, it is measured: a field is where the encoded bytes
//! change when only that field does.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::header::{self, Header, LogRegion};
use super::node::{self, Child, Payload};
use super::record::{self, Operation, RecordHeader};
use super::space::{self, SpaceEntry};
use super::{PageRef, RunRef, TreeRoot, get_u16, get_u32, page};
use crate::Aurora;
use crate::storage::MemoryStorage;
use crate::txn::pages::DIRECT_BYTES;
use crate::txn::state::{MAX_NAME_BYTES, MAX_TREE, catalog};

const SPEC: &str = include_str!("../../format-spec.md");
const SALT: u64 = 0x0123_4567_89ab_cdef;

type Rows = BTreeMap<String, String>;

/// The rows of the table between two comments, without its head.
fn table(name: &str) -> Rows {
    let (begin, end) = (
        format!("<!-- {name}: begin -->"),
        format!("<!-- {name}: end -->"),
    );
    let (_, rest) = SPEC.split_once(&begin).expect("the table begins");
    let (body, _) = rest.split_once(&end).expect("the table ends");
    let mut rows = Rows::new();
    let lines = body.lines().filter(|line| line.starts_with('|')).skip(2);
    for line in lines {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, value] = cells[..] else {
            panic!("not a row of two cells: {line}");
        };
        let before = rows.insert(key.to_string(), value.to_string());
        assert_eq!(before, None, "{key} stands in the table twice");
    }
    rows
}

/// Both ways: nothing is missing in the document, and nothing is left over in it.
fn compare(in_the_document: Rows, in_the_code: Rows) {
    let mut faults = Vec::new();
    for (key, value) in &in_the_code {
        match in_the_document.get(key) {
            Some(found) if found == value => {}
            Some(found) => faults.push(format!("{key}: document {found}, code {value}")),
            None => faults.push(format!("{key}: not in the document, code {value}")),
        }
    }
    for key in in_the_document.keys() {
        if !in_the_code.contains_key(key) {
            faults.push(format!("{key}: only in the document"));
        }
    }
    assert!(faults.is_empty(), "format-spec.md:\n{}", faults.join("\n"));
}

/// Offset and length of what differs. Fields are compared with all bits set against none, so the
/// whole field differs.
fn changed(a: &[u8], b: &[u8]) -> (usize, usize) {
    let differ: Vec<usize> = (0..a.len()).filter(|i| a[*i] != b[*i]).collect();
    let (first, last) = (differ[0], differ[differ.len() - 1]);
    assert_eq!(differ.len(), last - first + 1, "the field is in one piece");
    (first, last + 1 - first)
}

struct Found(Rows);

impl Found {
    fn number(&mut self, key: &str, value: impl TryInto<u64>) {
        let value = value.try_into().ok().expect("the number fits");
        self.text(key, value.to_string());
    }

    fn text(&mut self, key: &str, value: String) {
        let before = self.0.insert(key.to_string(), value);
        assert_eq!(before, None, "{key} is measured twice");
    }
}

fn measure_header(found: &mut Found) {
    type Set = fn(&mut Header);
    let fields: [(&str, Set); 19] = [
        ("page_size", |h| h.page_size = u32::MAX),
        ("checkpoint", |h| h.checkpoint = u64::MAX),
        ("version", |h| h.version = u64::MAX),
        ("salt", |h| h.salt = u64::MAX),
        ("compatible", |h| h.compatible = u64::MAX),
        ("read_compatible", |h| h.read_compatible = u64::MAX),
        ("incompatible", |h| h.incompatible = u64::MAX),
        ("pages", |h| h.pages = u32::MAX),
        ("catalog_page", |h| h.catalog.root.page = u32::MAX),
        ("catalog_checksum", |h| h.catalog.root.checksum = u32::MAX),
        ("catalog_count", |h| h.catalog.count = u64::MAX),
        ("catalog_level", |h| h.catalog.level = u8::MAX),
        ("space_page", |h| h.space.page = u32::MAX),
        ("space_checksum", |h| h.space.checksum = u32::MAX),
        ("space_level", |h| h.space_level = u8::MAX),
        ("log_page", |h| h.log.first = u32::MAX),
        ("log_pages", |h| h.log.pages = u32::MAX),
        ("log_start", |h| h.log_start = u64::MAX),
        ("log_start_crc", |h| h.log_start_crc = u32::MAX),
    ];
    let body = |h: &Header| h.encode()[..header::SLOT_CHECKSUM].to_vec();
    let empty = body(&Header::default());
    let mut measure = |name: &str, header: &Header| {
        let (offset, bytes) = changed(&empty, &body(header));
        found.number(&format!("header.{name}.offset"), offset);
        found.number(&format!("header.{name}.bytes"), bytes);
    };
    for (name, set) in fields {
        let mut header = Header::default();
        set(&mut header);
        measure(name, &header);
    }
    let next_log = |first, pages| Header {
        next_log: LogRegion { first, pages },
        ..Header::default()
    };
    measure("next_log_page", &next_log(u32::MAX, 0));
    measure("next_log_pages", &next_log(0, u32::MAX));
    let slot = Header::default().encode();
    found.text(
        "header.magic",
        format!("{:?}", std::str::from_utf8(&slot[..8]).unwrap()),
    );
    found.number("header.format", get_u32(&slot, 8));
    found.number("header.slot.bytes", slot.len());
    found.number("header.checksum.offset", header::SLOT_CHECKSUM);
}

fn measure_page(found: &mut Found) {
    found.number("page_size.min", page::MIN_PAGE_SIZE);
    found.number("page_size.max", page::MAX_PAGE_SIZE);
    found.number("page.header.bytes", page::HEADER_BYTES);
    for (name, offset) in [
        ("checksum", page::CHECKSUM),
        ("page", page::PAGE),
        ("birth", page::BIRTH),
        ("kind", page::KIND),
        ("level", page::LEVEL),
        ("count", page::COUNT),
        ("cells_start", page::CELLS_START),
        ("prefix", page::PREFIX),
        ("garbage", page::GARBAGE),
        ("suffix", page::SUFFIX),
        ("appends", page::APPENDS),
        ("lengths", page::LENGTHS),
    ] {
        found.number(&format!("page.{name}.offset"), offset);
    }
    found.number("page.kind.leaf", page::LEAF);
    found.number("page.kind.branch", page::BRANCH);
    found.number("page.kind.space_bitmap", page::SPACE_BITMAP);
    found.number("page.kind.space_index", page::SPACE_INDEX);
    found.number("page.kind.uniform_leaf", page::UNIFORM_LEAF);
}

const FIRST_SLOT: usize = page::HEADER_BYTES;

/// A leaf or branch with one keyed slot.
fn leaf_with(key: &[u8], payload: &Payload<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    page::init(&mut bytes, 9, 1, page::LEAF, 0);
    assert!(node::insert(&mut bytes, 0, key, payload));
    bytes
}

fn branch_with(page: u32, checksum: u32, count: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    page::init(&mut bytes, 9, 1, page::BRANCH, 1);
    let page = PageRef { page, checksum };
    let child = Payload::Child(Child { page, count });
    assert!(node::insert(&mut bytes, 0, b"", &child));
    bytes
}

/// Two entries of 7 and 20 bytes: suffixes of 7, so with no byte in common.
fn measure_uniform(found: &mut Found) {
    let leaf = |value_bytes: usize| {
        let mut bytes = vec![0; 4096];
        page::init(&mut bytes, 9, 1, page::UNIFORM_LEAF, 0);
        for (i, key) in [b"abcdefg", b"hijklmn"].into_iter().enumerate() {
            let value = vec![b'1' + i as u8; value_bytes];
            assert!(node::insert(&mut bytes, i, key, &Payload::Inline(&value)));
        }
        node::validate(&bytes, 9).unwrap();
        bytes
    };
    let least = (0..).find(|n| page::kind(&leaf(*n)) == page::UNIFORM_LEAF);
    found.number("node.uniform.value.min", least.unwrap());
    assert_eq!(node::UNIFORM_VALUE_MIN, least.unwrap());
    let bytes = leaf(20);
    let at = |wanted: &[u8]| {
        bytes
            .windows(wanted.len())
            .position(|w| w == wanted)
            .unwrap()
    };
    assert_eq!(at(b"dcba"), FIRST_SLOT, "the head of slot 0");
    found.number("node.uniform.slot.bytes", at(b"kjih") - FIRST_SLOT);
    let suffix = get_u16(&bytes, page::SUFFIX);
    found.number("node.uniform.suffix.of_7_bytes", suffix);
    let lengths = get_u16(&bytes, page::LENGTHS);
    found.number("node.uniform.lengths.of_20_bytes", lengths);
    let (first, second) = (
        at(b"efg11111111111111111111"),
        at(b"lmn22222222222222222222"),
    );
    found.number("node.uniform.cell.of_7_and_20_bytes", first - second);
    found.number("node.uniform.cell.of_slot_1", second);
    assert_eq!(get_u32(&bytes, page::CELLS_START) as usize, second);
}

fn measure_node(found: &mut Found) {
    measure_uniform(found);
    found.number("node.slot.bytes", node::SLOT_BYTES);
    found.number("node.slot.head.bytes", node::HEAD_BYTES);
    let bytes = leaf_with(b"abcdefg", &Payload::Inline(b"VALUE"));
    let slot = &bytes[FIRST_SLOT..FIRST_SLOT + node::SLOT_BYTES];
    let prefix = usize::from(get_u16(&bytes, page::PREFIX));
    assert_eq!(prefix, 0, "one key makes no prefix");
    let at = |wanted: &[u8]| slot.windows(wanted.len()).position(|w| w == wanted);
    found.number("node.slot.head.offset", at(b"dcba").unwrap());
    let cell = bytes.windows(8).position(|w| w == b"efgVALUE").unwrap();
    let start = get_u32(&bytes, page::CELLS_START) as usize;
    assert_eq!(cell, start, "the only value has its length in the header");
    let lengths = get_u16(&bytes, page::LENGTHS);
    found.number("node.leaf.lengths.of_5_bytes", lengths);
    let mut mixed = bytes.clone();
    assert!(node::insert(
        &mut mixed,
        1,
        b"b",
        &Payload::Inline(b"VALUES")
    ));
    assert_eq!(get_u16(&mixed, page::LENGTHS), 0);
    let rest = mixed.windows(8).position(|w| w == b"efgVALUE").unwrap();
    let first_cell = usize::from(get_u16(&mixed, FIRST_SLOT + 4));
    found.number("node.leaf.value_length.bytes", rest - first_cell);
    assert_eq!(get_u16(&mixed, first_cell), 5);
    let offset = at(&(start as u16).to_le_bytes()).unwrap();
    found.number("node.slot.offset.offset", offset);
    let length = at(&7u16.to_le_bytes()).unwrap();
    found.number("node.slot.length.offset", length);
    let overflow = leaf_with(b"abcdefg", &Payload::Run(RunRef::default()));
    let flag = get_u16(&overflow, FIRST_SLOT + length) & !7;
    found.number("node.slot.overflow_flag", flag);

    let empty = branch_with(0, 0, 0);
    let start = get_u32(&empty, page::CELLS_START) as usize;
    found.number("node.branch.cell.bytes", empty.len() - start);
    let mut measure = |name: &str, other: &[u8]| {
        let (offset, _) = changed(&empty, other);
        found.number(&format!("node.branch.{name}.offset"), offset - start);
    };
    measure("page", &branch_with(u32::MAX, 0, 0));
    measure("checksum", &branch_with(0, u32::MAX, 0));
    measure("count", &branch_with(0, 0, u64::MAX));

    for size in [4096, 65536] {
        let limit = node::inline_max(size);
        found.number(&format!("node.inline_max.{size}"), limit);
        assert!(node::is_inline(size, 100, limit - 110));
        assert!(!node::is_inline(size, 100, limit - 109));
        let longest = node::max_key_bytes(size);
        found.number(&format!("key.max.{size}"), longest);
    }
    found.number("value.max", node::MAX_VALUE_BYTES);
    found.number("value.direct", DIRECT_BYTES);
}

fn measure_references(found: &mut Found) {
    type Set = fn(&mut RunRef);
    let fields: [(&str, Set); 4] = [
        ("first", |r| r.first = u32::MAX),
        ("length", |r| r.length_bytes = u32::MAX),
        ("checksum", |r| r.checksum = u32::MAX),
        ("birth", |r| r.birth = u64::MAX),
    ];
    let empty = RunRef::default();
    found.number("run.bytes", empty.encode().len());
    for (name, set) in fields {
        let mut run = empty;
        set(&mut run);
        let (offset, _) = changed(&empty.encode(), &run.encode());
        found.number(&format!("run.{name}.offset"), offset);
    }

    found.number("catalog.name.max", MAX_NAME_BYTES);
    found.number("catalog.tree.max", MAX_TREE as usize);
    let root = |page, checksum, level, count| TreeRoot {
        root: PageRef { page, checksum },
        count,
        level,
    };
    let empty = catalog::encode(0, &root(0, 0, 0, 0));
    found.number("catalog.bytes", empty.len());
    for (name, other) in [
        ("tree", catalog::encode(u32::MAX, &root(0, 0, 0, 0))),
        ("page", catalog::encode(0, &root(u32::MAX, 0, 0, 0))),
        ("checksum", catalog::encode(0, &root(0, u32::MAX, 0, 0))),
        ("level", catalog::encode(0, &root(0, 0, u8::MAX, 0))),
        ("count", catalog::encode(0, &root(0, 0, 0, u64::MAX))),
    ] {
        let (offset, _) = changed(&empty, &other);
        found.number(&format!("catalog.{name}.offset"), offset);
    }

    found.number("space.entry.bytes", space::ENTRY_BYTES);
    let entry = |page, checksum, used| {
        let mut bytes = vec![0; 4096];
        let page = PageRef { page, checksum };
        space::put_entry(&mut bytes, 0, &SpaceEntry { page, used });
        bytes
    };
    for (name, other) in [
        ("page", entry(u32::MAX, 0, 0)),
        ("checksum", entry(0, u32::MAX, 0)),
        ("used", entry(0, 0, u32::MAX)),
    ] {
        let (offset, _) = changed(&entry(0, 0, 0), &other);
        let offset = offset - page::HEADER_BYTES;
        found.number(&format!("space.{name}.offset"), offset);
    }
    for size in [4096, 65536] {
        let bits = space::bits_per_page(size);
        found.number(&format!("space.bits.{size}"), bits);
        let entries = space::entries_per_page(size);
        found.number(&format!("space.entries.{size}"), entries);
    }
}

/// The bytes of a record in front of its payload, without its checksum.
fn record_head(header: &RecordHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode(&mut bytes, header, payload, SALT);
    bytes[..48].to_vec()
}

fn measure_record(found: &mut Found) {
    type Set = fn(&mut RecordHeader);
    let fields: [(&str, Set); 7] = [
        ("lsn", |r| r.lsn = u64::MAX),
        ("version", |r| r.version = u64::MAX),
        ("checkpoint", |r| r.checkpoint = u64::MAX),
        ("durable", |r| r.durable = u64::MAX),
        ("kind", |r| r.kind = u8::MAX),
        ("flags", |r| r.flags = u8::MAX),
        ("previous", |r| r.previous = u32::MAX),
    ];
    let empty = RecordHeader::default();
    for (name, set) in fields {
        let mut header = empty;
        set(&mut header);
        let (offset, _) = changed(&record_head(&empty, b""), &record_head(&header, b""));
        found.number(&format!("record.{name}.offset"), offset);
    }
    let (offset, _) = changed(&record_head(&empty, b""), &record_head(&empty, b"x"));
    found.number("record.length.offset", offset);
    let mut bytes = Vec::new();
    let checksum = record::encode(&mut bytes, &empty, b"", SALT).to_le_bytes();
    let offset = bytes.windows(4).position(|w| w == checksum).unwrap();
    found.number("record.checksum.offset", offset);
    found.text(
        "record.magic",
        format!("{:?}", std::str::from_utf8(&bytes[..4]).unwrap()),
    );
    found.number("record.header.bytes", bytes.len());
    let longer = record::record_bytes(1) - record::record_bytes(0);
    found.number("record.align.bytes", longer);
    found.number("record.kind.commit", record::COMMIT);
    found.number("record.kind.mark", record::MARK);
    found.number("record.kind.switch", record::SWITCH);
    found.number("record.flag.clean", record::FLAG_CLEAN);
    found.number("record.flag.runs_unsynced", record::FLAG_RUNS_UNSYNCED);

    let encoded = |operation: Operation<'_>| {
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        bytes
    };
    let (tree, key, name) = (1, &b"k"[..], &b"n"[..]);
    let range = |lower| {
        encoded(Operation::DeleteRange {
            tree,
            lower,
            upper: Bound::Unbounded,
        })
    };
    let run = RunRef::default();
    for (name, bytes) in [
        (
            "put",
            encoded(Operation::Put {
                tree,
                key,
                value: b"v",
            }),
        ),
        ("delete", encoded(Operation::Delete { tree, key })),
        ("delete_range", range(Bound::Unbounded)),
        ("put_run", encoded(Operation::PutRun { tree, key, run })),
        ("create_tree", encoded(Operation::CreateTree { tree, name })),
        ("drop_tree", encoded(Operation::DropTree { tree })),
        ("rename_tree", encoded(Operation::RenameTree { tree, name })),
    ] {
        found.number(&format!("operation.{name}"), bytes[0]);
    }
    found.number("bound.none", range(Bound::Unbounded)[5]);
    found.number("bound.included", range(Bound::Included(key))[5]);
    found.number("bound.excluded", range(Bound::Excluded(key))[5]);
}

/// What a new file looks like.
fn measure_new_files(found: &mut Found) {
    let built = Aurora::builder().background(false).salt(SALT);
    for size in [4096, 65536] {
        let storage = MemoryStorage::new();
        let db = built.clone().page_size(size);
        let db = db.open_storage(Arc::new(storage.clone())).unwrap();
        let bytes = storage.to_bytes();
        drop(db);
        let slot = bytes[size as usize..].first_chunk().unwrap();
        let header = Header::decode(slot, u64::from(size)).unwrap();
        assert_eq!(bytes[..header::SLOT_BYTES], [0; header::SLOT_BYTES]);
        assert_eq!((header.log_start, header.log_start_crc), (0, 0));
        assert_eq!(header.catalog, TreeRoot::default());
        found.number(&format!("new.pages.{size}"), header.pages);
        if size == 4096 {
            found.number("new.checkpoint", header.checkpoint);
            found.number("new.version", header.version);
            found.number("new.log_page", header.log.first);
            found.number("new.log.bytes", header.log.length_bytes(size));
        }
    }
    let storage = MemoryStorage::new();
    let db = Aurora::builder().background(false);
    let db = db.open_storage(Arc::new(storage)).unwrap();
    found.number("page_size.default", db.stats().unwrap().page_size);
}

#[test]
fn the_constants_are_those_of_the_code() {
    let mut found = Found(Rows::new());
    measure_header(&mut found);
    measure_page(&mut found);
    measure_node(&mut found);
    measure_references(&mut found);
    measure_record(&mut found);
    measure_new_files(&mut found);
    compare(table("constants"), found.0);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_vectors_are_what_the_code_writes() {
    let mut found = Found(Rows::new());
    let check = format!("{:08x}", crc32c::crc32c(b"123456789"));
    found.text("crc32c of \"123456789\"", check);
    let sum = page::checksum(&[0; 4096], 7, SALT);
    let name = "checksum of page 7, 4096 zero bytes";
    found.text(name, format!("{sum:08x}"));

    let mut payload = Vec::new();
    let put = Operation::Put {
        tree: 1,
        key: b"k",
        value: b"value",
    };
    put.encode(&mut payload);
    let commit = RecordHeader {
        lsn: 64,
        version: 3,
        checkpoint: 2,
        durable: 64,
        kind: record::COMMIT,
        previous: 9,
        ..RecordHeader::default()
    };
    let mark = RecordHeader {
        version: 0,
        kind: record::MARK,
        flags: record::FLAG_CLEAN,
        ..commit
    };
    let mut bytes = Vec::new();
    record::encode(&mut bytes, &commit, &payload, SALT);
    let name = "commit record at position 64, previous 9, version 3, checkpoint 2, durable 64, \
                one put of \"k\" = \"value\" in tree 1";
    found.text(name, hex(&bytes));
    bytes.clear();
    record::encode(&mut bytes, &mark, b"", SALT);
    let name = "mark at position 64, previous 9, checkpoint 2, closed cleanly";
    found.text(name, hex(&bytes));

    let run = RunRef {
        first: 3,
        length_bytes: 70000,
        checksum: 5,
        birth: 6,
    };
    let name = "run at page 3, length 70000, checksum 5, birth 6";
    found.text(name, hex(&run.encode()));
    let root = TreeRoot {
        root: PageRef {
            page: 4,
            checksum: 5,
        },
        count: 6,
        level: 0,
    };
    let name = "catalog value of tree 1: page 4, checksum 5, level 0, count 6";
    found.text(name, hex(&catalog::encode(1, &root)));
    compare(table("vectors"), found.0);
}
