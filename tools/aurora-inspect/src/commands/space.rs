//! `space`: where the file is full, and where it is free.

use serde::Serialize;

use super::summary::FreeSpace;
use crate::survey::{Options, Silent, Survey, Use};
use crate::table::{Table, bytes};
use crate::{Failure, Report, Source};

/// How many of the longest free stretches are listed.
const LISTED: usize = 20;

#[derive(Debug, Clone, Copy, Serialize)]
struct Stretch {
    first: u32,
    pages: u32,
}

#[derive(Debug, Serialize)]
struct Space {
    free: FreeSpace,
    used_by_map: u64,
    used_by_survey: u64,
    map_pages: u64,
    /// Stretches by length: up to so many pages, how many there are.
    lengths: Vec<(u32, u64)>,
    longest: Vec<Stretch>,
}

/// Says what the space map says, and how the free pages lie.
pub fn space(source: &Source) -> Result<Report, Failure> {
    let survey = Survey::take(source, Options { read_runs: false }, &Silent)?;
    let stretches = stretches(&survey);
    let mut longest = stretches.clone();
    longest.sort_by_key(|stretch| (std::cmp::Reverse(stretch.pages), stretch.first));
    longest.truncate(LISTED);
    let reached = { survey.pages.iter() }
        .filter(|info| !matches!(info.usage, Use::Free | Use::Beyond | Use::Unknown));
    let space = Space {
        free: FreeSpace::of(&survey),
        used_by_map: survey.space.used,
        used_by_survey: reached.count() as u64,
        map_pages: survey.space.pages.len() as u64,
        lengths: lengths(&stretches),
        longest,
    };
    let pages = u64::from(source.pages());
    let mut text = super::moment(source, None);
    text += &super::summary::space(&space.free, pages, source.page_size());
    text += &format!(
        "used: {} pages says the space map ({} pages of its own), {} pages are reached\n\n",
        space.used_by_map, space.map_pages, space.used_by_survey
    );
    let mut table = Table::new(&["free stretches of up to", "count"]);
    for (length, count) in &space.lengths {
        table.row(vec![format!("{length} pages"), count.to_string()]);
    }
    text += &table.text();
    let mut table = Table::new(&["longest from page", "pages", "bytes"]);
    for stretch in &space.longest {
        let size = bytes(u64::from(stretch.pages) * u64::from(source.page_size()));
        table.row(vec![
            stretch.first.to_string(),
            stretch.pages.to_string(),
            size,
        ]);
    }
    text += &format!("\n{}", table.text());
    let faults = { survey.faults.list().iter() }.filter(|fault| fault.area == "space");
    let faults: Vec<_> = faults.collect();
    for fault in &faults {
        text += &fault.line();
        text.push('\n');
    }
    Report::new(text, &space, !faults.is_empty())
}

fn stretches(survey: &Survey) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut was_free = false;
    for (page, info) in (0u32..).zip(&survey.pages) {
        let is_free = info.usage == Use::Free;
        match stretches.last_mut() {
            Some(last) if is_free && was_free => last.pages += 1,
            _ if is_free => stretches.push(Stretch {
                first: page,
                pages: 1,
            }),
            _ => {}
        }
        was_free = is_free;
    }
    stretches
}

fn lengths(stretches: &[Stretch]) -> Vec<(u32, u64)> {
    let mut lengths: std::collections::BTreeMap<u32, u64> = Default::default();
    for stretch in stretches {
        let up_to = stretch
            .pages
            .checked_next_power_of_two()
            .unwrap_or(u32::MAX);
        *lengths.entry(up_to).or_default() += 1;
    }
    lengths.into_iter().collect()
}
