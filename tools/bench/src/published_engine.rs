//! The published `aurora-db` crate, with its log on and each write waited for. It is async: a runtime
//! is kept for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aurora_db::{Aurora, AuroraConfig, Document, DurabilityMode};
use aurora_db::{FieldDefinition, FieldType, Value};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::documents::{Row, Rows};
use crate::engine::{Answer, Documents, Engine, Outcome, Question};

const COLLECTION: &str = "people";

pub struct PublishedEngine {
    runtime: Runtime,
    db: Option<Aurora>,
    path: PathBuf,
    /// It gives documents names of its own.
    names: HashMap<i64, String>,
}

fn fields(row: Row) -> HashMap<String, Value> {
    let fields = [
        ("id", Value::Int(row.id)),
        ("name", Value::String(row.name)),
        ("city", Value::String(row.city)),
        ("age", Value::Int(row.age)),
        ("score", Value::Float(row.score)),
        ("created", Value::Int(row.created_ms)),
        ("tags", Value::Array(row.tags.map(Value::String).into())),
        ("note", Value::String(row.note)),
    ];
    { fields.into_iter() }
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

impl PublishedEngine {
    pub fn create(directory: &Path) -> Outcome<Self> {
        let runtime = Runtime::new()?;
        let path = directory.join("published.db");
        let db = runtime.block_on(open(&path))?;
        let field = |name, field_type, indexed| {
            let definition = FieldDefinition {
                field_type,
                unique: false,
                indexed,
                nullable: false,
                validations: Vec::new(),
                relation: None,
            };
            (name, definition)
        };
        let fields: Vec<(&str, FieldDefinition)> = vec![
            field("id", FieldType::SCALAR_INT, false),
            field("name", FieldType::SCALAR_STRING, false),
            field("city", FieldType::SCALAR_STRING, true),
            field("age", FieldType::SCALAR_INT, true),
            field("score", FieldType::SCALAR_FLOAT, false),
            field("created", FieldType::SCALAR_INT, true),
            field("tags", FieldType::SCALAR_ARRAY, false),
            field("note", FieldType::SCALAR_STRING, false),
        ];
        runtime.block_on(db.new_collection(COLLECTION, fields))?;
        Ok(PublishedEngine {
            runtime,
            db: Some(db),
            path,
            names: HashMap::new(),
        })
    }

    fn db(&self) -> Outcome<&Aurora> {
        Ok(self.db.as_ref().ok_or("closed")?)
    }

    fn insert_rows(&mut self, rows: Vec<Row>) -> Outcome<()> {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let rows = rows.into_iter().map(fields).collect();
        let names = { &self.runtime }.block_on(self.db()?.batch_insert(COLLECTION, rows))?;
        self.names.extend(ids.into_iter().zip(names));
        Ok(())
    }

    fn documents(&self, question: &Question) -> Outcome<Vec<Document>> {
        let db = self.db()?;
        let query = db.query(COLLECTION);
        let query = match question {
            Question::City(city) => query.filter(|f| f.eq("city", city.as_str())),
            Question::Created(low, high) | Question::CountCreated(low, high) => {
                query.filter(|f| f.between("created", *low, *high))
            }
            Question::CountAges(low, high) => query.filter(|f| f.between("age", *low, *high)),
            Question::Latest(rows) => query.order_by("created", false).limit(*rows as usize),
            Question::EarliestOfAge(age, rows) => query
                .filter(|f| f.gte("age", *age))
                .order_by("created", true)
                .limit(*rows as usize),
            Question::LatestOfCity(city, rows) => query
                .filter(|f| f.eq("city", city.as_str()))
                .order_by("created", false)
                .limit(*rows as usize),
            Question::CountScore(score, word) | Question::Score(score, word) => query
                .filter(|f| f.gt("score", *score))
                .filter(|f| f.contains("note", word)),
            Question::Ids(ids) => {
                let names = ids.iter().filter_map(|id| self.names.get(id));
                let found = names.map(|name| db.get_document(COLLECTION, name));
                let found = found.collect::<Result<Vec<_>, _>>()?;
                return Ok(found.into_iter().flatten().collect());
            }
        };
        Ok(self.runtime.block_on(query.collect())?)
    }
}

async fn open(path: &Path) -> Outcome<Aurora> {
    let config = AuroraConfig {
        db_path: path.to_path_buf(),
        enable_wal: true,
        durability_mode: DurabilityMode::Strict,
        ..Default::default()
    };
    Ok(Aurora::with_config(config).await?)
}

impl Engine for PublishedEngine {
    fn name(&self) -> &'static str {
        "aurora-db 0.6"
    }

    fn is_other(&self) -> bool {
        true
    }

    fn insert(&mut self, rows: &mut Rows) -> Outcome<()> {
        loop {
            let some: Vec<Row> = rows.by_ref().take(10_000).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.insert_rows(some)?;
        }
    }

    fn insert_one(&mut self, row: Row) -> Outcome<()> {
        self.insert_rows(vec![row])
    }

    fn settle(&mut self) -> Outcome<()> {
        Ok(self.db()?.flush()?)
    }

    fn analyze(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.db()?.flush()?;
        self.db = None;
        self.db = Some(self.runtime.block_on(open(&self.path))?);
        Ok(())
    }

    fn ask(&mut self, question: &Question) -> Outcome<Answer> {
        let found = self.documents(question)?;
        Ok(match question {
            Question::CountCreated(..) | Question::CountAges(..) | Question::CountScore(..) => {
                Answer::Count(found.len() as u64)
            }
            _ => Answer::Documents(Box::new(Found(found))),
        })
    }

    fn plan(&mut self, _: &Question) -> Outcome<String> {
        Ok("not told".to_string())
    }

    fn bytes(&self) -> Outcome<u64> {
        let mut total = 0;
        let directory = self.path.parent().ok_or("no directory")?;
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("published") {
                total += size(&entry.path())?;
            }
        }
        Ok(total)
    }
}

fn size(path: &Path) -> Outcome<u64> {
    if !path.is_dir() {
        return Ok(std::fs::metadata(path)?.len());
    }
    let mut total = 0;
    for entry in std::fs::read_dir(path)? {
        total += size(&entry?.path())?;
    }
    Ok(total)
}

struct Found(Vec<Document>);

fn tag(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

impl Documents for Found {
    fn contents(&self) -> Vec<(i64, serde_json::Value)> {
        let contents = self.0.iter().map(|document| {
            let text = |name: &str| match document.data.get(name) {
                Some(Value::String(text)) => Some(text.clone()),
                _ => None,
            };
            let int = |name: &str| match document.data.get(name) {
                Some(Value::Int(number)) => Some(*number),
                _ => None,
            };
            let score = match document.data.get("score") {
                Some(Value::Float(score)) => Some(*score),
                _ => None,
            };
            let tags: Vec<_> = match document.data.get("tags") {
                Some(Value::Array(tags)) => tags.iter().map(tag).collect(),
                _ => Vec::new(),
            };
            let content = json!({
                "id": int("id"),
                "name": text("name"),
                "city": text("city"),
                "age": int("age"),
                "score": score,
                "created": int("created"),
                "tags": tags,
                "note": text("note"),
            });
            (int("id").unwrap_or(-1), content)
        });
        contents.collect()
    }
}
