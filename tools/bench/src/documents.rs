//! The documents: made of a seed, the same in every run.

use std::time::{Duration, Instant};

use aurora_bench::Random;

/// The first moment in a document, and how many milliseconds they are spread over: three years.
pub const FIRST_MS: i64 = 1_600_000_000_000;
pub const SPAN_MS: i64 = 3 * 365 * 86_400_000;

const SYLLABLES: [&str; 24] = [
    "ka", "ro", "mi", "ten", "sul", "var", "ne", "lo", "dri", "pa", "gor", "zu", "ber", "hal",
    "qui", "sen", "tor", "ula", "fen", "mar", "ost", "wic", "yan", "ede",
];

/// The words of notes. One word is in about one note of twenty.
pub const WORDS: [&str; 160] = {
    let mut words = [""; 160];
    let base = [
        "delivery", "invoice", "window", "garden", "battery", "copper", "signal", "harbour",
        "mountain", "kitchen", "letter", "winter", "summer", "market", "bridge", "engine", "paper",
        "silver", "orange", "purple", "yellow", "travel", "ticket", "station", "museum", "library",
        "student", "teacher", "doctor", "patient", "blanket", "pillow", "mirror", "candle",
        "basket", "bottle", "cabinet", "drawer", "hammer", "ladder",
    ];
    let more = [
        "anchor", "beacon", "canvas", "desert", "ember", "falcon", "glacier", "hollow", "island",
        "jungle", "kernel", "lantern", "meadow", "nectar", "oyster", "pebble", "quarry", "ribbon",
        "saddle", "timber", "umbrella", "valley", "walnut", "yonder", "zephyr", "acorn", "bamboo",
        "cactus", "dahlia", "elm", "fern", "ginger", "hazel", "iris", "jasmine", "kelp", "lilac",
        "maple", "nutmeg", "olive",
    ];
    let third = [
        "account", "balance", "credit", "debit", "equity", "fund", "grant", "holding", "income",
        "journal", "key", "ledger", "margin", "note", "option", "pension", "quota", "rebate",
        "share", "tax", "unit", "voucher", "wage", "yield", "audit", "bond", "coupon", "deposit",
        "escrow", "fee", "gain", "hedge", "index", "lease", "loan", "merger", "offer", "premium",
        "return", "swap",
    ];
    let fourth = [
        "apple", "bread", "cheese", "dates", "eggs", "flour", "grapes", "honey", "juice", "kale",
        "lemon", "milk", "noodles", "oats", "pepper", "quince", "rice", "salt", "tea", "vanilla",
        "water", "yeast", "almond", "butter", "carrot", "dill", "fig", "garlic", "herbs", "jam",
        "leek", "melon", "nuts", "onion", "pear", "radish", "sugar", "thyme", "plum", "wheat",
    ];
    let mut i = 0;
    while i < 40 {
        words[i] = base[i];
        words[i + 40] = more[i];
        words[i + 80] = third[i];
        words[i + 120] = fourth[i];
        i += 1;
    }
    words
};

/// One document before it has the form of an engine.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: i64,
    pub name: String,
    pub city: String,
    pub age: i64,
    pub score: f64,
    pub created_ms: i64,
    pub tags: [String; 2],
    pub note: String,
}

/// All documents: how many, and how many cities they are from.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    pub documents: u64,
    pub seed: u64,
}

impl Source {
    /// 200 documents a city: 5,000 cities for a million.
    pub fn cities(&self) -> u64 {
        (self.documents / 200).max(1)
    }

    pub fn city(&self, number: u64) -> String {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let mut city: String = (0..3).map(|_| random.pick(&SYLLABLES)).collect();
        city.push_str(&format!(" {number}"));
        city
    }

    /// The document of an id, from 1.
    pub fn row(&self, id: i64) -> Row {
        let mut random = Random::new(self.seed.wrapping_add(id as u64).wrapping_mul(0xd134_2543));
        let first: String = (0..3).map(|_| random.pick(&SYLLABLES)).collect();
        let last: String = (0..3).map(|_| random.pick(&SYLLABLES)).collect();
        let note: Vec<&str> = (0..8).map(|_| random.pick(&WORDS)).collect();
        let tag = random.below(50);
        let other = (tag + 1 + random.below(49)) % 50;
        Row {
            id,
            name: format!("{first} {last}"),
            city: self.city(random.below(self.cities())),
            age: random.below(101) as i64,
            score: random.below(100_000_000) as f64 / 1e6,
            created_ms: FIRST_MS + random.below(SPAN_MS as u64) as i64,
            tags: [format!("tag{tag:02}"), format!("tag{other:02}")],
            note: note.join(" "),
        }
    }

    /// The documents of a range of ids, and how long it took to make them, which is not the
    /// engine's time.
    pub fn rows(self, ids: std::ops::Range<i64>) -> Rows {
        Rows {
            source: self,
            ids,
            held: Vec::new().into_iter(),
            making: Duration::ZERO,
        }
    }
}

pub struct Rows {
    source: Source,
    ids: std::ops::Range<i64>,
    held: std::vec::IntoIter<Row>,
    pub making: Duration,
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if let Some(row) = self.held.next() {
            return Some(row);
        }
        let start = Instant::now();
        let some: Vec<Row> = { self.ids.by_ref().take(1000) }
            .map(|id| self.source.row(id))
            .collect();
        self.held = some.into_iter();
        self.making += start.elapsed();
        self.held.next()
    }
}
