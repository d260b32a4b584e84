//! `summary`: what is in the file.

use aurora::anatomy::CollectionRecord;
use serde::Serialize;
use serde_json::{Value, json};

use crate::source::{Slot, SlotState};
use crate::survey::{Options, Silent, Survey, TreeSurvey, Use};
use crate::table::{Table, bytes, percent};
use crate::upper::{Trees, load_collections};
use crate::wal::Wal;
use crate::{Failure, Fault, Faults, Report, Source};

/// How the free pages lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FreeSpace {
    /// Free pages below the end of the checkpoint.
    pub pages: u64,
    /// Stretches of them.
    pub stretches: u64,
    /// Pages of the longest.
    pub longest: u64,
    /// Pages of the file behind the checkpoint.
    pub beyond: u64,
}

impl FreeSpace {
    /// Counts what a survey found.
    pub fn of(survey: &Survey) -> Self {
        let mut free = FreeSpace::default();
        let mut length = 0;
        for info in &survey.pages {
            match info.usage {
                Use::Free => {
                    length += 1;
                    free.pages += 1;
                    free.stretches += u64::from(length == 1);
                    free.longest = free.longest.max(length);
                }
                Use::Beyond => {
                    free.beyond += 1;
                    length = 0;
                }
                _ => length = 0,
            }
        }
        free
    }
}

/// Says what is in the file.
pub fn summary(source: &Source) -> Result<Report, Failure> {
    let slots = slot_table(source.slots());
    let slot_json: Vec<Value> = source.slots().iter().map(slot_json).collect();
    if source.chosen().is_none() {
        let faults = source.check_slots(true);
        let text = format!("no header slot is sound\n\n{slots}\n{}", faults.text());
        let json = json!({"slots": slot_json, "faults": faults.list()});
        return Report::new(text, json, true);
    }
    let header = source.header()?;
    let wal = Wal::read(source, false)?;
    let survey = Survey::take(source, Options { read_runs: false }, &Silent)?;
    let (collections, found) = load_collections(&Trees::new(source, &survey));
    let mut faults = source.check_slots(wal.is_clean);
    faults.append(wal.faults.clone());
    faults.append(survey.faults.clone());
    faults.append(found);
    let free = FreeSpace::of(&survey);
    let mut text = super::moment(source, Some(&wal));
    text += &format!(
        "format 1, pages of {} bytes, {} pages ({}), file of {}\n\n{slots}\n",
        header.page_size,
        header.pages,
        bytes(u64::from(header.pages) * u64::from(header.page_size)),
        bytes(source.length()),
    );
    text += &kinds(&survey, header.page_size);
    text += &trees(&survey);
    text += &collections_text(&collections, &survey);
    text += &space(&free, u64::from(header.pages), header.page_size);
    text += &wal_text(&wal, header.page_size);
    text += &largest(&survey);
    text += &hints(&survey, &free, u64::from(header.pages), &wal);
    text += &damage(&faults);
    let kinds = Use::ALL
        .iter()
        .map(|u| (u.name().to_string(), json!(survey.count(*u))));
    let collection_list: Vec<Value> = collections.iter().map(collection_json).collect();
    let json = json!({
        "format": aurora::anatomy::FORMAT_VERSION,
        "page_size": header.page_size,
        "checkpoint": header.checkpoint,
        "version": header.version,
        "pages": header.pages,
        "file_bytes": source.length(),
        "slots": slot_json,
        "pages_by_kind": Value::Object(kinds.collect()),
        "trees": survey.trees,
        "collections": collection_list,
        "free": free,
        "log": wal_json(&wal, header.page_size),
        "largest_values": survey.largest,
        "faults": faults.list(),
    });
    Report::new(text, json, !faults.is_healthy())
}

fn damage(faults: &Faults) -> String {
    match faults.damages() {
        0 => String::new(),
        count => format!("\ndamaged, {count} faults so far; `check` looks at everything\n"),
    }
}

fn slot_state(slot: &Slot) -> (&'static str, String) {
    match &slot.state {
        SlotState::Valid(header) => (
            "valid",
            format!(
                "checkpoint {}, version {}",
                header.checkpoint, header.version
            ),
        ),
        SlotState::Unwritten if slot.is_zero => ("unwritten", String::new()),
        SlotState::Unwritten => ("unknown", String::from("no mark of Aurora")),
        SlotState::Damaged(Fault { what, .. }) => ("damaged", what.clone()),
        SlotState::Newer(reason) => ("newer", reason.clone()),
        SlotState::Missing => ("missing", String::new()),
    }
}

fn slot_table(slots: &[Slot; 2]) -> String {
    let mut table = Table::new(&["slot", "offset", "state", "says"]);
    for slot in slots {
        let (state, says) = slot_state(slot);
        let (number, offset) = (slot.number.to_string(), slot.offset.to_string());
        table.row(vec![number, offset, state.to_string(), says]);
    }
    table.text()
}

fn slot_json(slot: &Slot) -> Value {
    let fields = slot.header().map(|header| {
        let fields = super::page::fields(header).into_iter();
        Value::Object(
            fields
                .map(|(name, value)| (name.to_string(), json!(value)))
                .collect(),
        )
    });
    json!({
        "slot": slot.number, "offset": slot.offset, "state": slot_state(slot).0, "fields": fields,
    })
}

fn kinds(survey: &Survey, page_size: u32) -> String {
    let mut table = Table::new(&["pages", "count", "bytes"]);
    for usage in Use::ALL {
        let count = survey.count(usage);
        if count > 0 {
            let size = bytes(count * u64::from(page_size));
            table.row(vec![usage.name().to_string(), count.to_string(), size]);
        }
    }
    table.text() + "\n"
}

fn trees(survey: &Survey) -> String {
    let mut table = Table::new(&[
        "tree", "number", "entries", "depth", "leaves", "branches", "runs", "fill", "keys",
        "values",
    ]);
    for tree in &survey.trees {
        table.row(vec![
            tree.name.clone(),
            tree.number.to_string(),
            tree.entries.to_string(),
            tree.depth.to_string(),
            tree.leaf_pages.to_string(),
            tree.branch_pages.to_string(),
            tree.runs.to_string(),
            format!("{:.0}%", tree.leaf_fill * 100.0),
            bytes(tree.key_bytes),
            bytes(tree.value_bytes),
        ]);
    }
    table.text() + "\n"
}

fn index_words(index: &aurora::anatomy::IndexRecord<'_>) -> String {
    let words = [
        (index.is_unique(), "unique"),
        (index.is_partial(), "partial"),
        (!index.is_ready(), "being built"),
    ];
    let words = words
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| word);
    words.collect::<Vec<_>>().join(", ")
}

fn collections_text(collections: &[CollectionRecord], survey: &Survey) -> String {
    let mut text = String::new();
    let entries = |name: &str| survey.tree_named(name).map_or(0, |tree| tree.entries_found);
    for collection in collections {
        text += &format!(
            "collection {:?}, number {}, {} documents, schema version {}{}",
            collection.name(),
            collection.number(),
            entries(collection.documents_tree()),
            collection.version(),
            if collection.is_strict() {
                ", strict"
            } else {
                ""
            },
        );
        if let Some((path, after_ms)) = collection.expires() {
            text += &format!(", expires {after_ms} ms after {path:?}");
        }
        text.push('\n');
        for (path, kind, asked) in collection.fields() {
            let line = format!("  field {path:?} {kind} {}", asked.join(", "));
            text += line.trim_end();
            text.push('\n');
        }
        for index in collection.indexes() {
            let (paths, words) = (index.paths().join(", "), index_words(&index));
            let line = format!(
                "  index {:?} on {paths}: {} entries {words}",
                index.name(),
                entries(index.tree())
            );
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn collection_json(collection: &CollectionRecord) -> Value {
    let fields = collection.fields().into_iter();
    let fields: Vec<Value> = fields
        .map(|(path, kind, asked)| json!({"path": path, "type": kind, "asked": asked}))
        .collect();
    let indexes: Vec<Value> = { collection.indexes() }
        .map(|index| {
            json!({
                "name": index.name(), "paths": index.paths(), "tree": index.tree(),
                "unique": index.is_unique(), "partial": index.is_partial(),
                "ready": index.is_ready(),
            })
        })
        .collect();
    json!({
        "name": collection.name(), "number": collection.number(),
        "version": collection.version(), "strict": collection.is_strict(),
        "documents_tree": collection.documents_tree(), "fields": fields, "indexes": indexes,
        "expires": collection.expires(),
    })
}

/// The free space in words.
pub(super) fn space(free: &FreeSpace, pages: u64, page_size: u32) -> String {
    format!(
        "free: {} of {pages} pages ({}, {}) in {} stretches, the longest of {} pages; {} pages behind the end\n",
        free.pages,
        percent(free.pages, pages),
        bytes(free.pages * u64::from(page_size)),
        free.stretches,
        free.longest,
        free.beyond,
    )
}

/// The log in words.
pub(super) fn wal_text(wal: &Wal, page_size: u32) -> String {
    let ring = u64::from(wal.ring_pages) * u64::from(page_size);
    let used = wal.end - wal.start;
    format!(
        "log: ring of {} from page {}, {} used ({}), {} transactions wait; replay stops at {}: {}\n",
        bytes(ring),
        wal.ring_page,
        bytes(used),
        percent(used, ring),
        wal.commits,
        wal.end,
        wal.stop,
    )
}

fn wal_json(wal: &Wal, page_size: u32) -> Value {
    json!({
        "ring_bytes": u64::from(wal.ring_pages) * u64::from(page_size),
        "start": wal.start, "end": wal.end, "transactions": wal.commits,
        "operations": wal.operations, "clean": wal.is_clean, "stop": wal.stop,
    })
}

fn largest(survey: &Survey) -> String {
    if survey.largest.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["largest value", "bytes", "page", "tree"]);
    for large in &survey.largest {
        table.row(vec![
            large.key.clone(),
            large.bytes.to_string(),
            large.page.to_string(),
            large.tree.clone(),
        ]);
    }
    format!("\n{}", table.text())
}

/// What would make the file smaller, or it faster.
fn hints(survey: &Survey, free: &FreeSpace, pages: u64, wal: &Wal) -> String {
    let mut text = String::new();
    if free.pages * 4 > pages {
        text += "hint: more than a quarter of the pages is free; compaction gives them back\n";
    }
    if wal.commits > 0 {
        text += "hint: the next checkpoint writes what waits in the log into the trees\n";
    }
    let is_sparse = |tree: &&TreeSurvey| tree.leaf_pages > 16 && tree.leaf_fill < 0.5;
    for tree in survey.trees.iter().filter(is_sparse) {
        text += &format!(
            "hint: the leaves of {:?} are less than half full\n",
            tree.name
        );
    }
    match text.is_empty() {
        true => text,
        false => format!("\n{text}"),
    }
}
