//! SQLite as its users would set it up for this: one JSON column, expression indexes, WAL, each
//! commit on the disk, prepared statements, as much memory for pages as Aurora has, and a map of
//! the file.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ToSql, params};
use serde_json::{Value, json};

use crate::documents::{Row, Rows};
use crate::engine::{Answer, Change, Documents, Engine, Finding, Outcome, Question, Survey};

/// How documents are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As text. They come back as text.
    Text,
    /// As text. They come back parsed, like Aurora's.
    Parsed,
    /// As JSONB, SQLite's binary form: slower to insert, faster to look into. They come back as text.
    Binary,
}

pub struct SqliteEngine {
    connection: Connection,
    path: PathBuf,
    form: Form,
}

impl SqliteEngine {
    pub fn create(directory: &Path, form: Form) -> Outcome<Self> {
        let (file, kind) = match form {
            Form::Binary => ("sqlite-jsonb.db", "BLOB"),
            _ => ("sqlite.db", "TEXT"),
        };
        let path = directory.join(file);
        let engine = SqliteEngine::open(&path, form)?;
        engine.connection.execute_batch(&format!(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, doc {kind} NOT NULL);
             CREATE INDEX people_city ON people (json_extract(doc, '$.city'));
             CREATE INDEX people_age ON people (json_extract(doc, '$.age'));
             CREATE INDEX people_created ON people (json_extract(doc, '$.created'));"
        ))?;
        Ok(engine)
    }

    pub fn open(path: &Path, form: Form) -> Outcome<Self> {
        let connection = Connection::open(path)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA cache_size = -262144;
             PRAGMA mmap_size = 4294967296;
             PRAGMA temp_store = MEMORY;",
        )?;
        Ok(SqliteEngine {
            connection,
            path: path.to_path_buf(),
            form,
        })
    }

    fn insert_sql(&self) -> &'static str {
        match self.form {
            Form::Binary => "INSERT INTO people (id, doc) VALUES (?1, jsonb(?2))",
            _ => "INSERT INTO people (id, doc) VALUES (?1, ?2)",
        }
    }

    /// The statement for a question, with a result of documents or of a count.
    fn sql(&self, question: &Question) -> String {
        let doc = match self.form {
            Form::Binary => "json(doc)",
            _ => "doc",
        };
        let rest = match question {
            Question::City(_) => "WHERE json_extract(doc, '$.city') = ?1",
            Question::Created(..) | Question::CountCreated(..) => {
                "WHERE json_extract(doc, '$.created') BETWEEN ?1 AND ?2"
            }
            Question::CountAges(..) => "WHERE json_extract(doc, '$.age') BETWEEN ?1 AND ?2",
            Question::Latest(_) => "ORDER BY json_extract(doc, '$.created') DESC, id DESC LIMIT ?1",
            Question::EarliestOfAge(..) => {
                "WHERE json_extract(doc, '$.age') >= ?1
                 ORDER BY json_extract(doc, '$.created'), id LIMIT ?2"
            }
            Question::LatestOfCity(..) => {
                "WHERE json_extract(doc, '$.city') = ?1
                 ORDER BY json_extract(doc, '$.created') DESC, id DESC LIMIT ?2"
            }
            Question::CountScore(..) | Question::Score(..) => {
                "WHERE json_extract(doc, '$.score') > ?1
                 AND instr(json_extract(doc, '$.note'), ?2) > 0"
            }
            Question::Ids(_) => "WHERE id = ?1",
        };
        let what = match question {
            Question::CountCreated(..) | Question::CountAges(..) | Question::CountScore(..) => {
                "count(*)"
            }
            _ => &format!("id, {doc}"),
        };
        format!("SELECT {what} FROM people {rest}")
    }
}

fn parameters(question: &Question) -> Vec<Box<dyn ToSql>> {
    match question.clone() {
        Question::City(city) => vec![Box::new(city)],
        Question::Created(low, high)
        | Question::CountCreated(low, high)
        | Question::CountAges(low, high) => vec![Box::new(low), Box::new(high)],
        Question::Latest(rows) => vec![Box::new(rows as i64)],
        Question::EarliestOfAge(age, rows) => vec![Box::new(age), Box::new(rows as i64)],
        Question::LatestOfCity(city, rows) => vec![Box::new(city), Box::new(rows as i64)],
        Question::CountScore(score, word) | Question::Score(score, word) => {
            vec![Box::new(score), Box::new(word)]
        }
        Question::Ids(_) => Vec::new(),
    }
}

fn text(row: &Row) -> String {
    json!({
        "id": row.id,
        "name": row.name,
        "city": row.city,
        "age": row.age,
        "score": row.score,
        "created": row.created_ms,
        "tags": row.tags,
        "note": row.note,
    })
    .to_string()
}

/// Documents as text.
struct Texts(Vec<(i64, String)>);

impl Documents for Texts {
    fn contents(&self) -> Vec<(i64, Value)> {
        let parsed = |text: &str| serde_json::from_str(text).unwrap_or_default();
        { self.0.iter() }
            .map(|(id, text)| (*id, parsed(text)))
            .collect()
    }
}

impl Documents for Vec<(i64, Value)> {
    fn contents(&self) -> Vec<(i64, Value)> {
        self.clone()
    }
}

impl Engine for SqliteEngine {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Text => "sqlite",
            Form::Parsed => "sqlite, parsed",
            Form::Binary => "sqlite, jsonb",
        }
    }

    fn insert(&mut self, rows: &mut Rows) -> Outcome<()> {
        let sql = self.insert_sql();
        let transaction = self.connection.transaction()?;
        let mut insert = transaction.prepare_cached(sql)?;
        for row in rows {
            insert.execute(params![row.id, text(&row)])?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    fn insert_one(&mut self, row: Row) -> Outcome<()> {
        let mut insert = self.connection.prepare_cached(self.insert_sql())?;
        insert.execute(params![row.id, text(&row)])?;
        Ok(())
    }

    fn settle(&mut self) -> Outcome<()> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let blocked: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
        if blocked != 0 {
            return Err("SQLite's checkpoint was blocked".into());
        }
        Ok(())
    }

    fn analyze(&mut self) -> Outcome<()> {
        Ok(self.connection.execute_batch("ANALYZE")?)
    }

    fn reopen(&mut self) -> Outcome<()> {
        *self = SqliteEngine::open(&self.path, self.form)?;
        Ok(())
    }

    fn ask(&mut self, question: &Question) -> Outcome<Answer> {
        let mut select = self.connection.prepare_cached(&self.sql(question))?;
        if let Question::CountCreated(..) | Question::CountAges(..) | Question::CountScore(..) =
            question
        {
            let parameters = rusqlite::params_from_iter(parameters(question));
            let count: i64 = select.query_row(parameters, |row| row.get(0))?;
            return Ok(Answer::Count(count as u64));
        }
        let mut found: Vec<(i64, String)> = Vec::new();
        let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        if let Question::Ids(ids) = question {
            for id in ids {
                found.push(select.query_row([id], pair)?);
            }
        } else {
            let parameters = rusqlite::params_from_iter(parameters(question));
            for row in select.query_map(parameters, pair)? {
                found.push(row?);
            }
        }
        if self.form != Form::Parsed {
            return Ok(Answer::Documents(Box::new(Texts(found))));
        }
        let parsed = { found.into_iter() }
            .map(|(id, text)| Ok((id, serde_json::from_str(&text)?)))
            .collect::<Outcome<Vec<(i64, Value)>>>()?;
        Ok(Answer::Documents(Box::new(parsed)))
    }

    fn survey(&mut self, survey: Survey) -> Outcome<Option<Vec<Finding>>> {
        let group = |field: &str| {
            format!(
                "SELECT CAST(json_extract(doc, '$.{field}') AS TEXT), count(*), max(json_extract(doc, '$.created'))
                 FROM people GROUP BY json_extract(doc, '$.{field}') ORDER BY json_extract(doc, '$.{field}')"
            )
        };
        let name = "SELECT json_extract(doc, '$.name'), id, 0 FROM people ORDER BY json_extract(doc, '$.score')";
        let sql = match survey {
            Survey::Best(rows) => format!("{name} DESC, id DESC LIMIT {rows}"),
            Survey::ByScore => format!("{name}, id"),
            Survey::Cities => group("city"),
            Survey::Ages => group("age"),
        };
        let mut select = self.connection.prepare_cached(&sql)?;
        let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(Some(found.collect::<Result<_, _>>()?))
    }

    fn make_index(&mut self) -> Outcome<Option<()>> {
        let sql = "CREATE INDEX people_score ON people (json_extract(doc, '$.score'))";
        Ok(Some(self.connection.execute_batch(sql)?))
    }

    fn drop_index(&mut self) -> Outcome<()> {
        Ok(self.connection.execute_batch("DROP INDEX people_score")?)
    }

    fn change(&mut self, change: Change, low_ms: i64, high_ms: i64) -> Outcome<Option<u64>> {
        let set = match self.form {
            Form::Binary => "jsonb_set",
            _ => "json_set",
        };
        let update = |field: &str, more: &str| {
            format!(
                "UPDATE people SET doc = {set}(doc, '$.{field}', json_extract(doc, '$.{field}') + {more})"
            )
        };
        let what = match change {
            Change::Older => update("age", "1"),
            Change::Better => update("score", "0.5"),
            Change::Gone => "DELETE FROM people".to_string(),
        };
        let sql = format!("{what} WHERE json_extract(doc, '$.created') BETWEEN ?1 AND ?2");
        let mut change = self.connection.prepare_cached(&sql)?;
        Ok(Some(change.execute([low_ms, high_ms])? as u64))
    }

    fn plan(&mut self, question: &Question) -> Outcome<String> {
        let sql = format!("EXPLAIN QUERY PLAN {}", self.sql(question));
        let mut explain = self.connection.prepare(&sql)?;
        let mut parameters = parameters(question);
        if let Question::Ids(_) = question {
            parameters.push(Box::new(1));
        }
        let parameters = rusqlite::params_from_iter(parameters);
        let steps = explain.query_map(parameters, |row| row.get::<_, String>(3))?;
        Ok(steps.collect::<Result<Vec<_>, _>>()?.join("; "))
    }

    fn bytes(&self) -> Outcome<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }
}
