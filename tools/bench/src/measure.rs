//! The order of events: loads first, then questions, with the engines taking turns.

use std::path::Path;
use std::time::{Duration, Instant};

use aurora_bench::{Random, mean, median};
use rustix::fs::{Advice, fadvise};
use rustix::time::{ClockId, clock_gettime};

use crate::Options;
use crate::aurora_engine::AuroraEngine;
use crate::documents::{FIRST_MS, SPAN_MS, Source, WORDS};
use crate::engine::{Answer, Change, Engine, Outcome, Question, Survey};
use crate::report::{Bar, Line};
use crate::sqlite_engine::{Form, SqliteEngine};

const SEED: u64 = 20_261_122;
const BATCH: i64 = 10_000;
/// Inserts one by one.
const SINGLE: i64 = 200;
const PARSED: usize = 2;
/// How often the engines take turns at a kind of question.
const BLOCKS: usize = 5;

pub struct Run<'o> {
    options: &'o Options,
    directory: &'o Path,
    source: Source,
    pub names: Vec<&'static str>,
    pub lines: Vec<Line>,
    /// Documents that were inserted one by one, behind those of the source.
    inserted: i64,
    pub remarks: Vec<String>,
}

#[cfg(feature = "polodb")]
const POLODB: &str = "PoloDB syncs every commit. Its indexes are for equality: ranges of moments and \
                      ages, and orders of all documents, are scans; the program sorts, as its `sort` \
                      sorts again for each row.";
#[cfg(not(feature = "polodb"))]
const POLODB: &str = "PoloDB 5 is in a program of its own (`polodb`): it links a RocksDB of its own, \
                      and one package cannot have two.";

/// A kind of question.
struct Kind {
    what: &'static str,
    bar: Option<Bar>,
    rounds: usize,
    make: fn(&Source, &mut Random) -> Question,
}

/// What an engine has in memory when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Anything,
    /// Nothing: it is opened again for each question, with the files in nobody's memory.
    Nothing,
}

const EQUALITY: fn(&Source, &mut Random) -> Question =
    |source, random| Question::City(source.city(random.below(source.cities())));

/// Asked before anything else, of files that were just opened.
const COLD: Kind = Kind {
    what: "equality, right after opening",
    bar: None,
    rounds: 25,
    make: EQUALITY,
};

/// Asked with nothing in memory, neither the engine's nor the system's.
const FROM_DEVICE: [Kind; 3] = [
    Kind {
        what: "equality, all of it from the device",
        bar: Some(Bar(1.0)),
        rounds: 25,
        make: EQUALITY,
    },
    Kind {
        what: "range: 1,000 documents between two moments, from the device",
        bar: Some(Bar(1.0)),
        rounds: 10,
        make: |source, random| {
            let (low, high) = window(source, random, 1000);
            Question::Created(low, high)
        },
    },
    Kind {
        what: "full scan, two conditions, count, from the device",
        bar: Some(Bar(1.0)),
        rounds: 5,
        make: |_, random| {
            let word = WORDS[random.below(WORDS.len() as u64) as usize];
            Question::CountScore(60.0 + random.below(30) as f64, word)
        },
    },
];

const KINDS: [Kind; 10] = [
    Kind {
        what: "equality: all documents of a city",
        bar: Some(Bar(2.0)),
        rounds: 101,
        make: EQUALITY,
    },
    Kind {
        what: "range: 1,000 documents between two moments",
        bar: Some(Bar(2.0)),
        rounds: 51,
        make: |source, random| {
            let (low, high) = window(source, random, 1000);
            Question::Created(low, high)
        },
    },
    Kind {
        what: "count of a tenth, between two moments",
        bar: None,
        rounds: 51,
        make: |source, random| {
            let (low, high) = window(source, random, source.documents / 10);
            Question::CountCreated(low, high)
        },
    },
    Kind {
        what: "count of ages from 20 to 29",
        bar: None,
        rounds: 21,
        make: |_, _| Question::CountAges(20, 29),
    },
    Kind {
        what: "order_by, limit 20",
        bar: Some(Bar(2.0)),
        rounds: 201,
        make: |_, _| Question::Latest(20),
    },
    Kind {
        what: "order_by, limit 20, of age 90 and above",
        bar: Some(Bar(2.0)),
        rounds: 101,
        make: |_, random| Question::EarliestOfAge(90 - random.below(2) as i64, 20),
    },
    Kind {
        what: "order_by, limit 20, of a city",
        bar: Some(Bar(2.0)),
        rounds: 101,
        make: |source, random| {
            Question::LatestOfCity(source.city(random.below(source.cities())), 20)
        },
    },
    Kind {
        what: "full scan, two conditions, count",
        bar: Some(Bar(1.0)),
        rounds: 5,
        make: |_, random| {
            let word = WORDS[random.below(WORDS.len() as u64) as usize];
            Question::CountScore(60.0 + random.below(30) as f64, word)
        },
    },
    Kind {
        what: "full scan, two conditions, documents",
        bar: Some(Bar(1.0)),
        rounds: 5,
        make: |_, random| {
            let word = WORDS[random.below(WORDS.len() as u64) as usize];
            Question::Score(60.0 + random.below(30) as f64, word)
        },
    },
    Kind {
        what: "100 documents by their ids",
        bar: None,
        rounds: 101,
        make: |source, random| {
            let id = |_| random.below(source.documents) as i64 + 1;
            Question::Ids((0..100).map(id).collect())
        },
    },
];

/// Looks at all documents.
const SURVEYS: [(&str, Survey); 4] = [
    ("no index: the 20 highest scores", Survey::Best(20)),
    ("no index: all names, by score", Survey::ByScore),
    ("groups: count and latest of each city", Survey::Cities),
    ("groups: count and latest of each age", Survey::Ages),
];
const SURVEY_ROUNDS: usize = 3;
const MAKE_INDEX: &str = "an index more, of the scores";

/// What becomes of a tenth of the documents, by a query on an index.
const CHANGES: [(&str, Change); 3] = [
    (
        "update of a tenth, a field that an index has",
        Change::Older,
    ),
    (
        "update of a tenth, a field that no index has",
        Change::Better,
    ),
    ("delete of a tenth", Change::Gone),
];
const CHANGE_ROUNDS: usize = 3;

/// Two moments with about so many documents between.
fn window(source: &Source, random: &mut Random, documents: u64) -> (i64, i64) {
    let share = documents.min(source.documents) as f64 / source.documents as f64;
    let length = (SPAN_MS as f64 * share) as i64;
    let low = FIRST_MS + random.below((SPAN_MS - length).max(1) as u64) as i64;
    (low, low + length)
}

type Engines = Vec<Box<dyn Engine>>;

impl<'o> Run<'o> {
    pub fn new(options: &'o Options, directory: &'o Path) -> Self {
        Run {
            options,
            directory,
            source: Source {
                documents: options.documents,
                seed: SEED,
            },
            names: Vec::new(),
            inserted: 0,
            lines: Vec::new(),
            remarks: vec![POLODB.to_string()],
        }
    }

    /// The time on the clock that questions are measured with. All are answered by this thread.
    fn now(&self) -> Duration {
        let clock = match self.options.cpu {
            true => ClockId::ThreadCPUTime,
            false => ClockId::Monotonic,
        };
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn engines(&self, name: &str) -> Outcome<Engines> {
        let directory = self.directory.join(name);
        std::fs::create_dir(&directory)?;
        let mut engines: Engines = vec![
            Box::new(AuroraEngine::create(&directory)?),
            Box::new(SqliteEngine::create(&directory, Form::Text)?),
            Box::new(SqliteEngine::create(&directory, Form::Binary)?),
        ];
        for other in &self.options.others {
            engines.push(create_other(other, &directory)?);
        }
        Ok(engines)
    }

    pub fn everything(&mut self) -> Outcome<()> {
        let batches = self.load_in_batches()?;
        drop(batches);
        std::fs::remove_dir_all(self.directory.join("batches"))?;
        let mut engines = self.load_at_once()?;
        let parsed = SqliteEngine::open(&self.directory.join("whole/sqlite.db"), Form::Parsed)?;
        engines.insert(PARSED, Box::new(parsed));
        self.names = engines.iter().map(|engine| engine.name()).collect();
        for engine in &mut engines {
            engine.reopen()?;
        }
        self.ask(&mut engines, &COLD, Before::Anything, 1)?;
        // From here on everything has been read once.
        let everything = Question::CountScore(0.0, "e");
        for engine in &mut engines {
            engine.ask(&everything)?;
        }
        for kind in &KINDS {
            if kind.what.contains(&self.options.only) {
                self.ask(&mut engines, kind, Before::Anything, self.options.repeat)?;
            }
        }
        for (what, survey) in SURVEYS {
            if what.contains(&self.options.only) {
                self.survey(&mut engines, what, survey)?;
            }
        }
        if MAKE_INDEX.contains(&self.options.only) {
            self.make_index(&mut engines)?;
        }
        self.insert_singly(&mut engines, "insert of one document, durable", median)?;
        // Last, as it leaves the system's memory in small pieces.
        for kind in &FROM_DEVICE {
            if kind.what.contains(&self.options.only) {
                self.ask(&mut engines, kind, Before::Nothing, 1)?;
            }
        }
        for engine in &mut engines {
            engine.reopen()?;
        }
        drop_from_memory(&self.directory.join("whole"))?;
        // What one insert reads is there for the next: a few take most of the time, and a median would not show them.
        let what = "insert of one document, durable, mean of 200 after the files left memory";
        self.insert_singly(&mut engines, what, mean)?;
        for engine in &mut engines {
            engine.ask(&everything)?;
        }
        for (what, change) in CHANGES {
            if what.contains(&self.options.only) {
                self.change(&mut engines, what, change)?;
            }
        }
        Ok(())
    }

    /// All find the same, in the same order.
    fn survey(&mut self, engines: &mut Engines, what: &'static str, survey: Survey) -> Outcome<()> {
        let mut times = vec![Vec::new(); engines.len()];
        let mut first = None;
        for turn in 0..SURVEY_ROUNDS {
            for place in 0..engines.len() {
                let i = (place + turn) % engines.len();
                let start = self.now();
                let Some(found) = engines[i].survey(survey)? else {
                    continue;
                };
                times[i].push(self.now() - start);
                if *first.get_or_insert_with(|| found.clone()) != found || found.is_empty() {
                    return Err(format!("{} finds otherwise: {what}", engines[i].name()).into());
                }
            }
        }
        self.lines.push(Line {
            what,
            bar: Some(Bar(1.0)),
            seconds: times.into_iter().map(median).collect(),
            note: format!("{} rows", first.map_or(0, |found| found.len())),
        });
        Ok(())
    }

    fn make_index(&mut self, engines: &mut Engines) -> Outcome<()> {
        let mut times = vec![Vec::new(); engines.len()];
        for turn in 0..SURVEY_ROUNDS {
            for place in 0..engines.len() {
                let i = (place + turn) % engines.len();
                if i == PARSED {
                    continue; // the file of another
                }
                let start = Instant::now();
                if engines[i].make_index()?.is_some() {
                    times[i].push(start.elapsed());
                    engines[i].drop_index()?;
                }
            }
        }
        self.lines.push(Line {
            what: MAKE_INDEX,
            bar: Some(Bar(1.0)),
            seconds: times.into_iter().map(median).collect(),
            note: String::new(),
        });
        Ok(())
    }

    /// All change the same documents, and answer the same afterwards.
    fn change(&mut self, engines: &mut Engines, what: &'static str, change: Change) -> Outcome<()> {
        let mut random = Random::new(SEED);
        let mut times = vec![Vec::new(); engines.len()];
        let mut rows = 0;
        for turn in 0..CHANGE_ROUNDS {
            let (low, high) = window(&self.source, &mut random, self.source.documents / 10);
            let mut first = None;
            for place in 0..engines.len() {
                let i = (place + turn) % engines.len();
                if i == PARSED {
                    continue; // the file of another
                }
                let start = Instant::now();
                let Some(changed) = engines[i].change(change, low, high)? else {
                    continue;
                };
                times[i].push(start.elapsed());
                rows = *first.get_or_insert(changed);
                if changed != rows || rows == 0 {
                    let name = engines[i].name();
                    return Err(format!("{name} changed {changed} documents, not {rows}").into());
                }
            }
            for question in [Question::CountAges(20, 29), Question::CountScore(60.0, "a")] {
                let mut answers = Vec::new();
                for i in (0..engines.len()).filter(|i| !times[*i].is_empty()) {
                    match engines[i].ask(&question)? {
                        Answer::Count(count) => answers.push(count),
                        Answer::Documents(_) => return Err("not a count".into()),
                    }
                }
                if answers.iter().any(|count| *count != answers[0]) {
                    return Err(format!("after {what}, {question:?}: {answers:?}").into());
                }
            }
        }
        self.lines.push(Line {
            what,
            bar: Some(Bar(1.0)),
            seconds: times.into_iter().map(median).collect(),
            note: format!("{rows} rows"),
        });
        Ok(())
    }

    /// The engines take turns, batch by batch.
    fn load_in_batches(&mut self) -> Outcome<Engines> {
        let mut engines = self.engines("batches")?;
        let mut times = vec![Duration::ZERO; engines.len()];
        let documents = self.source.documents as i64;
        for first in (1..=documents).step_by(BATCH as usize) {
            for (engine, time) in engines.iter_mut().zip(&mut times) {
                let ids = first..(first + BATCH).min(documents + 1);
                *time += self.load(engine.as_mut(), ids)?;
            }
        }
        for (engine, time) in engines.iter_mut().zip(&mut times) {
            let start = Instant::now();
            engine.settle()?;
            *time += start.elapsed();
        }
        self.note_load("insert, transactions of 10,000", times, String::new());
        Ok(engines)
    }

    fn load_at_once(&mut self) -> Outcome<Engines> {
        let mut engines = self.engines("whole")?;
        let mut times = Vec::new();
        for engine in &mut engines {
            let mut time = self.load(engine.as_mut(), 1..self.source.documents as i64 + 1)?;
            let start = Instant::now();
            engine.settle()?;
            time += start.elapsed();
            times.push(time);
        }
        for engine in &mut engines {
            engine.analyze()?;
        }
        let mut sizes = Vec::new();
        for engine in &engines {
            sizes.push((engine.bytes()? >> 20).to_string());
        }
        let note = format!("files of {} MiB", sizes.join(", "));
        self.note_load("insert, one transaction", times, note);
        Ok(engines)
    }

    fn load(&self, engine: &mut dyn Engine, ids: std::ops::Range<i64>) -> Outcome<Duration> {
        let mut rows = self.source.rows(ids);
        let start = Instant::now();
        engine.insert(&mut rows)?;
        Ok(start.elapsed().saturating_sub(rows.making))
    }

    fn note_load(&mut self, what: &'static str, times: Vec<Duration>, note: String) {
        let mut seconds: Vec<_> = times.iter().map(|time| Some(time.as_secs_f64())).collect();
        seconds.insert(PARSED, None);
        eprintln!("{what}: {times:?}");
        self.lines.push(Line {
            what,
            bar: Some(Bar(1.0)),
            seconds,
            note,
        });
    }

    /// The questions come in blocks. Each engine answers a block as a program would ask it, one
    /// question after the other; the engines take turns, another one first each time. All answers
    /// have to be the same.
    fn ask(
        &mut self,
        engines: &mut Engines,
        kind: &Kind,
        before: Before,
        repeat: usize,
    ) -> Outcome<()> {
        let mut random = Random::new(SEED);
        let mut times = vec![Vec::new(); engines.len()];
        let mut faults = vec![None; engines.len()];
        let mut rows = 0;
        let block = (kind.rounds * repeat).div_ceil(BLOCKS);
        for turn in 0..BLOCKS {
            let questions: Vec<Question> = { 0..block }
                .map(|_| (kind.make)(&self.source, &mut random))
                .collect();
            if turn == 0 && self.options.plans {
                print_plans(kind, engines, &questions)?;
            }
            let mut answers: Vec<Vec<Answer>> = engines.iter().map(|_| Vec::new()).collect();
            for place in 0..engines.len() {
                let i = (place + turn) % engines.len();
                for question in &questions {
                    if before == Before::Nothing {
                        engines[i].reopen()?;
                        drop_from_memory(&self.directory.join("whole"))?;
                    }
                    let start = self.now();
                    let answer = engines[i].ask(question)?;
                    times[i].push(self.now() - start);
                    answers[i].push(answer);
                }
            }
            for (n, question) in questions.iter().enumerate() {
                let answers: Vec<&Answer> = answers.iter().map(|all| &all[n]).collect();
                rows = compare(question, engines, &answers, &mut faults)?;
            }
        }
        let mut seconds: Vec<_> = times.into_iter().map(median).collect();
        for (seconds, fault) in seconds.iter_mut().zip(faults) {
            if let Some(fault) = fault {
                *seconds = None; // a wrong answer has no time
                self.remarks.push(format!("{}: {fault}", kind.what));
            }
        }
        eprintln!("{}: {seconds:?}", kind.what);
        self.lines.push(Line {
            what: kind.what,
            bar: kind.bar,
            seconds,
            note: format!("{rows} rows"),
        });
        Ok(())
    }

    fn insert_singly(
        &mut self,
        engines: &mut Engines,
        what: &'static str,
        typical: fn(Vec<Duration>) -> Option<f64>,
    ) -> Outcome<()> {
        let mut times = vec![Vec::new(); engines.len()];
        for _ in 0..SINGLE {
            self.inserted += 1;
            for (i, engine) in engines.iter_mut().enumerate() {
                if i == PARSED {
                    continue; // the file of another
                }
                let row = self
                    .source
                    .row(self.source.documents as i64 + self.inserted);
                let start = Instant::now();
                engine.insert_one(row)?;
                times[i].push(start.elapsed());
            }
        }
        self.lines.push(Line {
            what,
            bar: None,
            seconds: times.into_iter().map(typical).collect(),
            note: String::new(),
        });
        Ok(())
    }
}

/// Takes the files of all engines out of the system's memory.
fn drop_from_memory(directory: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_from_memory(&path)?;
            continue;
        }
        let file = std::fs::File::open(path)?;
        file.sync_all()?; // what is not written yet would stay
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

fn create_other(name: &str, directory: &Path) -> Outcome<Box<dyn Engine>> {
    let _ = directory; // a build may have none of them
    match name {
        #[cfg(feature = "others")]
        "native_db" => {
            let engine = crate::native_engine::NativeEngine::create(directory)?;
            Ok(Box::new(engine))
        }
        #[cfg(feature = "others")]
        "published" => {
            let engine = crate::published_engine::PublishedEngine::create(directory)?;
            Ok(Box::new(engine))
        }
        #[cfg(feature = "polodb")]
        "polodb" => Ok(Box::new(crate::polo_engine::PoloEngine::create(directory)?)),
        _ => {
            let hint = "--features others, or the package `polodb`";
            Err(format!("{name} is not in this build: {hint}").into())
        }
    }
}

fn print_plans(kind: &Kind, engines: &mut Engines, questions: &[Question]) -> Outcome<()> {
    for engine in engines.iter_mut() {
        for question in questions.iter().take(1) {
            let plan = engine.plan(question)?;
            println!("{}: {}: {plan}", kind.what, engine.name());
        }
    }
    Ok(())
}

/// Fails unless the answers of Aurora and SQLite are the same, and not empty; notes what is wrong
/// with those of others. Returns how many rows there are.
fn compare(
    question: &Question,
    engines: &Engines,
    answers: &[&Answer],
    faults: &mut [Option<String>],
) -> Outcome<u64> {
    let is_ordered = matches!(
        question,
        Question::Latest(_)
            | Question::EarliestOfAge(..)
            | Question::LatestOfCity(..)
            | Question::Ids(_)
    );
    let contents = |answer: &Answer| match answer {
        Answer::Count(count) => (*count, Vec::new()),
        Answer::Documents(documents) => {
            let mut contents = documents.contents();
            if !is_ordered {
                contents.sort_by_key(|(id, _)| *id);
            }
            (contents.len() as u64, contents)
        }
    };
    let mut first = None;
    for ((engine, answer), fault) in engines.iter().zip(answers).zip(faults) {
        let own = contents(answer);
        if engine.is_other() {
            let expected = first.as_ref();
            if expected.is_some_and(|first| *first != own) {
                *fault = Some(format!(
                    "{} answers otherwise: {} rows",
                    engine.name(),
                    own.0
                ));
            }
            continue;
        }
        if own.0 == 0 {
            return Err(format!("{} found nothing for {question:?}", engine.name()).into());
        }
        let first = first.get_or_insert_with(|| own.clone());
        if own != *first {
            return Err(format!(
                "{} answers {question:?} otherwise: {} rows, not {}",
                engine.name(),
                own.0,
                first.0
            )
            .into());
        }
    }
    Ok(first.map_or(0, |(rows, _)| rows))
}
