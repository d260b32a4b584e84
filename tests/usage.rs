//! The calls of a first program, as a newcomer might write it, with a test of every result.

#![allow(
    clippy::unnecessary_to_owned,
    clippy::single_match,
    clippy::needless_borrows_for_generic_args
)] // as a newcomer might write it

use std::path::Path;

use aurora::{Aurora, DataInfo, FieldType, Uuid, Value};

type AnyError = Box<dyn std::error::Error>;

/// A program in a function.
#[rustfmt::skip]
async fn usage() -> Result<(), AnyError> {
let db = Aurora::open("mydb")?; // Will create mydb.db

// 1. Basic Key-Value Operations
println!("\n=== Basic Key-Value Operations ===");

// Put
db.put("user:1".to_string(), b"John Doe".to_vec(), None)?; // None is the time to live

// Get
if let Some(value) = db.get("user:1")? {
    println!("Retrieved: {}", String::from_utf8_lossy(&value));
}

// Delete
db.delete("user:1").await?;
assert!(db.get("user:1")?.is_none());

// 2. Collection Operations
println!("\n=== Collection Operations ===");

// Create collection
db.new_collection("books", vec![
    ("title", FieldType::String, false),
    ("author", FieldType::String, false),
    ("year", FieldType::Int, false),
    ("tags", FieldType::String, false),
    ("id", FieldType::Uuid, true),
])?;

// Insert sample books
let books = vec![
    ("Fantasy Book", "Author 1", 2020, vec!["fantasy", "magic"]),
    ("Science Book", "Author 2", 2021, vec!["science", "education"]),
    ("Mystery Book", "Author 3", 2022, vec!["mystery", "thriller"]),
];

for (title, author, year, tags) in books {
    db.insert_into("books", vec![
        ("title", Value::String(title.to_string())),
        ("author", Value::String(author.to_string())),
        ("year", Value::Int(year)),
        ("tags", Value::Array(tags.into_iter().map(|t| Value::String(t.to_string())).collect())),
        ("id", Value::Uuid(Uuid::new_v4())),
    ])?;
}

// 3. Query Operations
println!("\n=== Query Operations ===");

// Author query
let books = db.query("books")
    .filter(|f| f.eq("author", "Author 1"))
    .collect()
    .await?;
println!("Books by Author 1: {:?}", books);

// Year query
let books = db.query("books")
    .filter(|f| f.gt("year", 2020))
    .order_by("year", true)
    .collect()
    .await?;
println!("Books after 2020: {:?}", books);

// Tag query
let books = db.query("books")
    .filter(|f| f.contains("tags", "fantasy"))
    .collect()
    .await?;
println!("Fantasy books: {:?}", books);

// Combined query
let books = db.query("books")
    .filter(|f| f.gt("year", 2020) && f.contains("tags", "science"))
    .collect()
    .await?;
println!("Science books after 2020: {:?}", books);

// 4. Blob Operations
println!("\n=== Blob Operations ===");

let image_path = Path::new("test_image.jpg");
if image_path.exists() {
    match db.put_blob("images:profile".to_string(), &image_path).await {
        Ok(_) => println!("Image stored successfully"),
        Err(e) => println!("Failed to store image: {:?}", e),
    }
}

// List blobs
let blobs = db.get_data_by_pattern("images:")?;
for (key, info) in blobs {
    match info {
        DataInfo::Blob { size } => println!("Blob: {} ({} bytes)", key, size),
        _ => {}
    }
}

// 5. Export Operations
println!("\n=== Export Operations ===");

db.export_as_json("books", "book_exports")?;
db.export_as_csv("books", "book_exports")?;

// 6. Collection Management
println!("\n=== Collection Management ===");

// Delete old books
let old_books = db.query("books")
    .filter(|f| f.lt("year", 2021))
    .collect()
    .await?;

for book in old_books {
    db.delete(&book.id).await?;
}

// Delete entire collection
db.delete_collection("books").await?;

Ok(())
}

/// A program of its own, because the code opens files in the present directory.
#[test]
fn the_code_of_the_description_runs_as_written() {
    if std::env::var_os("AURORA_RUN_USAGE").is_some() {
        pollster::block_on(usage()).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let image = vec![0xd8; 300_000];
    std::fs::write(directory.path().join("test_image.jpg"), &image).unwrap();
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["the_code_of_the_description_runs_as_written", "--nocapture"])
        .current_dir(directory.path())
        .env("AURORA_RUN_USAGE", "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let line = |start: &str| {
        let found = printed.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_else(|| panic!("no line {start:?} in {printed}"))
    };
    assert_eq!(line("Retrieved: "), "John Doe");
    let titles = |start: &str| -> Vec<&str> {
        let rest = line(start).split("title: ").skip(1);
        rest.map(|rest| rest.split(',').next().unwrap()).collect()
    };
    assert_eq!(titles("Books by Author 1: "), ["Fantasy Book"]);
    assert_eq!(
        titles("Books after 2020: "),
        ["Science Book", "Mystery Book"]
    );
    assert_eq!(titles("Fantasy books: "), ["Fantasy Book"]);
    assert_eq!(titles("Science books after 2020: "), ["Science Book"]);
    assert!(line("Books by Author 1: ").contains("tags: fantasy, magic"));
    assert!(printed.contains("Image stored successfully"));
    assert_eq!(line("Blob: "), "images:profile (300000 bytes)");

    // What the code has left: files with all three books, and a database without the collection.
    let json = std::fs::read_to_string(directory.path().join("book_exports.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    let csv = std::fs::read_to_string(directory.path().join("book_exports.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4);
    assert_eq!(csv.lines().next(), Some("id,title,author,year,tags"));
    let db = Aurora::open(directory.path().join("mydb")).unwrap();
    assert!(db.collections().unwrap().is_empty());
    assert!(db.get("user:1").unwrap().is_none());
    let mut stored = Vec::new();
    let mut blob = db.get_blob("images:profile").unwrap().unwrap();
    std::io::Read::read_to_end(&mut blob, &mut stored).unwrap();
    assert_eq!(stored, image);
    db.check().unwrap();
}

/// The same steps, and what is there after each.
#[test]
fn every_step_of_the_description_does_what_it_says() {
    let db = Aurora::in_memory().unwrap();
    let schema = vec![
        ("title", FieldType::String, false),
        ("author", FieldType::String, false),
        ("year", FieldType::Int, false),
        ("tags", FieldType::String, false),
        ("id", FieldType::Uuid, true),
    ];
    db.new_collection("books", schema).unwrap();
    let tags = |tags: [&str; 2]| Value::Array(tags.map(|tag| tag.into()).to_vec());
    for (title, year, own) in [
        ("F", 2020, ["fantasy", "magic"]),
        ("S", 2021, ["science", "x"]),
    ] {
        let id = Uuid::new_v4();
        let fields = vec![
            ("title", Value::from(title)),
            ("year", Value::Int(year)),
            ("tags", tags(own)),
            ("id", Value::Uuid(id)),
        ];
        let stored = db.insert_into("books", fields).unwrap();
        assert_eq!(stored.value(), &Value::Uuid(id));
    }
    let old = db
        .query("books")
        .filter(|f| f.lt("year", 2021))
        .collect()
        .wait()
        .unwrap();
    assert_eq!(old.len(), 1);
    for book in old {
        assert!(db.delete(&book.id).wait().unwrap());
        assert!(!db.delete(&book.id).wait().unwrap());
    }
    let left = db.query("books").collect().wait().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].get("title"), Some(&"S".into()));
    db.delete_collection("books").wait().unwrap();
    assert!(db.query("books").collect().wait().is_err());
    assert!(db.delete_collection("books").wait().is_err());
}
