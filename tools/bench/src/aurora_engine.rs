//! Aurora with default options.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aurora::{
    Aurora, Collection, Document, Field, FieldType, Index, Object, Patch, Query, Schema, Timestamp,
    Value,
};
use serde_json::json;

use crate::documents::{Row, Rows};
use crate::engine::{Answer, Change, Documents, Engine, Finding, Outcome, Question, Survey};

pub struct AuroraEngine {
    db: Aurora,
    path: PathBuf,
    collection: Collection,
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("times of documents are in range")
}

fn object(row: Row) -> Object {
    Object::from([
        ("id", Value::Int(row.id)),
        ("name", Value::String(row.name)),
        ("city", Value::String(row.city)),
        ("age", Value::Int(row.age)),
        ("score", Value::Float(row.score)),
        ("created", Value::DateTime(time(row.created_ms))),
        ("tags", Value::Array(row.tags.map(Value::String).into())),
        ("note", Value::String(row.note)),
    ])
}

impl AuroraEngine {
    pub fn create(directory: &Path) -> Outcome<Self> {
        let path = directory.join("aurora.db");
        let db = Aurora::open(&path)?;
        let schema = Schema::new()
            .field(Field::new("id", FieldType::Int))
            .field(Field::new("name", FieldType::String))
            .field(Field::new("city", FieldType::String).indexed())
            .field(Field::new("age", FieldType::Int).indexed())
            .field(Field::new("score", FieldType::Float))
            .field(Field::new("created", FieldType::DateTime).indexed())
            .field(Field::new("tags", FieldType::String))
            .field(Field::new("note", FieldType::String));
        db.new_collection("people", schema)?;
        let collection = db.collection("people")?;
        Ok(AuroraEngine {
            db,
            path,
            collection,
        })
    }

    fn query<'q>(&self, question: &'q Question) -> Option<Query<'q>> {
        let query = self.collection.query();
        let between = |low: &i64, high: &i64| (time(*low), time(*high));
        Some(match question {
            Question::City(city) => query.filter(move |f| f.eq("city", city)),
            Question::Created(low, high) | Question::CountCreated(low, high) => {
                let (low, high) = between(low, high);
                query.filter(move |f| f.between("created", low, high))
            }
            Question::CountAges(low, high) => query.filter(move |f| f.between("age", *low, *high)),
            Question::Latest(rows) => query.order_by("created", false).limit(*rows),
            Question::EarliestOfAge(age, rows) => query
                .filter(move |f| f.gte("age", *age))
                .order_by("created", true)
                .limit(*rows),
            Question::LatestOfCity(city, rows) => query
                .filter(move |f| f.eq("city", city))
                .order_by("created", false)
                .limit(*rows),
            Question::CountScore(score, word) | Question::Score(score, word) => {
                query.filter(move |f| f.gt("score", *score) && f.contains("note", *word))
            }
            Question::Ids(_) => return None,
        })
    }
}

impl Engine for AuroraEngine {
    fn name(&self) -> &'static str {
        "aurora"
    }

    fn insert(&mut self, rows: &mut Rows) -> Outcome<()> {
        self.collection.insert_many(rows.map(object))?;
        Ok(())
    }

    fn insert_one(&mut self, row: Row) -> Outcome<()> {
        self.collection.insert_fields(object(row))?;
        Ok(())
    }

    fn settle(&mut self) -> Outcome<()> {
        Ok(self.db.checkpoint()?)
    }

    fn analyze(&mut self) -> Outcome<()> {
        Ok(()) // counts are exact
    }

    fn reopen(&mut self) -> Outcome<()> {
        // The file is locked as long as a handle is there.
        let memory = Aurora::in_memory()?;
        memory.new_collection("people", Schema::schemaless())?;
        self.collection = memory.collection("people")?;
        std::mem::replace(&mut self.db, memory).close()?;
        self.db = Aurora::open(&self.path)?;
        self.collection = self.db.collection("people")?;
        Ok(())
    }

    fn ask(&mut self, question: &Question) -> Outcome<Answer> {
        if let Question::Ids(ids) = question {
            let found = ids.iter().map(|id| self.collection.get(*id));
            let found = found.collect::<aurora::Result<Vec<Option<Arc<Document>>>>>()?;
            let found: Vec<Arc<Document>> = found.into_iter().flatten().collect();
            return Ok(Answer::Documents(Box::new(Found(found))));
        }
        let query = self.query(question).ok_or("not a query")?;
        Ok(match question {
            Question::CountCreated(..) | Question::CountAges(..) | Question::CountScore(..) => {
                Answer::Count(query.count().wait()?)
            }
            _ => Answer::Documents(Box::new(Found(query.collect().wait()?))),
        })
    }

    fn survey(&mut self, survey: Survey) -> Outcome<Option<Vec<Finding>>> {
        let query = self.collection.query();
        let name = |document: &Document| {
            let name = document.get("name").and_then(Value::as_str);
            let id = document.id.value().as_int();
            (name.unwrap_or_default().to_string(), id.unwrap_or(-1), 0)
        };
        let grouped = |field: &str| -> Outcome<Vec<Finding>> {
            let groups = { self.collection.query() }.group_by(field);
            let groups = groups.count().max("created").collect().wait()?;
            let number = |value: Option<&Value>| match value {
                Some(Value::Int(number)) => *number,
                Some(Value::DateTime(time)) => time.as_millisecond(),
                _ => -1,
            };
            Ok({ groups.iter() }
                .map(|group| {
                    let results = [0, 1].map(|n| number(group.results.get(n)));
                    let key = match &group.key {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    (key, results[0], results[1])
                })
                .collect())
        };
        Ok(Some(match survey {
            Survey::Best(rows) => {
                let best = query
                    .order_by("score", false)
                    .limit(rows)
                    .collect()
                    .wait()?;
                best.iter().map(name).collect()
            }
            Survey::ByScore => {
                let rows = query.order_by("score", true).select(["name"]).rows()?;
                let rows = rows.map(|row| row.map(|row| name(&row)));
                rows.collect::<aurora::Result<_>>()?
            }
            Survey::Cities => grouped("city")?,
            Survey::Ages => grouped("age")?,
        }))
    }

    fn make_index(&mut self) -> Outcome<Option<()>> {
        let made = self.db.create_index("people", Index::on(["score"]));
        Ok(Some(made.wait()?))
    }

    fn drop_index(&mut self) -> Outcome<()> {
        Ok(self.db.drop_index("people", "score").wait()?)
    }

    fn change(&mut self, change: Change, low_ms: i64, high_ms: i64) -> Outcome<Option<u64>> {
        let (low, high) = (time(low_ms), time(high_ms));
        let found = { self.collection.query() }.filter(move |f| f.between("created", low, high));
        let changed = match change {
            Change::Older => found.update(Patch::new().inc("age", 1)),
            Change::Better => found.update(Patch::new().inc("score", 0.5)),
            Change::Gone => found.delete(),
        };
        Ok(Some(changed.wait()?))
    }

    fn plan(&mut self, question: &Question) -> Outcome<String> {
        Ok(match self.query(question) {
            Some(query) => query.explain().wait()?.to_string(),
            None => "by id".to_string(),
        })
    }

    fn bytes(&self) -> Outcome<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }
}

/// Documents, shared or not.
struct Found<D>(Vec<D>);

impl<D: Borrow<Document>> Documents for Found<D> {
    fn contents(&self) -> Vec<(i64, serde_json::Value)> {
        let contents = self.0.iter().map(|document| {
            let document: &Document = document.borrow();
            let text = |name: &str| document.get(name).and_then(Value::as_str);
            let int = |name: &str| document.get(name).and_then(Value::as_int);
            let created = match document.get("created") {
                Some(Value::DateTime(time)) => Some(time.as_millisecond()),
                _ => None,
            };
            let tags = document.get("tags").and_then(Value::as_array);
            let tags: Vec<_> = { tags.into_iter().flatten() }.map(Value::as_str).collect();
            let content = json!({
                "id": int("id"),
                "name": text("name"),
                "city": text("city"),
                "age": int("age"),
                "score": document.get("score").and_then(Value::as_float),
                "created": created,
                "tags": tags,
                "note": text("note"),
            });
            (document.id.value().as_int().unwrap_or(-1), content)
        });
        contents.collect()
    }
}
