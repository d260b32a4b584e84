//! Export and import: the bytes of the formats, what comes back, what is refused.

mod common;

use std::fs;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aurora::{
    Aurora, Document, Error, Field, FieldType, Filter, IfThere, Imported, Index, Object, Schema,
    Timestamp, Uuid, Value,
};
use common::budget;
use proptest::collection::vec;
use proptest::prelude::*;

/// Each was looked for among all others, several times.
#[test]
fn many_chosen_fields_are_exported_in_good_time() {
    let names = || (0..60_000).map(|n| format!("field {n:08}"));
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let fields: Object = names().zip(0i64..).collect();
    db.insert_into("c", fields).unwrap();
    let start = std::time::Instant::now();
    let mut written = Vec::new();
    let export = db.export("c").fields(names().rev());
    export.write_json_lines(&mut written).unwrap();
    let took = start.elapsed();
    let first = "{\"field 00059999\":59999,\"field 00059998\":59998,";
    assert!(text(written).starts_with(first));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn date(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Object {
    Object::from(fields)
}

fn book_schema() -> Schema {
    Schema::new()
        .field(Field::new("title", FieldType::String).required())
        .field(Field::new("id", FieldType::Uuid))
        .field(Field::new("price", FieldType::Float))
        .field(Field::new("tags", FieldType::String))
        .field(Field::new("added", FieldType::DateTime))
        .field(Field::new("cover", FieldType::Bytes))
        .field(Field::new("author.key", FieldType::Uuid))
        .field(Field::new("any", FieldType::Any))
}

/// Two books with all there is.
fn books() -> Aurora {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("books", book_schema()).unwrap();
    let author = object([("key", Uuid::from_u128(9).into()), ("name", "X".into())]);
    let any = vec![Uuid::from_u128(7).into(), f64::NAN.into(), 2.0.into()];
    let first = object([
        ("title", "Dune, \"1\"".into()),
        ("id", Uuid::from_u128(1).into()),
        ("price", 2.0.into()),
        ("tags", Value::Array(vec!["a".into(), "b".into()])),
        ("added", date("2024-06-19T15:22:45.5Z").into()),
        ("cover", vec![0u8, 255].into()),
        ("author", author.into()),
        ("any", Value::Array(any)),
    ]);
    let second = object([
        ("title", "".into()),
        ("id", Uuid::from_u128(2).into()),
        ("price", f64::NEG_INFINITY.into()),
        ("tags", Value::Null),
        ("any", "5".into()),
    ]);
    db.insert_into("books", first).unwrap();
    db.insert_into("books", second).unwrap();
    db
}

const JSON: &str = r#"[
  {
    "id": "00000000-0000-0000-0000-000000000001",
    "title": "Dune, \"1\"",
    "price": 2.0,
    "tags": [
      "a",
      "b"
    ],
    "added": "2024-06-19T15:22:45.5Z",
    "cover": "00ff",
    "author": {
      "key": "00000000-0000-0000-0000-000000000009",
      "name": "X"
    },
    "any": [
      {
        "$uuid": "00000000-0000-0000-0000-000000000007"
      },
      {
        "$float": "NaN"
      },
      2.0
    ]
  },
  {
    "id": "00000000-0000-0000-0000-000000000002",
    "title": "",
    "price": "-Infinity",
    "tags": null,
    "any": "5"
  }
]
"#;

const JSON_LINES: &str = r#"{"id":"00000000-0000-0000-0000-000000000001","title":"Dune, \"1\"","price":2.0,"tags":["a","b"],"added":"2024-06-19T15:22:45.5Z","cover":"00ff","author":{"key":"00000000-0000-0000-0000-000000000009","name":"X"},"any":[{"$uuid":"00000000-0000-0000-0000-000000000007"},{"$float":"NaN"},2.0]}
{"id":"00000000-0000-0000-0000-000000000002","title":"","price":"-Infinity","tags":null,"any":"5"}
"#;

const CSV: &str = r#"id,title,price,tags,added,cover,author,any
00000000-0000-0000-0000-000000000001,"Dune, ""1""",2.0,"[""a"",""b""]",2024-06-19T15:22:45.5Z,00ff,"{""key"":""00000000-0000-0000-0000-000000000009"",""name"":""X""}","[{""$uuid"":""00000000-0000-0000-0000-000000000007""},{""$float"":""NaN""},2.0]"
00000000-0000-0000-0000-000000000002,"""""",-Infinity,null,,,,"""5"""
"#;

#[test]
fn rows_whose_long_ids_are_there_are_skipped() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let ids = [1, 79, 80, 81, 200].map(|length| "x".repeat(length));
    let rows: String = ids
        .iter()
        .map(|id| format!("{{\"id\":\"{id}\"}}\n"))
        .collect();
    let import = || {
        let import = db
            .import("c")
            .if_there(IfThere::Skip)
            .stop_at_first_error(true);
        import.read_json_lines(rows.as_bytes()).unwrap()
    };
    assert_eq!((import().taken, import().skipped), (5, 5));
}

#[test]
fn the_formats_are_these_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("book_exports");
    let db = books();
    for (exported, name, golden) in [
        (db.export_as_json("books", &path), "json", JSON),
        (db.export_as_json_lines("books", &path), "jsonl", JSON_LINES),
        (db.export_as_csv("books", &path), "csv", CSV),
    ] {
        let exported = exported.unwrap();
        assert_eq!(exported.path, path.with_extension(name));
        assert_eq!(exported.documents, 2);
        assert_eq!(fs::read_to_string(&exported.path).unwrap(), golden);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    // An extension that is there is not added again.
    let again = db.export_as_json("books", path.with_extension("json"));
    assert_eq!(again.unwrap().path, path.with_extension("json"));
}

#[test]
fn ids_that_are_not_fields_are_plain_where_that_is_clear() {
    let db = Aurora::in_memory().unwrap();
    let uuid = "00000000-0000-0000-0000-000000000001";
    let strict = Schema::new().field(Field::new("n", FieldType::Int));
    db.new_collection("strict", strict).unwrap();
    db.new_collection("loose", Schema::schemaless()).unwrap();
    let ids = [
        Value::from(5),
        "x".into(),
        uuid.into(),
        Uuid::from_u128(1).into(),
    ];
    for id in ids.clone() {
        db.insert_into("strict", object([("id", id)])).unwrap();
    }
    for id in ids {
        db.insert_into("loose", object([("id", id)])).unwrap();
    }
    let mut file = Vec::new();
    db.export("strict").write_json_lines(&mut file).unwrap();
    let lines = [
        "{\"id\":5}\n".to_string(),
        format!("{{\"id\":{{\"$string\":\"{uuid}\"}}}}\n"),
        "{\"id\":\"x\"}\n".to_string(),
        format!("{{\"id\":\"{uuid}\"}}\n"),
    ];
    assert_eq!(text(file), lines.concat());
    let mut file = Vec::new();
    db.export("loose").write_json_lines(&mut file).unwrap();
    let lines = [
        "{\"id\":5}\n".to_string(),
        format!("{{\"id\":\"{uuid}\"}}\n"),
        "{\"id\":\"x\"}\n".to_string(),
        format!("{{\"id\":{{\"$uuid\":\"{uuid}\"}}}}\n"),
    ];
    assert_eq!(text(file), lines.concat());
    db.new_collection("made", Schema::schemaless()).unwrap();
    let id = db.insert_into("made", object([("n", 1.into())])).unwrap();
    let mut file = Vec::new();
    db.export("made").write_json_lines(&mut file).unwrap();
    assert_eq!(
        text(file),
        format!("{{\"id\":{{\"$id\":\"{id}\"}},\"n\":1}}\n")
    );
}

#[test]
fn a_chosen_field_that_no_document_can_have_is_told() {
    let db = books();
    let of_dune = || {
        db.export("books")
            .query(|q| q.matching(Filter::eq("title", "Dune")))
    };
    let plan = of_dune()
        .fields(["title", "pirce"])
        .explain()
        .wait()
        .unwrap();
    assert!(plan.unknown_fields().eq(["pirce"]), "{plan}");
    let plan = of_dune().explain().wait().unwrap();
    assert_eq!(plan.unknown_fields().count(), 0, "{plan}");
}

#[test]
fn a_part_of_a_collection_can_be_exported() {
    let db = books();
    let mut file = Vec::new();
    let export = db.export("books").query(|q| {
        q.matching(Filter::gt("title", "A"))
            .order_by("title", false)
    });
    let export = export.fields(["title", "author.key", "id"]);
    assert_eq!(export.write_json_lines(&mut file).unwrap(), 1);
    assert_eq!(
        text(file),
        "{\"title\":\"Dune, \\\"1\\\"\",\"author\":{\"key\":\"00000000-0000-0000-0000-000000000009\"},\
         \"id\":\"00000000-0000-0000-0000-000000000001\"}\n"
    );
    let mut file = Vec::new();
    let export = db.export("books").query(|q| q.order_by("title", true));
    export
        .fields(["author.key", "title", "id"])
        .write_csv(&mut file)
        .unwrap();
    let csv = "author.key,title,id\n\
        ,\"\"\"\"\"\",00000000-0000-0000-0000-000000000002\n\
        00000000-0000-0000-0000-000000000009,\"Dune, \"\"1\"\"\",00000000-0000-0000-0000-000000000001\n";
    assert_eq!(text(file.clone()), csv);
    // The path of the schema is a path on the way in, too.
    db.new_collection("parts", book_schema()).unwrap();
    assert_eq!(db.import("parts").read_csv(&file[..]).unwrap().taken, 2);
    let part = db
        .collection("parts")
        .unwrap()
        .get(Uuid::from_u128(1))
        .unwrap();
    let key = part.unwrap().get("author.key").cloned();
    assert_eq!(key, Some(Uuid::from_u128(9).into()));
}

#[test]
fn other_fields_of_a_collection_without_schema_are_sorted_behind() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::schemaless()
        .field(Field::new("z", FieldType::Int))
        .field(Field::new("x.y", FieldType::Int));
    db.new_collection("c", schema).unwrap();
    let one = object([("id", 1.into()), ("b", 1.into()), ("x.y", 4.into())]);
    let two = object([("id", 2.into()), ("a", Value::Null), ("z", 3.into())]);
    db.insert_into("c", one).unwrap();
    db.insert_into("c", two).unwrap();
    let mut file = Vec::new();
    db.export("c").write_csv(&mut file).unwrap();
    // The quoted name is one with a dot in it, not a path.
    assert_eq!(
        text(file),
        "id,z,x,a,b,\"\"\"x.y\"\"\"\n1,,,,1,4\n2,3,,null,,\n"
    );
}

#[test]
fn an_empty_collection_is_an_empty_file_of_its_format() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let (mut json, mut lines, mut csv) = (Vec::new(), Vec::new(), Vec::new());
    db.export("c").write_json(&mut json).unwrap();
    db.export("c").write_json_lines(&mut lines).unwrap();
    db.export("c").write_csv(&mut csv).unwrap();
    assert_eq!(
        (text(json.clone()), text(lines.clone()), text(csv.clone())),
        ("[]\n".to_string(), String::new(), "id\n".to_string(),)
    );
    assert_eq!(db.import("c").read_json(&json[..]).unwrap().taken, 0);
    assert_eq!(db.import("c").read_json_lines(&lines[..]).unwrap().taken, 0);
    assert_eq!(db.import("c").read_csv(&csv[..]).unwrap().taken, 0);
    assert_eq!(db.import("c").read_csv(&b""[..]).unwrap().taken, 0);
}

#[test]
fn a_failed_export_leaves_the_file_that_was_there_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books.json");
    let db = books();
    fs::write(&path, "old").unwrap();
    // Fails with the file begun.
    let failing = db
        .export("books")
        .query(|q| q.matching(Filter::matches("title", "(")));
    assert!(matches!(
        failing.to_json(&path),
        Err(Error::BadQuery { .. })
    ));
    let begun = AtomicBool::new(false);
    let panicking = db.export("books").query(|q| {
        q.filter(|fields| {
            let title = fields.value("title");
            // Not while it is planned.
            if title.as_str() == Some("") {
                begun.store(
                    fs::read_dir(directory.path()).unwrap().count() == 2,
                    Ordering::Relaxed,
                );
                panic!("in the middle of it");
            }
            true
        })
    });
    let panicked = std::panic::AssertUnwindSafe(|| panicking.to_csv(&path));
    assert!(std::panic::catch_unwind(panicked).is_err());
    assert!(begun.load(Ordering::Relaxed));
    assert!(matches!(
        db.export_as_json("nothing", &path),
        Err(Error::CollectionNotFound { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    db.export_as_json("books", &path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), JSON);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[cfg(unix)]
/// The name that a file has until it is complete was longer than its own, and too long for the system.
#[test]
fn a_file_may_have_the_longest_name_that_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let db = books();
    for name in ["n".repeat(250), "n".to_string() + &"ö".repeat(124)] {
        let path = directory.path().join(name);
        for documents in [2, 2] {
            let exported = db.export_as_json("books", &path).unwrap();
            assert_eq!(exported.documents, documents);
            let file = path.with_extension("json");
            assert_eq!(exported.path, file);
            assert!(fs::metadata(file).unwrap().len() > 0);
        }
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_is_replaced_stays_private_and_a_link_stays_a_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    let db = books();
    for allowed in [0o600, 0o666] {
        fs::write(path("books.json"), "old").unwrap();
        fs::set_permissions(path("books.json"), PermissionsExt::from_mode(allowed)).unwrap();
        db.export_as_json("books", path("books.json")).unwrap();
        assert_eq!(mode("books.json"), allowed);
        assert_eq!(fs::read_to_string(path("books.json")).unwrap(), JSON);
    }
    fs::create_dir(path("elsewhere")).unwrap();
    fs::write(path("elsewhere/all.csv"), "old").unwrap();
    symlink("elsewhere/all.csv", path("latest.csv")).unwrap();
    let exported = db.export_as_csv("books", path("latest.csv")).unwrap();
    assert_eq!(exported.path, path("latest.csv"));
    assert!(path("latest.csv").is_symlink());
    assert_eq!(fs::read_to_string(path("elsewhere/all.csv")).unwrap(), CSV);
    // Nothing can be kept of a link to nothing.
    symlink("nowhere/all.csv", path("dangling.csv")).unwrap();
    db.export_as_csv("books", path("dangling.csv")).unwrap();
    assert_eq!(fs::read_to_string(path("dangling.csv")).unwrap(), CSV);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
    assert_eq!(fs::read_dir(path("elsewhere")).unwrap().count(), 1);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let db = books();
    let nowhere = directory.path().join("nowhere/books");
    for error in [
        db.export_as_csv("books", &nowhere).unwrap_err(),
        db.import_csv("books", &nowhere).unwrap_err(),
        // A directory has the name.
        {
            fs::create_dir(directory.path().join("taken.json")).unwrap();
            db.export_as_json("books", directory.path().join("taken"))
                .unwrap_err()
        },
    ] {
        assert!(matches!(error, Error::OtherFile { .. }), "{error}");
        let path = directory.path().display().to_string();
        assert!(
            error.is_io() && error.to_string().contains(&path),
            "{error}"
        );
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

struct Failing;

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_is_an_error() {
    let db = books();
    for written in [
        db.export("books").write_json(Failing),
        db.export("books").write_json_lines(Failing),
        db.export("books").write_csv(Failing),
    ] {
        match written {
            Err(Error::OtherFile { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::BrokenPipe);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_export_is_of_one_moment() {
    let db = books();
    let snapshot = db.begin_read().unwrap();
    db.query("books").delete().wait().unwrap();
    let mut file = Vec::new();
    snapshot.export("books").write_json(&mut file).unwrap();
    assert_eq!(text(file), JSON);
}

#[test]
fn the_columns_are_of_the_same_moment_as_the_rows() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    db.insert_into("c", object([("id", 1.into()), ("a", 1.into())]))
        .unwrap();
    let writes = AtomicBool::new(false);
    let export = db.export("c").query(|q| {
        q.filter(|fields| {
            let found = fields.value("a") == 1.into();
            if found && !writes.swap(true, Ordering::Relaxed) {
                let late = object([("id", 2.into()), ("a", 1.into()), ("b", 1.into())]);
                db.insert_into("c", late).unwrap();
            }
            found
        })
    });
    let mut file = Vec::new();
    assert_eq!(export.write_csv(&mut file).unwrap(), 1);
    assert_eq!(text(file), "id,a\n1,1\n");
    assert_eq!(db.collection("c").unwrap().len().unwrap(), 2);
}

#[test]
fn exports_and_imports_can_be_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books");
    let db = books();
    pollster::block_on(async {
        let export = || db.export("books");
        assert_eq!(export().to_json_async(&path).await.unwrap().documents, 2);
        assert_eq!(
            export().to_json_lines_async(&path).await.unwrap().documents,
            2
        );
        assert_eq!(export().to_csv_async(&path).await.unwrap().documents, 2);
        let import = || db.import("books").if_there(IfThere::Replace);
        assert_eq!(import().from_json_async(&path).await.unwrap().taken, 2);
        assert_eq!(
            import().from_json_lines_async(&path).await.unwrap().taken,
            2
        );
        assert_eq!(import().from_csv_async(&path).wait().unwrap().taken, 2);
    });
}

/// The reasons with their rows, as text.
fn reasons(imported: &Imported) -> Vec<(u64, String)> {
    let refused = imported.refused.iter();
    refused
        .map(|refused| (refused.row, refused.reason.to_string()))
        .collect()
}

fn people() -> Aurora {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new()
        .field(Field::new("id", FieldType::Int))
        .field(Field::new("email", FieldType::String).required().unique())
        .field(Field::new("age", FieldType::Int).indexed())
        .field(Field::new("born", FieldType::DateTime));
    db.new_collection("people", schema).unwrap();
    db
}

#[track_caller]
fn assert_reasons(imported: &Imported, taken: u64, parts: &[(u64, &str)]) {
    let reasons = reasons(imported);
    assert_eq!(imported.taken, taken, "{reasons:#?}");
    assert_eq!(imported.refused_count, parts.len() as u64, "{reasons:#?}");
    assert_eq!(reasons.len(), parts.len());
    for ((row, reason), (expected, part)) in reasons.iter().zip(parts) {
        assert!(row == expected && reason.contains(part), "{row}: {reason}");
    }
}

#[test]
fn rows_that_do_not_fit_are_refused_and_the_others_taken() {
    let csv = "id,email,age,born,more\n\
        1,a@x,30,2000-01-01T00:00:00Z,\n\
        2,,31,,\n\
        3,c@x,old,,\n\
        4,a@x,32,,\n\
        1,d@x,33,,\n\
        5,e@x,34,yesterday,\n\
        6,f@x,35,,surplus\n\
        7,g@x\n\
        8,h@x,\"{\"\"$uuid\"\":\"\"x\"\"}\",,\n\
        9,i@x,36,,\n";
    let db = people();
    let mut csv = csv.as_bytes().to_vec();
    csv.extend_from_slice(b"10,\xff,37,,\n");
    let imported = db.import("people").read_csv(&csv[..]).unwrap();
    let expected = [
        (2, "\"email\" of \"people\" is required"),
        (3, "\"age\" of \"people\" takes Int, not String (old)"),
        (4, "has a@x in the unique field \"email\""),
        (5, "has 1 in the unique field \"id\""),
        (
            6,
            "\"born\" of \"people\" takes DateTime, not String (yesterday)",
        ),
        (7, "no field \"more\" (value surplus)"),
        (8, "it has 2 cells below 5 names"),
        (9, "\"age\": { $uuid: x } is not what \"$uuid\" stands for"),
        (11, "the column \"email\": invalid utf-8"),
    ];
    assert_reasons(&imported, 2, &expected);
    let people = db.collection("people").unwrap();
    assert_eq!(people.len().unwrap(), 2);
    assert_eq!(
        db.query("people")
            .filter(|f| f.gt("age", 29))
            .count()
            .wait()
            .unwrap(),
        2
    );
    db.check().unwrap();
}

/// It was said of each row only that a field is required.
#[test]
fn a_file_without_a_column_for_a_required_field_is_told_what_it_has() {
    let refused = |csv: &str| {
        let db = people();
        let imported = db.import("people").read_csv(csv.as_bytes()).unwrap();
        assert_eq!((imported.taken, imported.refused_count), (0, 2));
        assert_eq!(imported.refused[1].row, 2);
        db.check().unwrap();
        imported.refused[1].reason.to_string()
    };
    for (csv, parts) in [
        (
            "id;email;age\n1;a@x;30\n2;b@x;31,5\n",
            ["\"email\"", "\"id;email;age\"", "`separator`"],
        ),
        (
            "id\temail\n1\ta@x\n2\tb@x\n",
            ["\"email\"", "\"id\\temail\"", "`separator`"],
        ),
        (
            "id,Email\n1,a@x\n2,b@x\n",
            [
                "\"email\"",
                "\"id\", \"Email\"",
                "\"Email\" is another name",
            ],
        ),
        (
            "id,age\n1,2\n2,3\n",
            ["\"email\"", "\"id\", \"age\"", "required"],
        ),
    ] {
        let reason = refused(csv);
        for part in parts {
            assert!(reason.contains(part), "{part} in {reason}");
        }
    }
    let many: String = (0..50_000).map(|n| format!(",column {n}")).collect();
    let cells = ",".repeat(50_000);
    let reason = refused(&format!("id{many}\n1{cells}\n2{cells}\n"));
    assert!(
        reason.contains("column 18") && reason.len() < 1000,
        "{reason}"
    );
}

#[test]
fn cells_may_have_something_else_between_them() {
    for separator in [';', '\t', '|', ' ', 't', '\0'] {
        let db = people();
        let csv = "id;email;age\n1;\"a;\"\"b,c\";30\n2;d,e;\n".replace(';', &separator.to_string());
        let import = db.import("people").separator(separator as u8);
        let imported = import.read_csv(csv.as_bytes()).unwrap();
        assert_reasons(&imported, 2, &[]);
        let people = db.collection("people").unwrap();
        let email = |id: i64| people.get(id).unwrap().unwrap().get("email").cloned();
        assert_eq!(email(1), Some(format!("a{separator}\"b,c").into()));
        assert_eq!(email(2), Some("d,e".into()));
    }
}

#[test]
fn what_cannot_be_between_cells_is_refused() {
    for separator in [b'"', b'\n', b'\r', 0x80, 0xff] {
        let db = people();
        let import = db.import("people").separator(separator);
        let refused = import.read_csv(&b"id,email\n1,a@x\n"[..]).unwrap_err();
        assert!(refused.is_misuse(), "{refused}");
        assert_eq!(db.collection("people").unwrap().len().unwrap(), 0);
    }
}

/// A column of an object has the fields in it, and what has a default needs none.
#[test]
fn what_is_required_may_come_in_an_object_or_by_itself() {
    let db = Aurora::in_memory().unwrap();
    let text = |path: &str| Field::new(path, FieldType::String).required();
    let given = Object::from([("c", "x")]);
    let schema = Schema::new()
        .field(text("a.b"))
        .field(text("d").default("y"))
        .field(Field::new("e", FieldType::Object).default(given))
        .field(text("e.c"));
    db.new_collection("c", schema).unwrap();
    let csv = "a\n\"{\"\"b\"\":\"\"z\"\"}\"\n";
    let imported = db.import("c").read_csv(csv.as_bytes()).unwrap();
    assert_reasons(&imported, 1, &[]);
}

#[test]
fn rows_of_json_are_refused_one_by_one() {
    let db = people();
    let json = format!(
        "\u{feff}[{}, 5, {}, {}, {}, {}]",
        r#"{"id": 1, "email": "a@x"}"#,
        r#"{"id": 2, "email": 5}"#,
        r#"{"id": 3, "email": "c@x", "age": 9223372036854775809}"#,
        r#"{"id": 4, "email": "d@x", "born": {"$date": "never"}}"#,
        r#"{"id": 5, "email": "e@x", "born": {"$date": "2000-01-01T00:00:00Z"}}"#,
    );
    let imported = db.import("people").read_json(json.as_bytes()).unwrap();
    let expected = [
        (2, "it is not an object but Int (5)"),
        (3, "takes String, not Int (5)"),
        (4, "9223372036854775809 does not fit into signed 64 bits"),
        (5, "{ $date: never } is not what \"$date\" stands for"),
    ];
    assert_reasons(&imported, 2, &expected);
    let lines =
        "\u{feff}{\"id\": 6, \"email\": \"f@x\"}\r\n\n{\"id\": 7,\n{\"id\": 8, \"email\": \"h@x\"}";
    let imported = db
        .import("people")
        .read_json_lines(lines.as_bytes())
        .unwrap();
    assert_reasons(&imported, 2, &[(3, "EOF while parsing")]);
    assert_eq!(db.collection("people").unwrap().len().unwrap(), 4);
}

/// What follows would be one long cell, and the rows in it be lost without a word.
#[test]
fn an_import_ends_at_a_quotation_mark_that_is_never_closed() {
    let rows = "id,email\n1,a@x\n2,\"b@x\n3,c@x\n4,d@x\n";
    let cut = "id,email\n1,a@x\n2,\"b, or the file was cut";
    for csv in [rows, cut, &rows.replace('\n', "\r\n")] {
        let db = people();
        let stopped = db.import("people").read_csv(csv.as_bytes()).unwrap_err();
        match &stopped {
            Error::ImportStopped { row, taken, .. } => assert_eq!((*row, *taken), (2, 1)),
            other => panic!("{other}"),
        }
        assert!(stopped.to_string().contains("never closed"), "{stopped}");
        assert_eq!(db.collection("people").unwrap().len().unwrap(), 1);
    }
    let first = people()
        .import("people")
        .read_csv(&b"id,\"email\n1,a@x\n"[..]);
    assert!(matches!(
        first,
        Err(Error::ImportStopped {
            row: 1,
            taken: 0,
            ..
        })
    ));
    // Closed ones are as they were, and so are ends of all kinds.
    for csv in [
        "id,email\n1,\"a\nb\"",
        "id,email\n1,\"a\"\"b\"\n",
        "id,email\n1,a\"b",
        "id,email\r\n1,a\r\n\r\n\n",
        "id,email\r1,a\r",
    ] {
        let imported = people().import("people").read_csv(csv.as_bytes()).unwrap();
        assert_eq!((imported.taken, imported.refused_count), (1, 0), "{csv:?}");
    }
    for csv in ["", "\n\n", "id,email", "\u{feff}id,email\n"] {
        let imported = people().import("people").read_csv(csv.as_bytes()).unwrap();
        assert_eq!((imported.taken, imported.refused_count), (0, 0), "{csv:?}");
    }
}

/// A row is a part of a line, or several lines: what is told is counted within it.
#[test]
fn places_in_rows_of_json_are_said_to_be_of_the_row() {
    let lines = "{\"id\": 1, \"email\": \"a\"}\n\n{\"id\": 2 \"email\": \"b\"}\n";
    let imported = people().import("people").read_json_lines(lines.as_bytes());
    let imported = imported.unwrap();
    assert_reasons(
        &imported,
        1,
        &[(3, "expected `,` or `}` at column 10 of the row")],
    );
    let reason = imported.refused[0].reason.to_string();
    assert!(!reason.contains("line"), "{reason}");
    let array = "[\n  {\n    \"id\": 1,\n    \"email\": \"a\",\n    \"age\": 1e400\n  }\n]";
    let imported = people()
        .import("people")
        .read_json(array.as_bytes())
        .unwrap();
    assert_reasons(
        &imported,
        0,
        &[(1, "number out of range at line 4 of the row")],
    );
}

#[test]
fn an_import_ends_where_the_file_is_not_of_its_format() {
    for (json, expected) in [
        ("{\"id\": 1}", 1),
        ("5", 1),
        ("", 1),
        ("[{\"id\": 1, \"email\": \"a\"}, {\"id\": 2, \"email\"", 2),
        ("[{\"id\": 1, \"email\": \"a\"}] and more", 2),
    ] {
        let db = people();
        let stopped = db.import("people").read_json(json.as_bytes()).unwrap_err();
        assert!(!stopped.is_misuse());
        match &stopped {
            Error::ImportStopped { row, taken, .. } => {
                assert_eq!(
                    (*row, *taken),
                    (expected, expected - 1),
                    "{json}: {stopped}"
                );
            }
            other => panic!("{other}"),
        }
        // What came before is stored.
        assert_eq!(
            db.collection("people").unwrap().len().unwrap(),
            expected - 1
        );
    }
    let stopped = people()
        .import("people")
        .read_csv(&b"id,email,id\n1,a,2\n"[..]);
    let reason = stopped.unwrap_err().to_string();
    assert!(reason.contains("two columns are named \"id\""), "{reason}");
    let missing = people().import("nothing").read_csv(&b"id\n"[..]);
    assert!(matches!(missing, Err(Error::CollectionNotFound { .. })));
}

#[test]
fn what_is_there_is_refused_replaced_or_skipped() {
    let old = &b"id,email,age\n1,a,1\n2,b,1\n"[..];
    let new = &b"id,email,age\n2,c,2\n3,d,2\n4,a,2\n"[..];
    for (then, counts, ages) in [
        (
            IfThere::Refuse,
            (1, 0, 2),
            [Some(1), Some(1), Some(2), None],
        ),
        (
            IfThere::Replace,
            (2, 0, 1),
            [Some(1), Some(2), Some(2), None],
        ),
        (IfThere::Skip, (1, 1, 1), [Some(1), Some(1), Some(2), None]),
    ] {
        let db = people();
        db.import("people").read_csv(old).unwrap();
        let imported = db.import("people").if_there(then).read_csv(new).unwrap();
        let found = (imported.taken, imported.skipped, imported.refused_count);
        assert_eq!(found, counts, "{then:?}: {:?}", reasons(&imported));
        let people = db.collection("people").unwrap();
        for (id, age) in (1..).zip(ages) {
            let person = people.get(id).unwrap();
            let found = person.and_then(|person| person.get("age").and_then(Value::as_int));
            assert_eq!(found, age, "{then:?}: {id}");
        }
        db.check().unwrap();
    }
}

#[test]
fn an_import_can_end_at_the_first_row_that_is_refused() {
    let db = people();
    let csv = &b"id,email\n1,a\n2,b\n3,\n4,d\n"[..];
    let stopped = db.import("people").stop_at_first_error(true).read_csv(csv);
    match stopped {
        Err(Error::ImportStopped { row, taken, cause }) => {
            assert_eq!((row, taken), (3, 2));
            assert!(matches!(*cause, Error::MissingField { .. }));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(db.collection("people").unwrap().len().unwrap(), 2);
}

#[test]
fn many_rows_are_stored_and_few_reasons_kept() {
    let db = people();
    let mut lines = String::new();
    for i in 0..20_000 {
        let email = if i % 4 == 0 { 0 } else { i };
        lines += &format!("{{\"id\":{i},\"email\":\"{email}\",\"age\":{}}}\n", i % 100);
    }
    let imported = db
        .import("people")
        .read_json_lines(lines.as_bytes())
        .unwrap();
    assert_eq!((imported.taken, imported.refused_count), (15_001, 4_999));
    assert_eq!(imported.refused.len(), 1000);
    assert_eq!(
        (imported.refused[0].row, imported.refused[999].row),
        (5, 4001)
    );
    db.check().unwrap();
    let mut file = Vec::new();
    assert_eq!(db.export("people").write_json(&mut file).unwrap(), 15_001);
    let copy = people();
    assert_eq!(
        copy.import("people").read_json(&file[..]).unwrap().taken,
        15_001
    );
    assert_eq!(exact_all(&copy, "people"), exact_all(&db, "people"));
}

/// A value with all types: `==` takes whole floats for whole numbers.
fn exact(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(exact).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(object) => exact_object(object),
        other => format!("{other:?}"),
    }
}

fn exact_object(object: &Object) -> String {
    let fields = object.iter();
    let mut fields: Vec<_> = fields
        .map(|(name, value)| format!("{name:?}: {}", exact(value)))
        .collect();
    fields.sort();
    format!("{{{}}}", fields.join(", "))
}

fn exact_all(db: &Aurora, collection: &str) -> Vec<String> {
    let all = db.query(collection).collect().wait().unwrap();
    let one = |document: &Document| {
        format!(
            "{}: {}",
            exact(document.id.value()),
            exact_object(document.fields())
        )
    };
    all.iter().map(one).collect()
}

/// Exports in all formats, imports each, and compares.
fn assert_comes_back(db: &Aurora, schema: &Schema) -> Result<(), TestCaseError> {
    let expected = exact_all(db, "c");
    let files: [Vec<u8>; 3] = {
        let mut files = [Vec::new(), Vec::new(), Vec::new()];
        let [json, lines, csv] = &mut files;
        db.export("c").write_json(json).unwrap();
        db.export("c").write_json_lines(lines).unwrap();
        db.export("c").write_csv(csv).unwrap();
        files
    };
    for (i, file) in files.iter().enumerate() {
        let copy = Aurora::in_memory().unwrap();
        copy.new_collection("c", schema.clone()).unwrap();
        let import = copy.import("c");
        let imported = match i {
            0 => import.read_json(&file[..]),
            1 => import.read_json_lines(&file[..]),
            _ => import.read_csv(&file[..]),
        };
        let imported = imported.unwrap();
        let shown = String::from_utf8_lossy(file);
        prop_assert_eq!(reasons(&imported), vec![], "{}", shown);
        prop_assert_eq!(exact_all(&copy, "c"), &expected[..], "{}", shown);
    }
    Ok(())
}

/// Text that looks like other things, more often than chance would have it.
fn any_text() -> impl Strategy<Value = String> {
    let looks = [
        "",
        "null",
        "true",
        "5",
        "-1.5e3",
        " 5 ",
        "\"",
        "\"x\"",
        "[",
        "[1]",
        "[\"a\"]",
        "{}",
        "{\"$uuid\":\"x\"}",
        "{\"$id\":5}",
        "NaN",
        "-Infinity",
        "00ff",
        "a,b",
        "a\nb",
        "\r\n",
        " ",
        "00000000-0000-0000-0000-000000000001",
        "2024-06-19T15:22:45Z",
        "\u{feff}",
        "=1+1",
        "'",
        "9223372036854775809",
        "a.b",
        "$uuid",
        "$object",
        "\u{0}",
        "😀",
    ];
    prop_oneof![
        2 => prop::sample::select(looks.to_vec()).prop_map(str::to_string),
        1 => ".{0,6}",
        1 => "[a-z]{1,3}",
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    let names = [
        "a", "b", "a.b", "b.c", "$uuid", "$date", "$bytes", "$float", "$string", "$object", "$id",
        "$", "", "\"", "\"a\"", ".", "null", "5",
    ];
    prop_oneof![
        4 => prop::sample::select(names.to_vec()).prop_map(str::to_string),
        1 => any_text(),
    ]
}

fn any_float() -> impl Strategy<Value = f64> {
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        2.0,
        1e16,
        9007199254740993.0,
        9.223372036854776e18,
        f64::MIN_POSITIVE,
        5e-324,
        f64::MAX,
        0.1,
    ];
    prop_oneof![
        prop::sample::select(special.to_vec()),
        any::<u64>().prop_map(f64::from_bits)
    ]
}

fn any_int() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3i64..4,
        any::<i64>(),
        Just(i64::MAX),
        Just(i64::MIN),
        Just((1 << 53) + 1)
    ]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let (least, most) = (
        Timestamp::MIN.as_nanosecond(),
        Timestamp::MAX.as_nanosecond(),
    );
    prop_oneof![
        (least..=most).prop_map(|at| Timestamp::from_nanosecond(at).unwrap()),
        (0i64..2_000_000_000).prop_map(|at| Timestamp::from_second(at).unwrap()),
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
    ]
}

fn of_type(kind: FieldType) -> BoxedStrategy<Value> {
    match kind {
        FieldType::String => any_text().prop_map(Value::from).boxed(),
        FieldType::Int => any_int().prop_map(Value::Int).boxed(),
        FieldType::Float => prop_oneof![
            3 => any_float().prop_map(Value::Float),
            1 => any_int().prop_map(Value::Int),
        ]
        .boxed(),
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::Uuid => any::<u128>()
            .prop_map(|id| Uuid::from_u128(id).into())
            .boxed(),
        FieldType::Bytes => vec(any::<u8>(), 0..4).prop_map(Value::Bytes).boxed(),
        FieldType::DateTime => any_time().prop_map(Value::DateTime).boxed(),
        FieldType::Array => vec(any_value(), 0..3).prop_map(Value::Array).boxed(),
        FieldType::Object => any_object().prop_map(Value::Object).boxed(),
        _ => any_value(),
    }
}

const SCALARS: [FieldType; 7] = [
    FieldType::String,
    FieldType::Int,
    FieldType::Float,
    FieldType::Bool,
    FieldType::Uuid,
    FieldType::Bytes,
    FieldType::DateTime,
];

const KINDS: [FieldType; 10] = [
    FieldType::String,
    FieldType::Int,
    FieldType::Float,
    FieldType::Bool,
    FieldType::Uuid,
    FieldType::Bytes,
    FieldType::DateTime,
    FieldType::Array,
    FieldType::Object,
    FieldType::Any,
];

fn any_value() -> BoxedStrategy<Value> {
    let scalar = prop::sample::select(&SCALARS[..]).prop_flat_map(of_type);
    let leaf = prop_oneof![8 => scalar, 1 => Just(Value::Null)];
    let nested = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec((any_name(), inner), 0..3).prop_map(|fields| Value::Object(fields.into())),
        ]
    });
    nested.boxed()
}

fn any_object() -> BoxedStrategy<Object> {
    vec((any_name(), any_value()), 0..3)
        .prop_map(Object::from)
        .boxed()
}

fn any_id() -> BoxedStrategy<Value> {
    prop_oneof![
        of_type(FieldType::Int),
        of_type(FieldType::String),
        of_type(FieldType::Uuid),
    ]
    .boxed()
}

#[derive(Debug, Clone)]
struct Case {
    schema: Schema,
    documents: Vec<Object>,
}

/// A schema with some fields, and documents that mostly fit it.
fn any_case() -> impl Strategy<Value = Case> {
    let paths = [
        "id", "a", "b", "a.b", "b.c", "n.m", "n.$uuid", "\"q", "$date",
    ];
    let field = prop::sample::select(&KINDS[..]);
    let fields =
        paths.map(|path| prop::option::of(field.clone()).prop_map(move |kind| (path, kind)));
    (fields.to_vec(), any::<bool>()).prop_flat_map(|(fields, strict)| {
        let mut schema = Schema::new().strict(strict);
        let mut values = Vec::new();
        for (path, kind) in fields {
            let Some(kind) = kind else { continue };
            if path == "id" {
                let can_be = matches!(
                    kind,
                    FieldType::Uuid | FieldType::String | FieldType::Int | FieldType::Any
                );
                if can_be {
                    schema = schema.field(Field::new(path, kind));
                }
                continue;
            }
            schema = schema.field(Field::new(path, kind));
            let value = of_type(kind);
            let value = prop_oneof![
                2 => Just(None),
                6 => value.clone().prop_map(Some),
                1 => vec(value, 0..3).prop_map(|values| Some(Value::Array(values))),
                1 => Just(Some(Value::Null)),
            ];
            values.push((Just(path), value, any::<bool>()));
        }
        let id = schema
            .fields()
            .find(|(path, _)| *path == "id")
            .map(|(_, kind)| kind);
        let id = match id {
            Some(FieldType::Any) | None => any_id(),
            Some(kind) => of_type(kind),
        };
        let document = (prop::option::of(id), values, any_object());
        let document = document.prop_map(move |(id, values, others)| {
            let mut object = if strict { Object::new() } else { others };
            for (path, value, nests) in values {
                let Some(value) = value else { continue };
                match path.split_once('.') {
                    Some((first, rest)) if nests => {
                        let mut inner = match object.get(first) {
                            Some(Value::Object(inner)) => inner.clone(),
                            _ => Object::new(),
                        };
                        inner.insert(rest, value);
                        object.insert(first, inner);
                    }
                    _ => {
                        object.insert(path, value);
                    }
                }
            }
            object.remove("id");
            if let Some(id) = id {
                object.insert("id", id);
            }
            object
        });
        (Just(schema), vec(document, 1..6))
            .prop_map(|(schema, documents)| Case { schema, documents })
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: budget(300) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_goes_out_comes_back_the_same(case in any_case()) {
        let db = Aurora::in_memory().unwrap();
        db.new_collection("c", case.schema.clone()).unwrap();
        for document in case.documents {
            // One that does not fit is not part of this.
            let _ = db.insert_into("c", document);
        }
        assert_comes_back(&db, &case.schema)?;
    }
}

#[test]
fn the_deepest_documents_come_back() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    let mut value = Value::from(Uuid::from_u128(1));
    for _ in 0..aurora::MAX_DEPTH - 1 {
        value = object([("$x", value)]).into();
    }
    db.insert_into("c", object([("a", value.clone())])).unwrap();
    let deeper = object([("$x", value)]);
    assert!(db.insert_into("c", object([("a", deeper.into())])).is_err());
    assert_comes_back(&db, &Schema::schemaless()).unwrap();
}

#[test]
fn ids_of_documents_that_a_schema_came_to_later_come_back() {
    let uuid = Uuid::from_u128(1);
    let schema = Schema::new().field(Field::new("n", FieldType::Int));
    for (kind, ids) in [
        (FieldType::Int, vec![Value::from(5)]),
        (
            FieldType::String,
            vec!["x".into(), "5".into(), uuid.to_string().into()],
        ),
        (FieldType::Uuid, vec![uuid.into()]),
        (
            FieldType::Any,
            vec![5.into(), "5".into(), uuid.into(), uuid.to_string().into()],
        ),
    ] {
        let db = Aurora::in_memory().unwrap();
        db.new_collection("c", schema.clone()).unwrap();
        for id in ids {
            db.insert_into("c", object([("id", id), ("n", 1.into())]))
                .unwrap();
        }
        assert_comes_back(&db, &schema).unwrap();
        // Now they may have a field `id`, and do not.
        for later in [
            schema.clone().strict(false),
            schema.clone().field(Field::new("id", kind)),
        ] {
            db.alter_collection("c", later.clone()).wait().unwrap();
            assert_comes_back(&db, &later).unwrap();
        }
    }
}

#[test]
fn what_has_expired_is_not_exported() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new()
        .field(Field::new("at", FieldType::DateTime))
        .index(Index::on(["at"]))
        .expires_after("at", Duration::from_secs(1));
    db.new_collection("c", schema).unwrap();
    for at in ["2000-01-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
        db.insert_into("c", object([("at", date(at).into())]))
            .unwrap();
    }
    let mut file = Vec::new();
    assert_eq!(db.export("c").write_csv(&mut file).unwrap(), 1);
}

/// What the schema says of the field `id` holds for ids that come without it as a field as well: else nothing that goes
/// through the documents would work any more.
#[test]
fn ids_that_are_not_fields_are_of_the_declared_type_too() {
    let uuid = Uuid::from_u128(1);
    let ids = [
        Value::from(5),
        "x".into(),
        "5".into(),
        uuid.into(),
        uuid.to_string().into(),
    ];
    // As documents have them that were there before the field was declared.
    let written = |id: &Value| match id {
        Value::Int(id) => format!(r#"{{"$id":{id}}}"#),
        Value::Uuid(id) => format!(r#"{{"$id":"{id}"}}"#),
        id => format!(r#"{{"$id":{{"$string":"{id}"}}}}"#),
    };
    let rows: Vec<String> = ids.iter().map(written).collect();
    let lines = |row: &String| format!("{{\"id\":{row},\"a\":1}}\n");
    let lines: String = rows.iter().map(lines).collect();
    let json = format!("[{}]", lines.trim_end().replace('\n', ","));
    let cell = |row: &String| format!("\"{}\",1\n", row.replace('"', "\"\""));
    let csv = "id,a\n".to_string() + &rows.iter().map(cell).collect::<String>();
    let directory = tempfile::tempdir().unwrap();
    for (kind, fits) in [
        (FieldType::Int, 1),
        (FieldType::String, 3),
        (FieldType::Uuid, 1),
        (FieldType::Any, 5),
    ] {
        for format in ["json", "jsonl", "csv"] {
            let db = Aurora::in_memory().unwrap();
            let schema = Schema::new()
                .field(Field::new("id", kind))
                .field(Field::new("a", FieldType::Int));
            db.new_collection("c", schema.clone()).unwrap();
            let imported = match format {
                "json" => db.import("c").read_json(json.as_bytes()),
                "jsonl" => db.import("c").read_json_lines(lines.as_bytes()),
                _ => db.import("c").read_csv(csv.as_bytes()),
            };
            let imported = imported.unwrap();
            let told = format!("{kind:?}, {format}: {:?}", reasons(&imported));
            assert_eq!(imported.taken, fits, "{told}");
            assert_eq!(imported.refused_count, 5 - fits, "{told}");
            for refused in &imported.refused {
                let Error::WrongType {
                    field, expected, ..
                } = &refused.reason
                else {
                    panic!("{told}");
                };
                assert_eq!((&**field, *expected), ("id", kind.name()));
            }
            assert_comes_back(&db, &schema).unwrap();
            let same = db.alter_collection("c", schema);
            same.wait().unwrap();
            db.check().unwrap();
            let path = directory.path().join(format!("{kind:?}-{format}"));
            db.backup_to(path).unwrap();
        }
    }
}

/// The default of the field `id` is the id of no document that comes with another.
#[test]
fn a_default_of_the_field_id_is_not_put_beside_the_id() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new().field(Field::new("id", FieldType::Int).default(7));
    db.new_collection("c", schema).unwrap();
    let rows = "{\"id\":{\"$id\":5}}\n{\"id\":{\"$id\":7}}\n{\"id\":6}\n";
    let imported = db.import("c").read_json_lines(rows.as_bytes()).unwrap();
    assert_eq!((imported.taken, imported.refused_count), (2, 1));
    db.check().unwrap();
}

/// Only the rows that come without an id have to wait for one.
#[test]
fn a_row_that_can_get_no_id_does_not_end_an_import() {
    let db = Aurora::in_memory().unwrap();
    let schema = Schema::new()
        .field(Field::new("id", FieldType::Int))
        .field(Field::new("a", FieldType::Int));
    db.new_collection("c", schema).unwrap();
    let rows = "{\"id\":1}\n{\"id\":9223372036854775807}\n{\"a\":2}\n{\"id\":5}\n";
    let imported = db.import("c").read_json_lines(rows.as_bytes()).unwrap();
    assert_eq!((imported.taken, imported.refused_count), (3, 1));
    assert_reasons(&imported, 3, &[(3, "give the document an id")]);
    let refused = db.insert_into("c", object([("a", 2.into())])).unwrap_err();
    assert!(matches!(&refused, Error::NoNextId { collection } if collection == "c"));
    assert!(refused.is_misuse());
    assert_eq!(db.collection("c").unwrap().len().unwrap(), 3);
}

/// Documents with many names, and the lines of other programs with many columns.
#[test]
fn many_names_go_out_and_in_in_good_time() {
    const NAMES: i64 = 60_000;
    let names = || (0..NAMES).map(|i| (format!("name {i}"), Value::from(i)));
    let db = Aurora::in_memory().unwrap();
    db.new_collection("c", Schema::schemaless()).unwrap();
    db.insert_into("c", names().collect::<Object>()).unwrap();
    let paths = Schema::schemaless().field(Field::new("p.q", FieldType::Int));
    db.new_collection("paths", paths).unwrap();
    let in_good_time = |what: &str, work: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        work();
        let took = start.elapsed();
        println!("{what}: {took:?}");
        assert!(took < Duration::from_secs(3), "{what}: {took:?}");
    };
    let mut lines = Vec::new();
    in_good_time("export of lines", &mut || {
        db.export("c").write_json_lines(&mut lines).unwrap();
    });
    in_good_time("export of cells", &mut || {
        let mut cells = Vec::new();
        db.export("c").write_csv(&mut cells).unwrap();
    });
    in_good_time("export of chosen cells", &mut || {
        let chosen = names().map(|(name, _)| name);
        let mut cells = Vec::new();
        let export = db.export("c").fields(chosen);
        export.write_csv(&mut cells).unwrap();
    });
    let header: String = names().map(|(name, _)| format!(",{name}")).collect();
    let cells: String = names().map(|(_, value)| format!(",{value}")).collect();
    let rows = format!("p.q{header}\n7{cells}\n");
    in_good_time("import of cells with a path", &mut || {
        let imported = db.import("paths").read_csv(rows.as_bytes()).unwrap();
        assert_eq!(imported.taken, 1);
    });
    let imported = db.query("paths").first().wait().unwrap().unwrap();
    assert_eq!(imported.fields().len() as i64, NAMES + 1);
    assert_eq!(imported.fields().get_path("p.q"), Some(&7.into()));
    assert_eq!(imported.get("name 59999"), Some(&59_999.into()));
}

/// A path goes into the object of another column, whichever of the two comes first.
#[test]
fn columns_of_an_object_and_of_a_path_in_it_are_one() {
    for (rows, taken) in [
        ("p,p.q\n\"{\"\"r\"\":1}\",2\n", 1),
        ("p.q,p\n2,\"{\"\"r\"\":1}\"\n", 1),
        ("p,p.q\n5,2\n", 0),
        ("p.q,p\n2,5\n", 0),
    ] {
        let db = Aurora::in_memory().unwrap();
        let schema = Schema::schemaless().field(Field::new("p.q", FieldType::Int));
        db.new_collection("c", schema).unwrap();
        let imported = db.import("c").read_csv(rows.as_bytes()).unwrap();
        assert_eq!(imported.taken, taken, "{rows}");
        if let Some(document) = db.query("c").first().wait().unwrap() {
            let inner = object([("q", 2.into()), ("r", 1.into())]);
            assert_eq!(document.get("p"), Some(&Value::from(inner)), "{rows}");
        }
    }
}

/// A document that has its id only as its key comes with `$id`: a collection whose documents must have the field refused it,
/// with the advice to give it one.
#[test]
fn an_id_beside_the_fields_becomes_the_field_that_is_required() {
    let db = Aurora::in_memory().unwrap();
    db.new_collection("any", Schema::schemaless()).unwrap();
    let id = db.insert_into("any", [("name", "Ada")]).unwrap();
    let schema = |id: Field| {
        Schema::new()
            .field(id)
            .field(Field::new("name", FieldType::String))
    };
    let field = || Field::new("id", FieldType::Uuid);
    for (to, field, keeps) in [("all", field().required(), true), ("some", field(), false)] {
        db.new_collection(to, schema(field)).unwrap();
        let mut file = Vec::new();
        db.export("any").write_json(&mut file).unwrap();
        let imported = db.import(to).read_json(&file[..]).unwrap();
        assert_eq!(
            (imported.taken, imported.refused_count),
            (1, 0),
            "{imported:?}"
        );
        let document = db.collection(to).unwrap().get(&id).unwrap().unwrap();
        assert_eq!(document.get("id"), keeps.then(|| id.value()));
    }
    db.check().unwrap();
}
