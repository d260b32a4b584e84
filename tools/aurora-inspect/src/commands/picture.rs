//! `map`: every page of the file as a cell, on one page of HTML that needs nothing else.
//!
//! Each page is 8 bytes in what the script reads, as base64: use, level, fill in percent, damage,
//! entries (u16), index of the tree plus 1 (u16).

use serde_json::json;

use crate::survey::{Options, Silent, Survey, Use};
use crate::wal::Wal;
use crate::{Failure, Report, Severity, Source};

/// Bytes of a page in what the script reads.
const PACKED: usize = 8;
/// How many faults the page can explain.
const MOST_FAULTS: usize = 2000;

const TEMPLATE: &str = include_str!("picture.html");

/// Makes the page. The report says what is on it.
pub fn picture(source: &Source, title: &str) -> Result<(Report, String), Failure> {
    let header = *source.header()?;
    let wal = Wal::read(source, false)?;
    let survey = Survey::take(source, Options { read_runs: true }, &Silent)?;
    let mut faults = source.check_slots(wal.is_clean);
    faults.append(wal.faults.clone());
    faults.append(survey.faults.clone());
    faults.append(crate::upper::check(source, &survey, &Silent));
    let mut packed = Vec::with_capacity(survey.pages.len() * PACKED);
    for info in &survey.pages {
        let tree = u16::try_from(info.tree).unwrap_or(u16::MAX);
        packed.extend_from_slice(&[info.usage as u8, info.level, info.fill, 0]);
        packed.extend_from_slice(&info.entries.to_le_bytes());
        packed.extend_from_slice(&tree.to_le_bytes());
    }
    for fault in faults.list() {
        if fault.severity == Severity::Damage
            && let Some(page) = fault.page
            && let Some(mark) = packed.get_mut(page as usize * PACKED + 3)
        {
            *mark = 1;
        }
    }
    let told = faults
        .list()
        .iter()
        .filter(|fault| fault.page.is_some())
        .take(MOST_FAULTS);
    let told: Vec<_> = told
        .map(|fault| json!([fault.page, fault.line()]))
        .collect();
    let names: Vec<&str> = survey.trees.iter().map(|tree| tree.name.as_str()).collect();
    let data = json!({
        "title": title,
        "moment": super::moment(source, Some(&wal)).trim_end(),
        "pageSize": header.page_size,
        "uses": Use::ALL.map(Use::name),
        "trees": names,
        "faults": told,
        "damages": faults.damages(),
    });
    // Nothing in the text may end the script that it is in.
    let data = data
        .to_string()
        .replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028");
    let parts = [
        ("TITLE", super::drawing::escape(title)),
        ("PACKED", base64(&packed)),
        ("DATA", data),
    ];
    let html = fill_in(&parts);
    let text = super::moment(source, Some(&wal))
        + &format!(
            "{} pages drawn, {} faults\n",
            survey.pages.len(),
            faults.damages()
        );
    let json = json!({
        "pages": survey.pages.len(), "damages": faults.damages(), "faults": faults.list(),
    });
    Ok((Report::new(text, json, !faults.is_healthy())?, html))
}

/// The template with each mark replaced, in the order of the marks.
fn fill_in(parts: &[(&str, String)]) -> String {
    let mut html = String::new();
    let mut rest = TEMPLATE;
    for (mark, text) in parts {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        html += before;
        html += text;
        rest = after;
    }
    html + rest
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = (group >> (18 - 6 * i) & 63) as usize;
            text.push(match i <= chunk.len() {
                true => char::from(*DIGITS.get(digit).unwrap_or(&b'A')),
                false => '=',
            });
        }
    }
    text
}
