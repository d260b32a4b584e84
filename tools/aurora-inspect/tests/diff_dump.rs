//! `diff`, `dump` and `load`.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use aurora::Aurora;
use aurora::anatomy::Rebuild;
use aurora::storage::MemoryStorage;
use aurora_inspect::dump::{Counts, dump, load};
use aurora_inspect::entries::Database;
use aurora_inspect::{Failure, Report, commands};
use common::*;
use proptest::prelude::*;

fn database(bytes: &[u8]) -> Database {
    Database::of(source(bytes)).unwrap()
}

fn diff(a: &[u8], b: &[u8]) -> Report {
    commands::diff(&database(a), &database(b), 5).unwrap()
}

fn dumped(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    dump(&database(bytes), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn loaded(text: &str) -> Result<Vec<u8>, Failure> {
    let to = MemoryStorage::new();
    load(&mut text.as_bytes(), Arc::new(to.clone()), None)?;
    Ok(to.to_bytes())
}

fn rebuilt(trees: &Trees) -> Vec<u8> {
    let memory = MemoryStorage::new();
    let mut rebuild = Rebuild::create(Arc::new(memory.clone()), 4096, Some(7)).unwrap();
    for (name, entries) in trees {
        rebuild.create_tree(name).unwrap();
        for (key, value) in entries {
            rebuild.put(name, key, value).unwrap();
        }
    }
    rebuild.finish().unwrap();
    memory.to_bytes()
}

#[test]
fn a_file_is_the_same_as_itself_and_as_one_of_another_page_size() {
    let bytes = closed(4096, 2);
    let report = diff(&bytes, &bytes);
    assert!(!report.is_damaged, "{}", report.text);
    assert!(report.json["equal_subtrees"].as_u64().unwrap() > 5);
    let text = dumped(&bytes);
    let other = MemoryStorage::new();
    load(&mut text.as_bytes(), Arc::new(other.clone()), Some(16384)).unwrap();
    let report = diff(&bytes, &other.to_bytes());
    assert_eq!(report.json["same"], true, "{}", report.text);
    assert_eq!(report.json["equal_subtrees"], 0);
}

#[test]
fn differences_are_counted_and_named() {
    let before = trees(&closed(4096, 2));
    let mut after = before.clone();
    let numbers = after.get_mut("numbers").unwrap();
    numbers.remove(&b"key/000007"[..]);
    numbers.insert(b"key/000008".to_vec(), b"another".to_vec());
    // The same length, and another byte.
    numbers.insert(b"key/000009".to_vec(), b"Value 9".to_vec());
    numbers.insert(b"new".to_vec(), vec![1; 5000]);
    after.remove("empty");
    after.insert("more".into(), BTreeMap::from([(Vec::new(), vec![0xff])]));
    let long = after.get_mut("long").unwrap();
    long.get_mut(&b"3"[..]).unwrap()[12_345] ^= 1;
    let report = diff(&rebuilt(&before), &rebuilt(&after));
    assert!(report.is_damaged);
    assert_eq!(report.json["differences"], 6);
    let counts: Vec<_> = { report.json["trees"].as_array().unwrap().iter() }
        .map(|tree| {
            let number = |what: &str| tree[what].as_u64().unwrap();
            let name = tree["tree"].as_str().unwrap().to_string();
            let within = tree["within"].as_str().unwrap().to_string();
            (
                name,
                within,
                number("only_in_a"),
                number("only_in_b"),
                number("changed"),
            )
        })
        .collect();
    let expected = [
        ("empty", "a", 0, 0, 0),
        ("long", "both", 0, 0, 1),
        ("more", "b", 0, 1, 0),
        ("numbers", "both", 1, 1, 2),
    ];
    let expected = expected.map(|(n, w, a, b, c)| (n.to_string(), w.to_string(), a, b, c));
    assert_eq!(counts, expected);
    let keys = report.json["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 5, "the limit");
    assert_eq!(keys[3]["key"], "\"key/000008\"");
    assert_eq!(
        (&keys[3]["bytes_in_a"], &keys[3]["bytes_in_b"]),
        (&7.into(), &7.into())
    );
    assert!(
        report.text.contains("... and 1 more keys"),
        "{}",
        report.text
    );
    let back = diff(&rebuilt(&after), &rebuilt(&before));
    assert_eq!(back.json["trees"][3]["only_in_b"], 1);
}

#[test]
fn what_is_common_to_two_states_of_a_file_is_not_read() {
    let memory = MemoryStorage::new();
    let db = Aurora::builder().background(false).salt(1);
    let db = db.open_storage(Arc::new(memory.clone())).unwrap();
    fill(&db, 20);
    db.checkpoint().unwrap();
    let before = memory.to_bytes();
    // Of the same length, so that its leaf stays one leaf.
    let numbers = db.tree("numbers").unwrap();
    let mut value = numbers.get("key/001234").unwrap().unwrap().to_vec();
    value.fill(b'x');
    numbers.put("key/001234", value).unwrap();
    db.checkpoint().unwrap();
    let after = memory.to_bytes();
    let report = diff(&before, &after);
    assert_eq!(report.json["differences"], 1, "{}", report.text);
    assert!(report.json["equal_subtrees"].as_u64().unwrap() > 20);
    // A damaged page that both have makes no difference; one that differs cannot be passed over.
    let mut damaged = after.clone();
    let leaves = pages_of(&after, "numbers", "leaf");
    let outcomes: Vec<bool> = { leaves.iter() }
        .map(|leaf| {
            let at = *leaf as usize * 4096 + 1000;
            damaged[at] ^= 1;
            let result = commands::diff(&database(&before), &database(&damaged), 5);
            damaged[at] ^= 1;
            result.is_err()
        })
        .collect();
    assert_eq!(outcomes.iter().filter(|failed| **failed).count(), 1);
}

#[test]
fn commits_in_the_log_count() {
    let bytes = in_use(4096);
    let text = dumped(&bytes);
    assert!(text.contains(": late\\204 x\n"));
    let report = diff(&bytes, &loaded(&text).unwrap());
    assert_eq!(report.json["same"], true, "{}", report.text);
}

#[test]
fn a_dump_brings_everything_back() {
    let memory = MemoryStorage::new();
    let db = Aurora::builder().background(false);
    let db = db.open_storage(Arc::new(memory.clone())).unwrap();
    fill(&db, 2);
    db.put_blob_from("blob", &vec![9; 700_000][..]).unwrap();
    db.close().unwrap();
    let bytes = memory.to_bytes();
    let text = dumped(&bytes);
    let made = loaded(&text).unwrap();
    assert_eq!(diff(&bytes, &made).json["same"], true);
    assert!(!check(&made).is_damaged);
    assert_eq!(dumped(&made), text);
    // Lines stay short, whatever the values.
    assert!(text.lines().map(str::len).max().unwrap() < 64 << 10);
    let db = Aurora::builder().background(false);
    let db = db.open_storage(memory_of(&made)).unwrap();
    assert_eq!(db.collection("people").unwrap().len().unwrap(), 60);
    assert_eq!(db.blob_info("blob").unwrap().unwrap().size, 700_000);
    db.check().unwrap();
}

fn memory_of(bytes: &[u8]) -> Arc<MemoryStorage> {
    memory(bytes)
}

#[test]
fn the_form_is_the_documented_one() {
    let trees = Trees::from([
        ("a b".to_string(), BTreeMap::from([(vec![], vec![])])),
        (
            "t".to_string(),
            BTreeMap::from([
                (b"-".to_vec(), b"back\\slash".to_vec()),
                (b"key".to_vec(), "ü\n".as_bytes().to_vec()),
            ]),
        ),
    ]);
    let text = dumped(&rebuilt(&trees));
    let body = "aurora-dump 1\npage-size 4096\ntree a\\20b\n: - -\ntree t\n: \\2d back\\5cslash\n\
                : key \\c3\\bc\\0a\n";
    let checksum = aurora::anatomy::crc32c(0, body.as_bytes());
    assert_eq!(text, format!("{body}end 2 3 {checksum:08x}\n"));
}

/// A dump of these lines, with a last line that is right.
fn dump_of(lines: &str, trees: u64, entries: u64) -> String {
    let body = format!("aurora-dump 1\npage-size 4096\n{lines}");
    let checksum = aurora::anatomy::crc32c(0, body.as_bytes());
    format!("{body}end {trees} {entries} {checksum:08x}\n")
}

#[test]
fn bad_lines_are_told_with_their_numbers() {
    assert!(loaded(&dump_of("tree t\n: a b\n+ c\n", 1, 1)).is_ok());
    let long = format!("tree t\n: {} b\n", "k".repeat(1025));
    let huge = format!("tree t\n: {} b\n", "k".repeat(2 << 20));
    for (lines, number, what) in [
        (": a b\n", 3, "has to follow its `tree`"),
        ("tree t\n: a\n", 4, "a key and a value"),
        ("tree t\n: a \\2\n", 4, "two hexadecimal digits"),
        ("tree t\n: a \\zz\n", 4, "two hexadecimal digits"),
        ("tree t\n: a b c\n", 4, "has to be escaped"),
        ("tree t\n: a \u{1}\n", 4, "has to be escaped"),
        ("tree t\n: a \n", 4, "bytes are missing"),
        ("tree t\n: a b\n: a c\n", 5, "the key \"a\" is there twice"),
        ("tree t\ntree t\n", 4, "the tree \"t\" is there twice"),
        ("tree \\ff\n", 3, "UTF-8"),
        ("tree -\n", 3, "empty"),
        ("tree t\n+ a\n", 4, "no value that it could go on"),
        ("tree t\nwhat is this\n", 4, "it has to begin with"),
        ("\n", 3, "it has to begin with"),
        (&long, 4, "1024"),
        (&huge, 4, "longer than"),
    ] {
        let Failure(error) = loaded(&dump_of(lines, 1, 1)).unwrap_err();
        assert!(error.starts_with(&format!("line {number}: ")), "{error}");
        assert!(error.contains(what), "{error}");
    }
    let Failure(error) = loaded("aurora-dump 2\n").unwrap_err();
    assert!(error.contains("version 2"), "{error}");
    assert!(loaded("").unwrap_err().0.contains("line 1"));
    assert!(loaded("aurora-dump 1\npage-size 5000\n").is_err());
}

#[test]
fn every_cut_and_every_changed_byte_is_refused() {
    let trees = Trees::from([(
        "t".to_string(),
        BTreeMap::from([(b"k".to_vec(), vec![5; 30])]),
    )]);
    let text = dumped(&rebuilt(&trees));
    for cut in 0..text.len() {
        assert!(loaded(&text[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(loaded(&changed).is_err(), "changed at {at}");
        }
    }
    assert!(loaded(&format!("{text}\n")).is_err());
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 1300..1400_usize).prop_map(|(byte, length)| vec![byte; length]),
        (any::<u8>(), 16_380..60_000_usize).prop_map(|(byte, length)| {
            (0..length).map(|i| byte.wrapping_add(i as u8)).collect()
        }),
    ]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"-".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
        (any::<u8>(), 1000..=1024_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_dumped_is_loaded(trees in prop::collection::btree_map(
        "[a-z \\\\\u{e4}\n-]{1,8}",
        prop::collection::btree_map(key(), value(), 0..12),
        0..4,
    )) {
        let bytes = rebuilt(&trees);
        let text = dumped(&bytes);
        let made = loaded(&text).unwrap();
        prop_assert_eq!(common::trees(&made), trees);
        prop_assert_eq!(&diff(&bytes, &made).json["same"], true);
    }
}

#[test]
fn the_commands_exit_as_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("a.db"), closed(4096, 1)).unwrap();
    let call = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_aurora-inspect"));
        let output = command.args(arguments).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (status, text) = call(&["dump", &path("a.db")]);
    assert_eq!(status, 0);
    assert_eq!(
        call(&["dump", &path("a.db"), "--output", &path("a.txt")]).0,
        0
    );
    assert_eq!(std::fs::read_to_string(path("a.txt")).unwrap(), text);
    assert_eq!(
        call(&["dump", &path("a.db"), "--output", &path("a.txt")]).0,
        2
    );
    assert_eq!(call(&["load", &path("a.txt"), &path("b.db")]).0, 0);
    assert_eq!(call(&["load", &path("a.txt"), &path("b.db")]).0, 2);
    assert_eq!(
        call(&["diff", &path("a.db"), &path("b.db")]),
        (0, "the same\n".to_string())
    );
    let db = Aurora::open(path("b.db")).unwrap();
    db.tree("numbers").unwrap().put("another", "one").unwrap();
    db.close().unwrap();
    let (status, text) = call(&["--json", "diff", &path("a.db"), &path("b.db")]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = json["keys"].as_array().unwrap();
    assert!(
        status == 1 && keys.iter().any(|key| key["key"] == "\"another\""),
        "{text}"
    );
    assert_eq!(call(&["diff", &path("a.db"), &path("none.db")]).0, 2);
    // What does not fit together is not put in place.
    let broken = without_an_entry(&std::fs::read_to_string(path("a.txt")).unwrap());
    std::fs::write(path("c.txt"), broken).unwrap();
    assert_eq!(call(&["load", &path("c.txt"), &path("c.db")]).0, 2);
    let names: Vec<_> = { std::fs::read_dir(directory.path()).unwrap() }
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial") || name == "c.db")
        .collect();
    assert_eq!(names, Vec::<String>::new());
}

/// The same without the first entry of the index of what expires.
fn without_an_entry(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let tree = lines
        .iter()
        .position(|line| *line == "tree aurora/expiry")
        .unwrap();
    lines.remove(tree + 1);
    let end = lines.pop().unwrap();
    let body = lines.join("\n") + "\n";
    let mut words = end.split(' ').skip(1);
    let trees = words.next().unwrap();
    let entries: u64 = words.next().unwrap().parse().unwrap();
    let checksum = aurora::anatomy::crc32c(0, body.as_bytes());
    format!("{body}end {trees} {} {checksum:08x}\n", entries - 1)
}

#[test]
fn counts() {
    let mut out = Vec::new();
    let counted = dump(&database(&in_use(4096)), &mut out).unwrap();
    let lines = String::from_utf8(out).unwrap();
    let count = |start: &str| lines.lines().filter(|line| line.starts_with(start)).count() as u64;
    assert_eq!(
        counted,
        Counts {
            trees: count("tree "),
            entries: count(": "),
        }
    );
}
