//! All kinds of work in a file that may be damaged. Nothing panics, and each call does what it should or says what is wrong.
//! Where the check finds nothing beforehand, what was not touched is as it was, also after the next open. (Where it does, two
//! trees may have one page, say: then what is done to one is done to the other.)

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aurora::{
    Aurora, Batch, BlobMeta, Field, FieldType, Filter, Index, Object, Patch, Result, Schema, Value,
};

use super::engine::Random;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// What can be read, part by part.
#[derive(Debug, Default)]
pub struct Seen {
    trees: BTreeMap<String, Entries>,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    documents: BTreeMap<String, Vec<Object>>,
}

/// What was changed, or may have been.
#[derive(Debug, Default)]
pub struct Touched {
    trees: BTreeSet<String>,
    keys: BTreeSet<Vec<u8>>,
    collections: BTreeSet<String>,
}

pub fn see(db: &Aurora) -> Seen {
    let mut seen = Seen::default();
    let Ok(snapshot) = db.begin_read() else {
        return seen;
    };
    for name in snapshot.tree_names() {
        let entries = snapshot.tree(name).and_then(|tree| tree.iter().collect());
        let entries = entries.ok().map(|entries| (name.to_string(), entries));
        seen.trees.extend(entries);
    }
    seen.values
        .extend(snapshot.scan::<&[u8]>(..).map_while(Result::ok));
    for name in snapshot.collections().unwrap_or_default() {
        let all = snapshot.query(&name).collect().wait();
        let fields = all.map(|all| all.iter().map(|one| one.fields().clone()).collect());
        seen.documents
            .extend(fields.ok().map(|fields| (name, fields)));
    }
    seen
}

impl Seen {
    /// What was seen, and is not touched, is seen again.
    pub fn compare(&self, again: &Seen, touched: &Touched, when: &str) {
        for (name, entries) in &self.trees {
            let is_same = again.trees.get(name) == Some(entries);
            assert!(
                is_same || touched.trees.contains(name),
                "{when}: tree {name}"
            );
        }
        for (key, value) in &self.values {
            let is_same = again.values.get(key) == Some(value);
            assert!(is_same || touched.keys.contains(key), "{when}: key {key:?}");
        }
        for (name, documents) in &self.documents {
            let is_same = again.documents.get(name) == Some(documents);
            assert!(
                is_same || touched.collections.contains(name),
                "{when}: {name}"
            );
        }
    }
}

fn some<T: Clone>(random: &mut Random, of: &[T]) -> Option<T> {
    let one = random.below(of.len() as u64) as usize;
    of.get(one).cloned()
}

/// Some calls of all kinds. Each does what it should, or says that something is damaged, or wrong with the call.
pub fn work(db: &Aurora, random: &mut Random) -> Touched {
    let mut touched = Touched::default();
    for _ in 0..3 + random.below(12) {
        let done = match random.below(3) {
            0 => change_tree(db, random, &mut touched),
            1 => change_key(db, random, &mut touched),
            _ => change_collection(db, random, &mut touched),
        };
        if let Err(error) = done {
            let is_told = error.is_corruption() || error.is_misuse();
            assert!(is_told, "{error:?}");
        }
    }
    touched
}

fn change_tree(db: &Aurora, random: &mut Random, touched: &mut Touched) -> Result<()> {
    let Some(name) = some(random, &db.tree_names()?) else {
        return Ok(());
    };
    touched.trees.insert(name.clone());
    let tree = db.tree(&name)?;
    let from = random.bytes(2);
    match random.below(9) {
        0 => drop(tree.delete_range(from.clone()..)?),
        1 => drop(tree.delete_range(..from.clone())?),
        2 => drop(tree.clear()?),
        3 => {
            let many = (0..200_u64).map(|n| ((n * 7919).to_string(), vec![1; 90]));
            tree.put_many(many)?;
        }
        4 => {
            let snapshot = db.begin_read()?;
            let some = snapshot.tree(&name)?.iter().step_by(3).take(80);
            let keys: Vec<_> = some.map_while(Result::ok).map(|(key, _)| key).collect();
            tree.delete_many(keys)?;
        }
        5 => db.write(|tx| {
            let mut tree = tx.tree(&name)?;
            for _ in 0..20 {
                tree.pop_first()?;
                tree.pop_last()?;
            }
            Ok(())
        })?,
        6 => db.write(|tx| tx.drop_tree(&name))?,
        7 => {
            touched.trees.insert("renamed".into());
            db.write(|tx| tx.rename_tree(&name, "renamed"))?;
        }
        _ => {
            let at = tree.count(..from.clone())?;
            let snapshot = db.begin_read()?;
            let _ = snapshot.tree(&name)?.nth(at)?;
            tree.put(from, vec![9; 40_000])?;
        }
    }
    Ok(())
}

fn change_key(db: &Aurora, random: &mut Random, touched: &mut Touched) -> Result<()> {
    let mut keys: Vec<Vec<u8>> = db
        .scan::<&[u8]>(..)?
        .map_while(|entry| entry.ok().map(|(key, _)| key))
        .collect();
    for (key, _) in db.get_data_by_pattern("").unwrap_or_default() {
        keys.push(key.into_bytes());
    }
    let Some(key) = some(random, &keys) else {
        return Ok(());
    };
    touched.keys.insert(key.clone());
    match random.below(16) {
        0 => drop(db.expire(&key, Duration::from_secs(random.below(3)))?),
        1 => drop(db.persist(&key)?),
        2 => drop(db.increment(&key, 1)?),
        3 => drop(db.merge(&key, |_| Some(vec![7; 2_000]))?),
        4 => drop(db.delete(key).wait()?),
        5 => drop(db.append_blob(&key, &[5; 300_000][..])?),
        6 => drop(db.write_blob_at(&key, random.below(900_000), [3; 5_000])?),
        7 => drop(db.truncate_blob(&key, random.below(900_000))?),
        8 => drop(db.set_blob_meta(&key, BlobMeta::new().with("a", "b"))?),
        9 => drop(db.delete_blob(&key)?),
        10 => {
            let mut batch = Batch::new();
            batch.put(&key, [1; 100], Some(Duration::from_secs(9)));
            batch.delete("nothing");
            db.apply(batch)?;
        }
        11 => drop(db.put_blob_from(&key, &[8; 70_000][..])?),
        12 => {
            let is_in = |of: &Vec<u8>| of.starts_with(&key[..key.len().min(3)]);
            touched
                .keys
                .extend(keys.iter().filter(|of| is_in(of)).cloned());
            db.delete_prefix(&key[..key.len().min(3)])?;
        }
        13 => drop(db.put(&key, [2; 1_200], None)?),
        14 => drop(db.compare_and_swap(&key, None, Some(b"x"))?),
        _ => drop(db.sweep(20)?),
    }
    Ok(())
}

fn change_collection(db: &Aurora, random: &mut Random, touched: &mut Touched) -> Result<()> {
    let Some(name) = some(random, &db.collections()?) else {
        return Ok(());
    };
    touched.collections.insert(name.clone());
    let fields = ["age", "visits", "name", "n", "tags", "other"];
    let field = fields[random.below(fields.len() as u64) as usize];
    let filter = Filter::gte(field, random.below(9) as i64);
    match random.below(12) {
        0 => drop(db.query(&name).matching(filter).delete().wait()?),
        1 => {
            let patch = Patch::new().set("other", 5).unset(field);
            db.query(&name).matching(filter).update(patch).wait()?;
        }
        2 => db.create_index(&name, Index::on([field])).wait()?,
        3 => db.drop_index(&name, field).wait()?,
        4 => {
            let schema = Schema::new().field(Field::new(field, FieldType::Int).indexed());
            db.alter_collection(&name, schema).wait()?;
        }
        5 => db.alter_collection(&name, Schema::new()).wait()?,
        6 => {
            touched.collections.insert("another".into());
            db.rename_collection(&name, "another")?;
        }
        7 => db.delete_collection(&name).wait()?,
        8 => {
            for n in 0..20 {
                let object =
                    Object::from([("name", Value::from(format!("new {n}"))), ("n", n.into())]);
                db.insert_into(&name, object)?;
            }
        }
        9 => {
            let collection = db.collection(&name)?;
            let ids = collection.query().limit(5).collect().wait()?;
            for document in ids {
                collection.delete(document.id.value().clone())?;
            }
        }
        10 => {
            let mut file = Vec::new();
            db.export(&name).write_json_lines(&mut file)?;
            let import = db.import(&name).if_there(aurora::IfThere::Replace);
            import.read_json_lines(&file[..])?;
        }
        _ => drop(
            db.query(&name)
                .matching(filter)
                .order_by(field, false)
                .page(3)
                .wait()?,
        ),
    }
    Ok(())
}

/// Works in what was opened, and opens it again.
pub fn try_work(mut open: impl FnMut() -> Result<Aurora>, random: &mut Random) {
    let Ok(db) = open() else { return };
    let is_sound = db.check().is_ok();
    let before = see(&db);
    let touched = work(&db, random);
    if is_sound {
        before.compare(&see(&db), &touched, "at once");
    }
    if random.chance(3) {
        let _ = db.compact();
    }
    let closed = db.close();
    let again = open();
    for error in closed
        .as_ref()
        .err()
        .into_iter()
        .chain(again.as_ref().err())
    {
        assert!(!is_sound && error.is_corruption(), "{error:?}");
    }
    if let Ok(db) = again {
        let after = see(&db);
        if is_sound {
            before.compare(&after, &touched, "after an open");
            db.check().unwrap();
        }
    }
}
