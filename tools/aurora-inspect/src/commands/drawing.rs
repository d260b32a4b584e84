//! Pictures of trees, as SVG.

use super::tree::TreePage;

/// Cells of a drawn row at the most; longer levels go over several rows.
const ROW: usize = 100;
const CELL: usize = 12;
const GAP: usize = 28;

/// Each level as rows of cells, coloured by how full the pages are, with lines to the pages above.
pub(super) fn tree(name: &str, pages: &[TreePage], left_out: u64) -> String {
    let top = pages.iter().map(|page| page.level).max().unwrap_or(0);
    let mut places = std::collections::HashMap::new();
    let mut cells = String::new();
    let mut lines = String::new();
    let mut y = 40;
    for level in (0..=top).rev() {
        let on_level: Vec<&TreePage> = pages.iter().filter(|p| p.level == level).collect();
        cells += &format!(
            "<text x='4' y='{}'>level {level}, {} pages</text>",
            y - 4,
            on_level.len()
        );
        let width = on_level.len().min(ROW);
        for (i, page) in on_level.iter().enumerate() {
            let x = 10 + (ROW - width) * CELL / 2 + i % ROW * CELL;
            let row = y + i / ROW * CELL;
            places.insert(page.page, (x + CELL / 2, row + CELL));
            if let Some((px, py)) = places.get(&page.parent) {
                let cx = x + CELL / 2;
                lines += &format!("<path d='M{px} {py}L{cx} {row}'/>");
            }
            cells += &format!(
                "<rect x='{x}' y='{row}' width='{}' height='{}' fill='{}'><title>page {}, level \
                 {level}, {} slots, {}% full\nfrom {}\nto {}</title></rect>",
                CELL - 1,
                CELL - 1,
                colour(page.fill_percent),
                page.page,
                page.slots,
                page.fill_percent,
                escape(&page.first_key),
                escape(&page.last_key),
            );
        }
        y += on_level.len().div_ceil(ROW) * CELL + GAP;
    }
    let more = match left_out {
        0 => String::new(),
        count => format!(", {count} more pages not drawn"),
    };
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{y}' font-family='sans-serif' \
         font-size='11'><rect width='100%' height='100%' fill='white'/>\
         <text x='4' y='16' font-size='14'>{}{more}</text>\
         <g stroke='#bbb' stroke-width='0.5' fill='none'>{lines}</g>{cells}</svg>\n",
        ROW * CELL + 20,
        escape(name),
    )
}

/// From pale to dark with the fill.
fn colour(percent: u64) -> String {
    format!("hsl(210,70%,{}%)", 90 - percent.min(100) * 55 / 100)
}

/// Text within XML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
