//! Bar charts as SVG, a file for each row: bars from zero, so that twice as long is twice as much.
//! Colours follow the reader's light or dark theme.

use std::path::Path;

use crate::engine::Outcome;
use crate::report::{FILE, OWN, Report, shown};
use crate::rows::Row;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 96.0;
/// Where bars end at most; their labels come behind.
const RIGHT: f64 = 560.0;
const TOP: f64 = 52.0;
const STEP: f64 = 26.0;
const BAR: f64 = 18.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-weight:600;font-size:15px}.quiet{fill:#57606a}\
.own{fill:#0969da}.peer{fill:#8c959f}.file{fill:#bf8700}.axis{stroke:#8c959f}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}\
.own{fill:#4493f8}.peer{fill:#6e7681}.file{fill:#d29922}.axis{stroke:#6e7681}}";

pub fn draw(report: &Report, directory: &Path) -> Outcome<()> {
    std::fs::create_dir_all(directory)?;
    for row in report.rows.iter().filter(|row| row.chart) {
        if let Some(svg) = chart(report, row) {
            std::fs::write(directory.join(format!("{}.svg", row.id)), svg)?;
        }
    }
    Ok(())
}

/// Nothing where there is nothing to compare.
fn chart(report: &Report, row: &Row) -> Option<String> {
    let mut bars: Vec<(&str, f64)> = { report.columns.iter() }
        .filter_map(|column| Some((column.as_str(), report.cell(row, column)?.median)))
        .collect();
    let own = report.cell(row, OWN)?.median;
    if bars.len() < 2 || own <= 0.0 {
        return None;
    }
    bars.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    let bottom = TOP + STEP * bars.len() as f64;
    let height = bottom + 14.0;
    let title = escape(&row.what);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"20\">{title}</text>\n\
         <text class=\"quiet\" x=\"8\" y=\"39\">less is better; in brackets: against Aurora</text>\n"
    );
    for (place, (name, value)) in bars.iter().enumerate() {
        let y = TOP + STEP * place as f64;
        svg.push_str(&bar(row, name, *value, own, most, y));
    }
    svg.push_str(&format!(
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{}\" x2=\"{LEFT}\" y2=\"{bottom}\"/>\n</svg>\n",
        TOP - 4.0
    ));
    Some(svg)
}

fn bar(row: &Row, name: &str, value: f64, own: f64, most: f64, y: f64) -> String {
    let class = match name {
        OWN => "own",
        FILE => "file",
        _ => "peer",
    };
    let length = ((RIGHT - LEFT) * value / most).max(1.0);
    let baseline = y + BAR - 4.5;
    let label = match name {
        OWN => shown(row.unit, value),
        _ => format!("{} ({} x)", shown(row.unit, value), ratio(value / own)),
    };
    format!(
        "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>\
         <text x=\"{:.1}\" y=\"{baseline}\">{label}</text>\n",
        LEFT - 8.0,
        LEFT + length + 7.0,
    )
}

fn ratio(times: f64) -> String {
    match times {
        t if t < 10.0 => format!("{t:.2}"),
        t if t < 1000.0 => format!("{t:.0}"),
        t => format!("{t:.1e}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
