//! `page N`: what is in a page.

use aurora::anatomy::{
    self, BRANCH, Cell, Header, LEAF, Node, PageHeader, SPACE_BITMAP, SPACE_INDEX, UNIFORM_LEAF,
};
use serde_json::{Value, json};

use crate::source::{Slot, SlotState};
use crate::survey::{Options, Silent, Survey, Use};
use crate::table::Table;
use crate::{Failure, Report, Source, show};

/// How a page is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct PageOptions {
    /// Its bytes, and nothing else.
    pub hex: bool,
    /// Keys and values as they are, not cut.
    pub full: bool,
}

/// Shows a page.
pub fn page(source: &Source, number: u32, options: PageOptions) -> Result<Report, Failure> {
    let bytes = source.raw(number).map_err(|fault| Failure(fault.line()))?;
    let offset = u64::from(number) * u64::from(source.page_size());
    if options.hex {
        let text = dump(&bytes, offset);
        let json = json!({"page": number, "offset": offset, "bytes": show::hex(&bytes)});
        return Report::new(text, json, false);
    }
    let survey = match source.chosen() {
        Some(_) => Some(Survey::take(source, Options { read_runs: false }, &Silent)?),
        None => None,
    };
    let info = survey.as_ref().and_then(|s| s.pages.get(number as usize));
    let usage = info.map_or(Use::Unknown, |info| info.usage);
    let tree = match (&survey, info) {
        (Some(survey), Some(info)) => survey.tree_of(info).to_string(),
        _ => String::new(),
    };
    let mut text = format!("page {number}, offset {offset}, {}", usage.name());
    if !tree.is_empty() {
        text += &format!(" of tree {tree:?}");
    }
    text.push('\n');
    let mut json = json!({
        "page": number, "offset": offset, "use": usage.name(),
        "tree": (!tree.is_empty()).then_some(&tree),
    });
    let mut is_damaged = false;
    if let Some(slot) = source
        .slots()
        .iter()
        .find(|s| u64::from(s.number) == u64::from(number))
    {
        text += &slot_text(slot, &mut json);
        is_damaged = matches!(slot.state, SlotState::Damaged(_));
    } else if usage == Use::Log || usage == Use::Run {
        text += &dump(bytes.get(..256).unwrap_or(&bytes), offset);
        text += "... `--hex` shows all of it\n";
    } else {
        // What is left in a page that nothing uses means nothing.
        let is_unused = matches!(usage, Use::Free | Use::Beyond);
        let is_broken = describe(source, number, &bytes, &tree, options, &mut text, &mut json);
        is_damaged = is_broken && !is_unused;
    }
    if let Some(survey) = &survey {
        let faults = survey.faults.list().iter();
        let own: Vec<_> = faults.filter(|fault| fault.page == Some(number)).collect();
        is_damaged |= own.iter().any(|f| f.severity == crate::Severity::Damage);
        for fault in &own {
            text += &fault.line();
            text.push('\n');
        }
        set(&mut json, "faults", json!(own));
    }
    Report::new(text, json, is_damaged)
}

fn set(json: &mut Value, name: &str, value: Value) {
    if let Some(object) = json.as_object_mut() {
        object.insert(name.to_string(), value);
    }
}

fn describe(
    source: &Source,
    number: u32,
    bytes: &[u8],
    tree: &str,
    options: PageOptions,
    text: &mut String,
    json: &mut Value,
) -> bool {
    let header = PageHeader::decode(bytes);
    let computed = anatomy::checksum(bytes, number, source.salt());
    let is_sealed = computed == header.checksum && header.page == number;
    let kind = kind_name(header.kind);
    *text += &format!(
        "kind {kind}, level {}, {} slots, birth {}, checksum {:#010x} ({})\n",
        header.level,
        header.count,
        header.birth,
        header.checksum,
        match is_sealed {
            true => String::from("right"),
            false => format!("wrong: {computed:#010x}; its number is {}", header.page),
        }
    );
    *text += &format!(
        "cells from {}, prefix {} bytes, garbage {} bytes, appends {:#06x}, lengths {}{}\n",
        header.cells_start,
        header.prefix,
        header.garbage,
        header.appends,
        header.lengths,
        match header.kind {
            UNIFORM_LEAF => format!(", suffixes of {} bytes", header.suffix),
            _ => String::new(),
        }
    );
    set(
        json,
        "header",
        json!({
            "checksum": header.checksum, "computed_checksum": computed, "page": header.page,
            "birth": header.birth, "kind": kind, "level": header.level, "count": header.count,
            "cells_start": header.cells_start, "prefix": header.prefix,
            "garbage": header.garbage, "suffix": header.suffix, "appends": header.appends, "lengths": header.lengths,
        }),
    );
    match header.kind {
        LEAF | BRANCH | UNIFORM_LEAF => {}
        SPACE_INDEX => {
            index(&header, bytes, source, text, json);
            return false;
        }
        SPACE_BITMAP => {
            let body = bytes.get(anatomy::PAGE_HEADER_BYTES..).unwrap_or_default();
            let used: u32 = body.iter().map(|byte| byte.count_ones()).sum();
            *text += &format!("{used} pages are marked as used\n");
            set(json, "used", json!(used));
            return false;
        }
        _ => {
            *text += "no tree node and no page of the space map; `--hex` shows it\n";
            return false;
        }
    }
    match Node::read(bytes, number) {
        Ok(node) => {
            cells(&node, tree, options, text, json);
            false
        }
        Err(flaw) => {
            *text += &source.fault("page", number, flaw).line();
            text.push('\n');
            true
        }
    }
}

fn kind_name(kind: u8) -> String {
    match kind {
        LEAF => "leaf".to_string(),
        UNIFORM_LEAF => "uniform leaf".to_string(),
        BRANCH => "branch".to_string(),
        SPACE_BITMAP => "bitmap".to_string(),
        SPACE_INDEX => "index".to_string(),
        other => format!("{other}, unknown"),
    }
}

fn cells(node: &Node<'_>, tree: &str, options: PageOptions, text: &mut String, json: &mut Value) {
    let limit = if options.full {
        usize::MAX
    } else {
        show::BRIEF_BYTES
    };
    if !node.prefix().is_empty() {
        *text += &format!("prefix {}\n", show::brief(node.prefix(), limit));
    }
    let mut table = match node.is_branch() {
        true => Table::new(&[
            "slot",
            "offset",
            "from key",
            "child",
            "checksum",
            "entries below",
        ]),
        false => Table::new(&["slot", "offset", "key", "length", "value"]),
    };
    // Separators of a branch are parts of keys: they are shown as bytes.
    let key_tree = if node.is_branch() { "" } else { tree };
    let mut list = Vec::new();
    for slot in 0..node.count() {
        let key = node.key(slot);
        let (offset, _) = node.slot(slot);
        let shown = show::key(key_tree, &key, limit);
        if node.is_branch() {
            let child = node.child(slot);
            table.row(vec![
                slot.to_string(),
                offset.to_string(),
                if slot == 0 {
                    "(the first)".to_string()
                } else {
                    shown
                },
                child.at.page.to_string(),
                format!("{:#010x}", child.at.checksum),
                child.count.to_string(),
            ]);
            list.push(json!({
                "slot": slot, "offset": offset, "key": show::hex(&key), "child": child.at.page,
                "checksum": child.at.checksum, "count": child.count,
            }));
            continue;
        }
        let (length, value, mut item) = match node.value(slot) {
            Cell::Inline(value) => {
                let shown = show::value(tree, &key, value, limit);
                (
                    value.len() as u64,
                    shown,
                    json!({"value": show::hex(value)}),
                )
            }
            Cell::Run(run) => (
                u64::from(run.length_bytes),
                format!("in pages from {}, {:#010x}", run.first, run.checksum),
                json!({"run": {"first": run.first, "length": run.length_bytes,
                               "checksum": run.checksum, "birth": run.birth}}),
            ),
        };
        set(&mut item, "slot", json!(slot));
        set(&mut item, "offset", json!(offset));
        set(&mut item, "key", json!(show::hex(&key)));
        set(&mut item, "shown_key", json!(shown));
        set(&mut item, "shown_value", json!(value));
        list.push(item);
        let cells = vec![
            slot.to_string(),
            offset.to_string(),
            shown,
            length.to_string(),
            value,
        ];
        table.row(cells);
    }
    *text += &table.text();
    set(json, "prefix", json!(show::hex(node.prefix())));
    set(json, "cells", json!(list));
}

fn index(header: &PageHeader, bytes: &[u8], source: &Source, text: &mut String, json: &mut Value) {
    let mut table = Table::new(&["entry", "page", "checksum", "used"]);
    let most = anatomy::space_entries_per_page(source.page_size());
    let mut list = Vec::new();
    for i in 0..usize::from(header.count).min(most) {
        let entry = anatomy::space_entry(bytes, i);
        table.row(vec![
            i.to_string(),
            entry.at.page.to_string(),
            format!("{:#010x}", entry.at.checksum),
            entry.used.to_string(),
        ]);
        list.push(json!({
            "page": entry.at.page, "checksum": entry.at.checksum, "used": entry.used,
        }));
    }
    *text += &table.text();
    set(json, "entries", json!(list));
}

fn slot_text(slot: &Slot, json: &mut Value) -> String {
    let (state, text) = match &slot.state {
        SlotState::Valid(header) => ("valid", slot_fields(header, json)),
        SlotState::Unwritten if slot.is_zero => ("unwritten", "zeros: never written\n".into()),
        SlotState::Unwritten => ("unwritten", "it has no mark of Aurora\n".into()),
        SlotState::Damaged(fault) => ("damaged", fault.line() + "\n"),
        SlotState::Newer(reason) => ("newer", format!("{reason}\n")),
        SlotState::Missing => ("missing", "the file ends before it\n".into()),
    };
    set(json, "state", json!(state));
    format!(
        "header slot {} at {}: {state}\n{text}",
        slot.number, slot.offset
    )
}

fn slot_fields(header: &Header, json: &mut Value) -> String {
    let fields = fields(header);
    let mut table = Table::new(&["field", "value"]);
    for (name, value) in &fields {
        table.row(vec![name.to_string(), value.to_string()]);
    }
    let object = fields
        .iter()
        .map(|(name, value)| (name.to_string(), json!(value)));
    set(json, "fields", Value::Object(object.collect()));
    table.text()
}

/// All fields of a header by name.
pub(super) fn fields(header: &Header) -> Vec<(&'static str, u64)> {
    vec![
        ("page_size", header.page_size.into()),
        ("checkpoint", header.checkpoint),
        ("version", header.version),
        ("salt", header.salt),
        ("compatible", header.compatible),
        ("read_compatible", header.read_compatible),
        ("incompatible", header.incompatible),
        ("pages", header.pages.into()),
        ("catalog_page", header.catalog.at.page.into()),
        ("catalog_checksum", header.catalog.at.checksum.into()),
        ("catalog_count", header.catalog.count),
        ("catalog_level", header.catalog.level.into()),
        ("space_page", header.space.page.into()),
        ("space_checksum", header.space.checksum.into()),
        ("space_level", header.space_level.into()),
        ("log_page", header.log.first.into()),
        ("log_pages", header.log.pages.into()),
        ("next_log_page", header.next_log.first.into()),
        ("next_log_pages", header.next_log.pages.into()),
        ("log_start", header.log_start),
        ("log_start_crc", header.log_start_crc.into()),
    ]
}

/// Sixteen bytes a line, with those that can be printed.
fn dump(bytes: &[u8], offset: u64) -> String {
    let mut text = String::new();
    for (line, chunk) in (0u64..).zip(bytes.chunks(16)) {
        let pairs: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let printed = chunk.iter().map(|byte| match byte {
            0x20..0x7f => char::from(*byte),
            _ => '.',
        });
        let printed: String = printed.collect();
        text += &format!(
            "{:08x}  {:<47}  {printed}\n",
            offset + line * 16,
            pairs.join(" ")
        );
    }
    text
}
