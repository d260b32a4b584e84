//! The program as it is called: what it prints, and its exit status.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use serde_json::Value as Json;

struct Called {
    status: i32,
    out: String,
    err: String,
}

fn call(arguments: &[&str]) -> Called {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-inspect"));
    let output = command.args(arguments).output().unwrap();
    Called {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn json(arguments: &[&str]) -> (i32, Json) {
    let called = call(&[&["--json"], arguments].concat());
    let json = serde_json::from_str(&called.out);
    (
        called.status,
        json.unwrap_or_else(|_| panic!("{}{}", called.out, called.err)),
    )
}

fn file(directory: &Path, bytes: &[u8]) -> String {
    let path: PathBuf = directory.join("file.db");
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn exit_status_tells_health_damage_and_failure() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = closed(4096, 1);
    let path = file(directory.path(), &bytes);
    let healthy = call(&["check", &path]);
    assert_eq!((healthy.status, healthy.err.as_str()), (0, ""));
    assert!(healthy.out.ends_with("healthy\n"));
    let leaf = pages_of(&bytes, "numbers", "leaf")[0];
    bytes[leaf as usize * 4096 + 1000] ^= 1;
    file(directory.path(), &bytes);
    let damaged = call(&["check", &path]);
    assert_eq!(damaged.status, 1);
    assert!(
        damaged
            .out
            .contains(&format!("page {leaf}, offset {}", leaf * 4096)),
        "{}",
        damaged.out
    );
    for arguments in [
        vec!["check", "/no/such/file"],
        vec!["nonsense"],
        vec!["page", &path, "9999"],
    ] {
        let failed = call(&arguments);
        assert_eq!(
            (failed.status, failed.out.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(!failed.err.is_empty());
    }
    std::fs::write(&path, "no database").unwrap();
    assert_eq!(call(&["check", &path]).status, 2);
    assert_eq!(call(&["--help"]).status, 0);
}

#[test]
fn a_file_that_is_open_is_looked_at_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("open.db");
    let db = aurora::Aurora::builder()
        .background(false)
        .open(&path)
        .unwrap();
    fill(&db, 1);
    let before = std::fs::read(&path).unwrap();
    let name = path.to_str().unwrap();
    for arguments in [
        vec!["check", name],
        vec!["summary", name],
        vec!["wal", name],
    ] {
        let called = call(&arguments);
        assert_eq!(called.status, 0, "{}{}", called.out, called.err);
        assert!(
            called.out.contains("later transactions wait in the log"),
            "{}",
            called.out
        );
    }
    assert!(
        before == std::fs::read(&path).unwrap(),
        "nothing was written"
    );
    // Nor is the lock in the way of the one who has it.
    db.checkpoint().unwrap();
    assert_eq!(json(&["check", name]).1["waiting_transactions"], 0);
}

#[test]
fn summary_lists_what_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &closed(4096, 1));
    let (status, summary) = json(&["summary", &path]);
    assert_eq!((status, &summary["page_size"]), (0, &4096.into()));
    let trees = summary["trees"].as_array().unwrap();
    let numbers = trees.iter().find(|tree| tree["name"] == "numbers").unwrap();
    assert_eq!(
        (&numbers["entries"], &numbers["entries_found"]),
        (&200.into(), &200.into())
    );
    assert_eq!(summary["collections"][0]["name"], "people");
    assert_eq!(
        summary["collections"][0]["indexes"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(summary["largest_values"][0]["bytes"], 30_000);
    let kinds = summary["pages_by_kind"].as_object().unwrap();
    let sum: u64 = kinds.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum * 4096, summary["file_bytes"].as_u64().unwrap());
    assert_eq!(kinds["unknown"], 0);
    let text = call(&["summary", &path]).out;
    for part in [
        "header",
        "numbers",
        "collection \"people\"",
        "index \"old\"",
        "free:",
        "log:",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn pages_are_shown_decoded_and_raw() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = closed(4096, 1);
    let path = file(directory.path(), &bytes);
    let leaf = pages_of(&bytes, "numbers", "leaf")[0].to_string();
    let (status, page) = json(&["page", &path, &leaf]);
    assert_eq!(
        (status, &page["tree"], &page["use"]),
        (0, &"numbers".into(), &"leaf".into())
    );
    let cells = page["cells"].as_array().unwrap();
    assert_eq!(cells[0]["shown_key"], "\"key/000000\"");
    assert_eq!(cells[0]["shown_value"], "\"value 0\"");
    assert_eq!(page["header"]["count"], cells.len());
    let raw = call(&["page", &path, &leaf, "--hex"]);
    assert_eq!(raw.out.lines().count(), 256);
    let documents = pages_of(&bytes, "aurora/documents/1", "leaf")[0].to_string();
    assert!(
        call(&["page", &path, &documents, "--full"])
            .out
            .contains("\"person 0\"")
    );
    let (_, slot) = json(&["page", &path, "1"]);
    assert_eq!(slot["fields"]["page_size"], 4096);
    let (_, list) = json(&["pages", &path, "--kind", "leaf", "--tree", "numbers"]);
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .all(|line| line["entries"].as_u64().unwrap() > 0)
    );
    assert_eq!(call(&["pages", &path, "--kind", "nonsense"]).status, 2);
    assert_eq!(call(&["pages", &path, "--tree", "nonsense"]).status, 2);
    for number in 0..bytes.len() / 4096 {
        assert_eq!(call(&["page", &path, &number.to_string()]).status, 0);
    }
}

#[test]
fn trees_and_ways_to_keys_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &closed(4096, 8));
    let svg = directory.path().join("tree.svg");
    let svg_name = svg.to_str().unwrap();
    let (status, tree) = json(&["tree", &path, "numbers", "--svg", svg_name]);
    assert_eq!(
        (status, &tree["entries"], &tree["depth"]),
        (0, &1600.into(), &2.into())
    );
    let levels = tree["levels"].as_array().unwrap();
    assert_eq!(levels[1]["slots"], levels[0]["pages"]);
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert_eq!(
        picture.matches("<rect x=").count(),
        tree["page_list"].as_array().unwrap().len()
    );
    assert_eq!(call(&["tree", &path, "nonsense"]).status, 2);
    assert_eq!(call(&["tree", &path, "numbers", "--svg", &path]).status, 2);
    let (status, way) = json(&["path", &path, "numbers", "key/000777"]);
    assert_eq!((status, &way["found"]), (0, &true.into()));
    assert_eq!(way["value"], aurora_inspect::show::hex(b"value 777"));
    let steps = way["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3, "catalog, branch, leaf");
    let by_hex = format!("0x{}", aurora_inspect::show::hex(b"key/000777"));
    assert_eq!(
        json(&["path", &path, "numbers", &by_hex]).1["value"],
        way["value"]
    );
    let (status, way) = json(&["path", &path, "numbers", "nothing"]);
    assert_eq!((status, &way["found"]), (0, &false.into()));
}

#[test]
fn the_log_is_listed_with_its_changes() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = in_use(4096);
    let path = file(directory.path(), &bytes);
    let (status, wal) = json(&["wal", &path, "--changes"]);
    assert_eq!(
        (status, &wal["commits"], &wal["operations"]),
        (0, &5.into(), &5.into())
    );
    let records = wal["records"].as_array().unwrap();
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["commit", "commit", "commit", "commit", "commit", "mark"]
    );
    assert!(
        records[2]["changes"][0]
            .as_str()
            .unwrap()
            .contains("\"late 2\" = \"x\"")
    );
    assert_eq!(wal["stop"], "a mark: everything before it was acknowledged");
    bytes[records[2]["offset"].as_u64().unwrap() as usize + 57] ^= 1;
    file(directory.path(), &bytes);
    let (status, wal) = json(&["wal", &path]);
    assert_eq!((status, &wal["commits"]), (1, &2.into()));
    assert_eq!(wal["stop"], "a record with a wrong checksum");
}

#[test]
fn space_documents_and_the_map_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = closed(4096, 1);
    let path = file(directory.path(), &bytes);
    let (status, space) = json(&["space", &path]);
    assert_eq!(
        (status, &space["used_by_map"]),
        (0, &space["used_by_survey"])
    );
    let id = trees(&bytes)["aurora/documents/1"]
        .keys()
        .next()
        .unwrap()
        .clone();
    let id = aurora::anatomy::decode_id(&id).unwrap().to_string();
    let called = call(&["document", &path, "people", &id]);
    assert_eq!(called.status, 0, "{}", called.err);
    assert!(
        called.out.contains("index \"name\"") && called.out.contains(": there"),
        "{}",
        called.out
    );
    assert_eq!(call(&["document", &path, "people", "nobody"]).status, 2);
    assert_eq!(call(&["document", &path, "nothing", "1"]).status, 2);
    assert_eq!(call(&["blob", &path, "session 1"]).status, 2);
    let html = directory.path().join("map.html");
    let (status, map) = json(&["map", &path, html.to_str().unwrap()]);
    assert_eq!((status, &map["pages"]), (0, &(bytes.len() / 4096).into()));
    let html = std::fs::read_to_string(&html).unwrap();
    assert!(html.contains("aurora/documents/1") && !html.contains("http://"));
}

/// The name that it has until it is complete was longer, and too long for the system.
#[cfg(unix)]
#[test]
fn what_is_salvaged_may_have_the_longest_name_that_there_is() {
    let bytes = closed(4096, 2);
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &bytes);
    let new = directory.path().join("n".repeat(252) + ".db");
    let called = call(&["salvage", &path, new.to_str().unwrap()]);
    assert_eq!(called.status, 0, "{}", called.err);
    assert_eq!(call(&["check", new.to_str().unwrap()]).status, 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

/// The log of a file whose end was cut off is gone, and with it what nobody knows.
#[test]
fn salvage_tells_that_the_log_is_behind_the_end() {
    let memory = aurora::storage::MemoryStorage::new();
    let db = aurora::Aurora::builder()
        .background(false)
        .log_limit(1 << 20)
        .open_storage(std::sync::Arc::new(memory.clone()))
        .unwrap();
    let many = (0..4000u32).map(|n| (n.to_be_bytes(), [7; 200]));
    db.write(|tx| tx.tree("t")?.put_many(many).map(drop))
        .unwrap();
    for n in 0..5u32 {
        db.write(|tx| {
            tx.tree("t")?
                .put((9000 + n).to_be_bytes(), b"late")
                .map(drop)
        })
        .unwrap();
    }
    let bytes = memory.to_bytes();
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &bytes);
    let (_, log) = json(&["wal", &path]);
    let page = |name: &str| log[name].as_u64().unwrap() as usize;
    let ring = page("ring_page").max(page("next_ring_page"));
    assert!(
        log["commits"] == 5 && ring * 4096 > bytes.len() / 2,
        "{log}"
    );
    let path = file(directory.path(), &bytes[..ring * 4096]);
    let new = directory.path().join("new.db");
    let (status, salvaged) = json(&["salvage", &path, new.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(
        salvaged["losses"]["lost_count"].as_u64() > Some(0),
        "{salvaged}"
    );
    assert!(
        salvaged.to_string().contains("behind the end of the file"),
        "{salvaged}"
    );
    // A file that was closed has nothing in its log.
    db.close().unwrap();
    let path = file(directory.path(), &memory.to_bytes());
    let new = directory.path().join("whole.db");
    assert_eq!(json(&["salvage", &path, new.to_str().unwrap()]).0, 0);
}

#[test]
fn the_older_checkpoint_of_a_healthy_file_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &closed(4096, 1));
    for slot in ["0", "1"] {
        let called = call(&["check", &path, "--slot", slot]);
        assert_eq!(called.status, 0, "{slot}: {}{}", called.out, called.err);
    }
    for command in ["dump", "diff", "salvage"] {
        let new = directory.path().join("new");
        let mut arguments = vec![command, &path, "--slot", "0"];
        if command != "dump" {
            arguments.push(new.to_str().unwrap());
        }
        let called = call(&arguments);
        assert_eq!(called.status, 2, "{command}");
        assert!(called.err.contains("--slot"), "{}", called.err);
    }
}

#[test]
fn no_picture_replaces_a_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &closed(4096, 1));
    let other = directory.path().join("other.db");
    let name = other.to_str().unwrap();
    let mut bytes = closed(8192, 1);
    for damaged in [false, true] {
        if damaged {
            bytes[..200].fill(0); // one slot is enough to tell
        }
        std::fs::write(&other, &bytes).unwrap();
        assert_eq!(call(&["map", &path, name]).status, 2);
        assert_eq!(call(&["tree", &path, "numbers", "--svg", name]).status, 2);
        assert!(std::fs::read(&other).unwrap() == bytes);
    }
    // One that only a newer program can read.
    let mut newer = Surgeon::new(closed(4096, 1));
    for slot in 0..2 {
        newer.slot(slot, |page| page[8] = 99);
    }
    std::fs::write(&other, &newer.bytes).unwrap();
    assert!(call(&["check", name]).err.contains("newer"));
    assert_eq!(call(&["map", &path, name]).status, 2);
    assert!(std::fs::read(&other).unwrap() == newer.bytes);
    std::fs::write(&other, "an older picture").unwrap();
    assert_eq!(call(&["map", &path, name]).status, 0);
}

/// Whoever reads may have seen enough, and nobody may be there to be told what went wrong.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &closed(4096, 20));
    let closed_pipe = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for arguments in [
        vec!["dump", &path],
        vec!["summary", &path],
        vec!["check", &path, "--json"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-inspect"));
        let output = command.args(&arguments).stdout(closed_pipe());
        let output = output.stderr(std::process::Stdio::piped()).output();
        let output = output.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), err.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-inspect"));
    let status = command
        .args(["check", "no such file"])
        .stderr(closed_pipe());
    assert_eq!(status.status().unwrap().code(), Some(2));
}

/// What is made of a private file is private, too.
#[cfg(unix)]
#[test]
fn what_is_made_of_a_private_file_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &closed(4096, 1));
    let name = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let allow = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // What a new file allows if nothing is said.
    std::fs::write(name("plain"), "").unwrap();
    let plain = mode(&name("plain"));
    for (i, (allowed, expected)) in [(0o600, 0o600), (0o400, 0o600), (0o777, plain)]
        .into_iter()
        .enumerate()
    {
        allow(allowed);
        let [text, again, saved] = ["txt", "db", "saved"].map(|kind| name(&format!("{i}.{kind}")));
        assert_eq!(call(&["dump", &path, "--output", &text]).status, 0);
        assert_eq!(call(&["load", &text, &again]).status, 0);
        assert_eq!(call(&["salvage", &path, &saved]).status, 0);
        assert_eq!([text, again, saved].map(|made| mode(&made)), [expected; 3]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &closed(4096, 1));
    for arguments in [vec!["summary", &path], vec!["check", &path, "--json"]] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-inspect"));
        let status = command.args(&arguments).stdout(full).status().unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn names_and_keys_are_only_text() {
    let memory = aurora::storage::MemoryStorage::new();
    let db = aurora::Aurora::builder()
        .background(false)
        .open_storage(std::sync::Arc::new(memory.clone()))
        .unwrap();
    let name = "a\u{1b}[2Jb\nc\u{202e}d";
    db.write(|tx| tx.tree(name)?.put("k", "v").map(drop))
        .unwrap();
    db.write(|tx| tx.tree("(catalog)")?.put("k", "v").map(drop))
        .unwrap();
    db.close().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &memory.to_bytes());
    let summary = call(&["summary", &path]);
    assert!(
        !summary.out.contains(['\u{1b}', '\u{202e}']),
        "{:?}",
        summary.out
    );
    assert!(
        summary.out.contains(r"a\u{1b}[2Jb\u{a}c\u{202e}d"),
        "{}",
        summary.out
    );
    // A tree of that name is the user's.
    let (_, tree) = json(&["tree", &path, "(catalog)"]);
    assert_eq!(tree["entries"], 1, "{tree}");
    assert_eq!(call(&["path", &path, "(catalog)", "0x+f"]).status, 2);
    let negative = call(&["path", &path, "(catalog)", "-x"]);
    assert!(
        !negative.err.contains("unexpected argument"),
        "{}",
        negative.err
    );
}

/// What is half written is no damage.
#[test]
fn a_file_that_somebody_writes_to_is_not_called_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busy.db");
    let db = aurora::Aurora::builder()
        .log_limit(256 << 10)
        .open(&path)
        .unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let is_going = || !is_over.load(std::sync::atomic::Ordering::Relaxed);
    let all = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..u64::MAX).take_while(|_| is_going()) {
                let put = |tx: &mut aurora::WriteTransaction| {
                    let mut tree = tx.tree("t")?;
                    (0..20).try_for_each(|i| {
                        tree.put((n * 7919 % 5000 + i).to_be_bytes(), [n as u8; 300])
                            .map(drop)
                    })
                };
                db.write(put).unwrap();
            }
        });
        let commands = ["check", "wal", "summary", "dump"].repeat(6);
        let all = commands
            .into_iter()
            .map(|command| call(&[command, path.to_str().unwrap()]));
        let all: Vec<_> = all.collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        all
    });
    for called in all {
        let (out, err) = (&called.out, &called.err);
        assert_ne!(called.status, 1, "{out}{err}");
        let is_told =
            ["somebody is writing to it", "open elsewhere"].map(|what| err.contains(what));
        assert!(called.status == 0 || is_told.contains(&true), "{err}");
    }
    let called = call(&["check", path.to_str().unwrap()]);
    assert_eq!(called.status, 0, "{}{}", called.out, called.err);
}
