//! native_db: a struct for each document, its indexes are secondary keys. On redb; every commit is
//! durable.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use native_db::{Builder, Database, Models, ToKey, native_db};
use native_model::{Model, native_model};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::documents::{Row, Rows};
use crate::engine::{Answer, Documents, Engine, Outcome, Question};

#[derive(Serialize, Deserialize, Debug)]
#[native_model(id = 1, version = 1)]
#[native_db]
struct Person {
    #[primary_key]
    id: i64,
    name: String,
    #[secondary_key]
    city: String,
    #[secondary_key]
    age: i64,
    score: f64,
    #[secondary_key]
    created_ms: i64,
    tags: Vec<String>,
    note: String,
}

impl From<Row> for Person {
    fn from(row: Row) -> Self {
        Person {
            id: row.id,
            name: row.name,
            city: row.city,
            age: row.age,
            score: row.score,
            created_ms: row.created_ms,
            tags: row.tags.into(),
            note: row.note,
        }
    }
}

static MODELS: LazyLock<Models> = LazyLock::new(|| {
    let mut models = Models::new();
    models.define::<Person>().expect("the model is sound");
    models
});

pub struct NativeEngine {
    db: Option<Database<'static>>,
    path: PathBuf,
}

impl NativeEngine {
    pub fn create(directory: &Path) -> Outcome<Self> {
        let path = directory.join("native.db");
        let db = Some(Builder::new().create(&MODELS, &path)?);
        Ok(NativeEngine { db, path })
    }

    fn db(&self) -> Outcome<&Database<'static>> {
        Ok(self.db.as_ref().ok_or("closed")?)
    }

    fn documents(&self, question: &Question) -> Outcome<Vec<Person>> {
        let reading = self.db()?.r_transaction()?;
        let scan = reading.scan();
        let mut found = Vec::new();
        match question {
            Question::City(city) => {
                let scan = scan.secondary::<Person>(PersonKey::city)?;
                for person in scan.range(&**city..=&**city)? {
                    found.push(person?);
                }
            }
            Question::Created(low, high) | Question::CountCreated(low, high) => {
                let scan = scan.secondary::<Person>(PersonKey::created_ms)?;
                for person in scan.range(*low..=*high)? {
                    found.push(person?);
                }
            }
            Question::CountAges(low, high) => {
                let scan = scan.secondary::<Person>(PersonKey::age)?;
                for person in scan.range(*low..=*high)? {
                    found.push(person?);
                }
            }
            Question::Latest(rows) => {
                let scan = scan.secondary::<Person>(PersonKey::created_ms)?;
                for person in scan.all()?.rev().take(*rows as usize) {
                    found.push(person?);
                }
            }
            Question::EarliestOfAge(age, rows) => {
                let scan = scan.secondary::<Person>(PersonKey::created_ms)?;
                for person in scan.all()? {
                    let person = person?;
                    if person.age >= *age {
                        found.push(person);
                    }
                    if found.len() as u64 == *rows {
                        break;
                    }
                }
            }
            Question::LatestOfCity(city, rows) => {
                found = self.documents(&Question::City(city.clone()))?;
                found.sort_by_key(|person| std::cmp::Reverse(person.created_ms));
                found.truncate(*rows as usize);
            }
            Question::CountScore(score, word) | Question::Score(score, word) => {
                let scan = scan.primary::<Person>()?;
                for person in scan.all()? {
                    let person = person?;
                    if person.score > *score && person.note.contains(word) {
                        found.push(person);
                    }
                }
            }
            Question::Ids(ids) => {
                for id in ids {
                    found.extend(reading.get().primary::<Person>(*id)?);
                }
            }
        }
        Ok(found)
    }
}

impl Engine for NativeEngine {
    fn name(&self) -> &'static str {
        "native_db"
    }

    fn is_other(&self) -> bool {
        true
    }

    fn insert(&mut self, rows: &mut Rows) -> Outcome<()> {
        let writing = self.db()?.rw_transaction()?;
        for row in rows {
            writing.insert(Person::from(row))?;
        }
        Ok(writing.commit()?)
    }

    fn insert_one(&mut self, row: Row) -> Outcome<()> {
        let writing = self.db()?.rw_transaction()?;
        writing.insert(Person::from(row))?;
        Ok(writing.commit()?)
    }

    fn settle(&mut self) -> Outcome<()> {
        Ok(()) // it has no log
    }

    fn analyze(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.db = None;
        self.db = Some(Builder::new().open(&MODELS, &self.path)?);
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
        Ok("as the program says".to_string())
    }

    fn bytes(&self) -> Outcome<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }
}

struct Found(Vec<Person>);

impl Documents for Found {
    fn contents(&self) -> Vec<(i64, serde_json::Value)> {
        let contents = self.0.iter().map(|person| {
            let content = json!({
                "id": person.id,
                "name": person.name,
                "city": person.city,
                "age": person.age,
                "score": person.score,
                "created": person.created_ms,
                "tags": person.tags,
                "note": person.note,
            });
            (person.id, content)
        });
        contents.collect()
    }
}
