//! `wal`: what the log holds, and where replay would stop.

use crate::table::Table;
use crate::wal::Wal;
use crate::{Failure, Report, Source};

/// Lists the records of the log; `with_changes`: with every change in them.
pub fn wal(source: &Source, with_changes: bool) -> Result<Report, Failure> {
    let wal = Wal::read(source, with_changes)?;
    let mut text = super::moment(source, Some(&wal));
    text += &super::summary::wal_text(&wal, source.page_size());
    if wal.next_ring_pages > 0 {
        text += &format!(
            "the log goes on in another ring: {} pages from page {}\n",
            wal.next_ring_pages, wal.next_ring_page
        );
    }
    text += &format!(
        "{} changes in {} transactions\n\n",
        wal.operations, wal.commits
    );
    let mut table = Table::new(&[
        "record",
        "position",
        "lap",
        "offset",
        "bytes",
        "version",
        "checkpoint",
        "durable",
        "changes",
    ]);
    for record in &wal.records {
        table.row(vec![
            record.kind.to_string(),
            record.lsn.to_string(),
            record.lap.to_string(),
            record.offset.to_string(),
            record.bytes.to_string(),
            record.version.to_string(),
            record.checkpoint.to_string(),
            record.durable.to_string(),
            record.operations.to_string(),
        ]);
    }
    text += &table.text();
    for record in wal.records.iter().filter(|r| !r.changes.is_empty()) {
        text += &format!("\nat {}, version {}:\n", record.lsn, record.version);
        for change in &record.changes {
            text += &format!("  {change}\n");
        }
    }
    text += &wal.faults.text();
    let is_damaged = !wal.faults.is_healthy();
    Report::new(text, &wal, is_damaged)
}
