//! PoloDB 5: documents as BSON in a RocksDB of its own. A commit syncs RocksDB's log, so every insert
//! is durable. Its indexes are of one field and for equality only: a range of moments, and an order of
//! all documents, is a scan. Orders are made by the program: its own `sort` sorts everything again for
//! each document that it gives (of 2,000 documents it took more than 0.4 s to give 20).

use std::path::{Path, PathBuf};

use polodb_core::bson::{Document, Regex, doc};
use polodb_core::{Collection, CollectionT, Database, IndexModel};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::documents::{Row, Rows};
use crate::engine::{Answer, Documents, Engine, Outcome, Question};

const COLLECTION: &str = "people";

#[derive(Serialize, Deserialize, Debug)]
struct Person {
    #[serde(rename = "_id")]
    id: i64,
    name: String,
    city: String,
    age: i64,
    score: f64,
    created: i64,
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
            created: row.created_ms,
            tags: row.tags.into(),
            note: row.note,
        }
    }
}

pub struct PoloEngine {
    db: Option<Database>,
    path: PathBuf,
}

impl PoloEngine {
    pub fn create(directory: &Path) -> Outcome<Self> {
        let path = directory.join("polo");
        let db = Database::open_path(&path)?;
        let people: Collection<Person> = db.collection(COLLECTION);
        for field in ["city", "age", "created"] {
            let keys = doc! { field: 1 };
            people.create_index(IndexModel {
                keys,
                options: None,
            })?;
        }
        Ok(PoloEngine { db: Some(db), path })
    }

    fn db(&self) -> Outcome<&Database> {
        Ok(self.db.as_ref().ok_or("closed")?)
    }

    fn people(&self) -> Outcome<Collection<Person>> {
        Ok(self.db()?.collection(COLLECTION))
    }

    fn count(&self, filter: Document) -> Outcome<u64> {
        let people = self.people()?;
        let pipeline = vec![doc! { "$match": filter }, doc! { "$count": "found" }];
        let mut counted = people.aggregate(pipeline).run()?;
        if !counted.advance()? {
            return Ok(0);
        }
        let found = counted.deserialize_current()?;
        let count = found.get_i64("found").or_else(|_| {
            let short = found.get_i32("found");
            short.map(i64::from)
        })?;
        Ok(count as u64)
    }

    fn documents(&self, question: &Question) -> Outcome<Vec<Person>> {
        let people = self.people()?;
        if let Question::Ids(ids) = question {
            let found = ids.iter().map(|id| people.find_one(doc! { "_id": *id }));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            return Ok(found.into_iter().flatten().collect());
        }
        let found = people.find(filter(question)).run()?;
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        match question {
            Question::Latest(rows) | Question::LatestOfCity(_, rows) => {
                found.sort_by_key(|person| std::cmp::Reverse((person.created, person.id)));
                found.truncate(*rows as usize);
            }
            Question::EarliestOfAge(_, rows) => {
                found.sort_by_key(|person| (person.created, person.id));
                found.truncate(*rows as usize);
            }
            _ => {}
        }
        Ok(found)
    }

    fn insert_people(&self, people: impl Iterator<Item = Person>) -> Outcome<()> {
        let transaction = self.db()?.start_transaction()?;
        { transaction.collection::<Person>(COLLECTION) }.insert_many(people)?;
        Ok(transaction.commit()?)
    }
}

fn filter(question: &Question) -> Document {
    match question {
        Question::City(city) | Question::LatestOfCity(city, _) => doc! { "city": city },
        Question::Created(low, high) | Question::CountCreated(low, high) => {
            doc! { "created": { "$gte": *low, "$lte": *high } }
        }
        Question::CountAges(low, high) => doc! { "age": { "$gte": *low, "$lte": *high } },
        Question::EarliestOfAge(age, _) => doc! { "age": { "$gte": *age } },
        Question::CountScore(score, word) | Question::Score(score, word) => {
            doc! { "score": { "$gt": *score }, "note": { "$regex": Regex { pattern: word.to_string(), options: String::new() } } }
        }
        Question::Latest(_) | Question::Ids(_) => Document::new(),
    }
}

impl Engine for PoloEngine {
    fn name(&self) -> &'static str {
        "polodb"
    }

    fn is_other(&self) -> bool {
        true
    }

    fn insert(&mut self, rows: &mut Rows) -> Outcome<()> {
        self.insert_people(rows.map(Person::from))
    }

    fn insert_one(&mut self, row: Row) -> Outcome<()> {
        self.people()?.insert_one(Person::from(row))?;
        Ok(())
    }

    fn settle(&mut self) -> Outcome<()> {
        Ok(()) // there is no call for it
    }

    fn analyze(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.db = None;
        self.db = Some(Database::open_path(&self.path)?);
        Ok(())
    }

    fn ask(&mut self, question: &Question) -> Outcome<Answer> {
        Ok(match question {
            Question::CountCreated(..) | Question::CountAges(..) | Question::CountScore(..) => {
                Answer::Count(self.count(filter(question))?)
            }
            _ => Answer::Documents(Box::new(Found(self.documents(question)?))),
        })
    }

    fn plan(&mut self, question: &Question) -> Outcome<String> {
        let plan = match question {
            Question::City(_) => "the index of city",
            Question::LatestOfCity(..) => "the index of city, sorted by the program",
            Question::Ids(_) => "one lookup for each",
            Question::Latest(_) | Question::EarliestOfAge(..) => "a scan, sorted by the program",
            _ => "a scan",
        };
        Ok(plan.to_string())
    }

    fn bytes(&self) -> Outcome<u64> {
        let mut bytes = 0;
        for file in std::fs::read_dir(&self.path)? {
            bytes += file?.metadata()?.len();
        }
        Ok(bytes)
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
                "created": person.created,
                "tags": person.tags,
                "note": person.note,
            });
            (person.id, content)
        });
        contents.collect()
    }
}
