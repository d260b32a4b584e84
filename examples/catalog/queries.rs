//! Questions to the collection, each with its answer from plain iterators.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::time::Instant;

use aurora::{Aurora, Filter, Patch, Value};

use super::check::{Checks, expected};
use super::source::Emoji;

type Outcome = Result<(), Box<dyn Error>>;

fn languages(documents: &[Emoji]) -> BTreeSet<&str> {
    documents.iter().map(|one| one.language.as_str()).collect()
}

/// The tag that most emoji of a language have.
fn common_tag<'d>(documents: &'d [Emoji], language: &str) -> Option<&'d str> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for one in documents.iter().filter(|one| one.language == language) {
        one.tags
            .iter()
            .for_each(|tag| *counts.entry(tag).or_default() += 1);
    }
    { counts.into_iter() }
        .max_by_key(|(tag, count)| (*count, *tag))
        .map(|(tag, _)| tag)
}

fn group_key(one: &Emoji) -> Option<&str> {
    one.group.as_ref().map(|group| group.key.as_str())
}

pub fn reading(db: &Aurora, documents: &[Emoji], checks: &mut Checks) -> Outcome {
    let stored = db.query("emoji").collect_as::<Emoji>().wait()?;
    let mut all = documents.to_vec();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    checks.same("all documents, as they were", stored, all);
    for language in languages(documents) {
        in_language(db, documents, language, checks)?;
    }
    conditions(db, documents, checks)?;
    orders(db, documents, checks)
}

/// What differs from script to script.
fn in_language(db: &Aurora, documents: &[Emoji], language: &str, checks: &mut Checks) -> Outcome {
    let own = || documents.iter().filter(|one| one.language == language);
    if let Some(tag) = common_tag(documents, language) {
        checks.query(
            &format!("{language}: tagged {tag:?}"),
            || db.query("emoji").filter(|f| f.contains("tags", tag)),
            expected(documents, |one| one.tags.iter().any(|own| own == tag)),
        )?;
    }
    if let Some(first) = own()
        .map(|one| &one.label)
        .max()
        .and_then(|label| label.chars().next())
    {
        let prefix = first.to_string();
        checks.query(
            &format!("{language}: labels that start with {prefix:?}"),
            || {
                db.query("emoji")
                    .filter(|f| f.starts_with("label", &prefix))
            },
            expected(documents, |one| one.label.starts_with(&prefix)),
        )?;
    }
    if let Some(name) = own()
        .filter_map(|one| one.group.as_ref())
        .map(|g| &g.name)
        .min()
    {
        checks.query(
            &format!("{language}: the group {name:?}"),
            || {
                db.query("emoji")
                    .filter(|f| f.eq("group.name", name) && f.eq("language", language))
            },
            expected(documents, |one| {
                one.language == language && one.group.as_ref().is_some_and(|g| g.name == *name)
            }),
        )?;
    }
    Ok(())
}

fn conditions(db: &Aurora, documents: &[Emoji], checks: &mut Checks) -> Outcome {
    let emoji = || db.query("emoji");
    checks.query(
        "equality, nested",
        || emoji().filter(|f| f.eq("group.key", "food-drink")),
        expected(documents, |one| group_key(one) == Some("food-drink")),
    )?;
    checks.query(
        "range",
        || emoji().filter(|f| f.between("version", 12, 13.1)),
        expected(documents, |one| (12.0..=13.1).contains(&one.version)),
    )?;
    checks.query(
        "two ranges and one more condition",
        || emoji().filter(|f| (f.lt("version", 0.7) || f.gt("version", 15)) && f.exists("order")),
        expected(documents, |one| {
            (one.version < 0.7 || one.version > 15.0) && one.order.is_some()
        }),
    )?;
    checks.query(
        "one of several, as a value",
        || emoji().matching(Filter::is_in("group.key", ["flags", "activities"])),
        expected(documents, |one| {
            matches!(group_key(one), Some("flags" | "activities"))
        }),
    )?;
    checks.query(
        "missing fields",
        || emoji().filter(|f| f.is_null("group.key")),
        expected(documents, |one| one.group.is_none()),
    )?;
    checks.query(
        "length of an array",
        || emoji().filter(|f| f.length("skins", 6..)),
        expected(documents, |one| one.skins.len() >= 6),
    )?;
    checks.query(
        "regular expression, and not a condition",
        || emoji().filter(|f| f.matches("label", r"^\p{Cyrillic}+$") && !f.exists("gender")),
        expected(documents, |one| {
            let is_cyrillic = |c: char| ('\u{400}'..='\u{52f}').contains(&c);
            !one.label.is_empty() && one.label.chars().all(is_cyrillic) && one.gender.is_none()
        }),
    )?;
    checks.query(
        "ends with",
        || emoji().filter(|f| f.ends_with("hexcode", "-FE0F")),
        expected(documents, |one| one.hexcode.ends_with("-FE0F")),
    )?;
    checks.query(
        "a value that is looked at",
        || emoji().filter(|f| matches!(f.value("skins"), Value::Array(all) if all.len() == 5)),
        expected(documents, |one| one.skins.len() == 5),
    )?;
    checks.query(
        "a partial index",
        || emoji().filter(|f| f.exists("gender") && f.gte("label", "t")),
        expected(documents, |one| one.gender.is_some() && *one.label >= *"t"),
    )
}

fn orders(db: &Aurora, documents: &[Emoji], checks: &mut Checks) -> Outcome {
    let first = |mut rows: Vec<&Emoji>, skipped: usize, count: usize, descending: bool| {
        rows.sort_by(|a, b| (&a.label, &a.id).cmp(&(&b.label, &b.id)));
        if descending {
            rows.reverse();
        }
        let rows = rows.into_iter().skip(skipped).take(count);
        rows.map(|one| one.id.clone()).collect::<Vec<_>>()
    };
    checks.query(
        "the last labels",
        || db.query("emoji").order_by("label", false).limit(10),
        first(documents.iter().collect(), 0, 10, true),
    )?;
    checks.query(
        "labels from the thousandth on",
        || {
            db.query("emoji")
                .order_by("label", true)
                .offset(1000)
                .limit(7)
        },
        first(documents.iter().collect(), 1000, 7, false),
    )?;
    let new = |one: &&Emoji| one.version >= 14.0;
    checks.query(
        "the first labels of new ones",
        || {
            db.query("emoji")
                .filter(|f| f.gte("version", 14))
                .order_by("label", true)
                .limit(10)
        },
        first(documents.iter().filter(new).collect(), 0, 10, false),
    )?;
    for language in languages(documents) {
        let mut own: Vec<&Emoji> = documents
            .iter()
            .filter(|one| one.language == language)
            .collect();
        own.sort_by_key(|one| (one.order, &one.id)); // what is missing comes first
        checks.query(
            &format!("{language}: in order, from an index on two fields"),
            || {
                let own = db.query("emoji").filter(|f| f.eq("language", language));
                own.order_by("order", true).limit(50)
            },
            own.iter().take(50).map(|one| one.id.clone()).collect(),
        )?;
        // Two fields in two directions: sorted.
        own.sort_by(|a, b| {
            let versions = b.version.total_cmp(&a.version);
            versions.then_with(|| (&a.label, &a.id).cmp(&(&b.label, &b.id)))
        });
        checks.query(
            &format!("{language}: the newest by label"),
            || {
                let own = db.query("emoji").filter(|f| f.eq("language", language));
                own.order_by("version", false)
                    .order_by("label", true)
                    .limit(20)
            },
            own.iter().take(20).map(|one| one.id.clone()).collect(),
        )?;
    }
    Ok(())
}

/// All labels, page by page, each from the cursor of the one before.
pub fn pages(db: &Aurora, documents: &[Emoji], checks: &mut Checks) -> Outcome {
    const ROWS: u64 = 250;
    let start = Instant::now();
    let mut found = Vec::new();
    let mut count = 0;
    let mut cursor = None;
    loop {
        let mut query = db
            .query("emoji")
            .order_by("label", true)
            .select(["emoji", "label"]);
        if let Some(cursor) = cursor {
            query = query.after(cursor);
        }
        let page = query.page(ROWS).wait()?;
        found.extend(page.documents.iter().map(|one| {
            let label = one.get("label").and_then(Value::as_str).unwrap_or_default();
            (label.to_string(), one.id.to_string(), one.len())
        }));
        count += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    println!("\n{count} pages of {ROWS} in {:?}", start.elapsed());
    let mut labels: Vec<_> = { documents.iter() }
        .map(|one| (one.label.clone(), one.id.clone(), 2))
        .collect();
    labels.sort();
    checks.same("all pages", found, labels);
    Ok(())
}

pub fn groups(db: &Aurora, documents: &[Emoji], checks: &mut Checks) -> Outcome {
    let start = Instant::now();
    let found = db
        .query("emoji")
        .filter(|f| f.gte("version", 1))
        .group_by("group.key")
        .count()
        .min("label")
        .max("version")
        .sum("order")
        .avg("order")
        .collect()
        .wait()?;
    println!("\n{} groups in {:?}", found.len(), start.elapsed());
    let found: Vec<(Option<String>, Vec<Value>)> = { found.into_iter() }
        .map(|group| (group.key.as_str().map(str::to_string), group.results))
        .collect();
    let mut members: BTreeMap<Option<String>, Vec<&Emoji>> = BTreeMap::new();
    for one in documents.iter().filter(|one| one.version >= 1.0) {
        let key = group_key(one).map(str::to_string);
        members.entry(key).or_default().push(one);
    }
    let expected = members.into_iter().map(|(key, members)| {
        let orders: Vec<i64> = members.iter().filter_map(|one| one.order).collect();
        let sum: i64 = orders.iter().sum();
        let average = (!orders.is_empty()).then(|| sum as f64 / orders.len() as f64);
        let newest = members.iter().map(|one| one.version).fold(0.0, f64::max);
        let results = vec![
            Value::from(members.len() as i64),
            members.iter().map(|one| one.label.as_str()).min().into(),
            newest.into(),
            sum.into(),
            average.into(),
        ];
        (key, results)
    });
    checks.same("groups", found, expected.collect());
    Ok(())
}

/// Changes, with a snapshot of before.
pub fn writing(db: &Aurora, documents: &[Emoji], checks: &mut Checks) -> Outcome {
    let before = db.begin_read()?;
    let is_flag = |one: &Emoji| group_key(one) == Some("flags");
    let flags = expected(documents, is_flag);

    let start = Instant::now();
    let changed = { db.query("emoji").filter(|f| f.eq("group.key", "flags")) }
        .update(Patch::new().inc("seen", 1).push("tags", "🏁"))
        .wait()?;
    println!("\n{changed} documents changed in {:?}", start.elapsed());
    checks.same("changed", changed, flags.len() as u64);
    checks.query(
        "what was changed",
        || {
            db.query("emoji")
                .filter(|f| f.contains("tags", "🏁") && f.eq("seen", 1))
        },
        flags.clone(),
    )?;

    let start = Instant::now();
    let deleted = db
        .query("emoji")
        .filter(|f| f.lt("version", 1))
        .delete()
        .wait()?;
    println!("\n{deleted} documents deleted in {:?}", start.elapsed());
    let is_left = |one: &Emoji| one.version >= 1.0;
    checks.query(
        "what is left",
        || db.query("emoji"),
        expected(documents, is_left),
    )?;
    checks.query(
        "flags that are left, from an index",
        || db.query("emoji").filter(|f| f.eq("group.key", "flags")),
        expected(documents, |one| is_flag(one) && is_left(one)),
    )?;
    checks.query(
        "the snapshot of before",
        || {
            before
                .query("emoji")
                .filter(|f| f.eq("group.key", "flags") && f.is_null("seen"))
        },
        flags,
    )
}
