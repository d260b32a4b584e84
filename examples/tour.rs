//! A tour of Aurora: most of its calls, and how long each step took.
//!
//! `cargo run --release --example tour`
//!
//! It works in a directory of its own that is removed at the end. Put a `test_image.jpg` into the
//! present directory to see it stored; if there is none, a picture is made up.

#![allow(clippy::unnecessary_to_owned, clippy::single_match)] // as a newcomer might write it

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use aurora::{Aurora, DataInfo, Durability, Field, FieldType, Index, Patch, Schema, Uuid, Value};

/// Prints how long a step took since the last one.
struct Timer(Instant);

impl Timer {
    fn took(&mut self, step: &str) {
        println!("Operation '{step}' took: {:?}", self.0.elapsed());
        self.0 = Instant::now();
    }
}

#[pollster::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let own_image = Path::new("test_image.jpg").canonicalize();
    let image_path = directory.path().join("test_image.jpg");
    match own_image {
        Ok(own) => std::fs::copy(own, &image_path).map(|_| ())?,
        Err(_) => std::fs::write(&image_path, vec![0xd8; 1 << 20])?,
    }
    let exports = directory.path().join("book_exports");
    let path = directory.path().join("mydb");

    println!("Starting Aurora database...");
    println!("Creating database at {}.db", path.display());
    let mut timer = Timer(Instant::now());
    let db = Aurora::open(&path)?; // Will create mydb.db
    timer.took("Database initialization");

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
    timer.took("Basic KV operations");

    // 2. Collection Operations
    println!("\n=== Collection Operations ===");

    // Create collection
    db.new_collection(
        "books",
        vec![
            ("title", FieldType::String, false),
            ("author", FieldType::String, false),
            ("year", FieldType::Int, false),
            ("tags", FieldType::String, false),
            ("id", FieldType::Uuid, true),
        ],
    )?;

    // Insert sample books
    let books = vec![
        ("Fantasy Book", "Author 1", 2020, vec!["fantasy", "magic"]),
        (
            "Science Book",
            "Author 2",
            2021,
            vec!["science", "education"],
        ),
        (
            "Mystery Book",
            "Author 3",
            2022,
            vec!["mystery", "thriller"],
        ),
    ];

    for (title, author, year, tags) in books {
        let tags = tags.into_iter().map(|t| Value::String(t.to_string()));
        db.insert_into(
            "books",
            vec![
                ("title", Value::String(title.to_string())),
                ("author", Value::String(author.to_string())),
                ("year", Value::Int(year)),
                ("tags", Value::Array(tags.collect())),
                ("id", Value::Uuid(Uuid::new_v4())),
            ],
        )?;
    }
    timer.took("Collection setup");

    // 3. Query Operations
    println!("\n=== Query Operations ===");

    // Author query
    let books = db
        .query("books")
        .filter(|f| f.eq("author", "Author 1"))
        .collect()
        .await?;
    timer.took("Query books by Author 1");
    println!("Books by Author 1: {:?}", books);

    // Year query
    let books = db
        .query("books")
        .filter(|f| f.gt("year", 2020))
        .order_by("year", true)
        .collect()
        .await?;
    timer.took("Query books after 2020");
    println!("Books after 2020: {:?}", books);

    // Tag query
    let books = db
        .query("books")
        .filter(|f| f.contains("tags", "fantasy"))
        .collect()
        .await?;
    timer.took("Query fantasy books");
    println!("Fantasy books: {:?}", books);

    // Combined query
    let books = db
        .query("books")
        .filter(|f| f.gt("year", 2020) && f.contains("tags", "science"))
        .collect()
        .await?;
    timer.took("Query science books after 2020");
    println!("Science books after 2020: {:?}", books);

    // 4. Blob Operations
    println!("\n=== Blob Operations ===");

    if image_path.exists() {
        match db.put_blob("images:profile".to_string(), &image_path).await {
            Ok(_) => println!("Image stored successfully"),
            Err(e) => println!("Failed to store image: {:?}", e),
        }
    }

    // List blobs
    let blobs = db.get_data_by_pattern("images:")?;
    for (key, info) in blobs {
        if let DataInfo::Blob { size } = info {
            println!("Blob: {} ({} bytes)", key, size);
        }
    }
    timer.took("Blob operations");

    // 5. Export Operations
    println!("\n=== Export Operations ===");

    db.export_as_json("books", &exports)?;
    println!("Exported collection 'books' to book_exports.json");
    db.export_as_csv("books", &exports)?;
    println!("Exported collection 'books' to book_exports.csv");
    timer.took("Export operations");

    // 6. Collection Management
    println!("\n=== Collection Management ===");

    // Delete old books
    let old_books = db
        .query("books")
        .filter(|f| f.lt("year", 2021))
        .collect()
        .await?;

    for book in old_books {
        db.delete(&book.id).await?;
    }

    // Delete entire collection
    db.delete_collection("books").await?;
    timer.took("Collection cleanup");

    transactions(&db, &mut timer)?;
    indexes(&db, &mut timer)?;

    db.close()?;
    timer.took("Close");
    let db = Aurora::open(&path)?;
    timer.took("Open again");
    db.check()?;
    timer.took("Check of everything in the file");
    Ok(())
}

/// Keys, documents and trees of bytes, together or not at all.
fn transactions(db: &Aurora, timer: &mut Timer) -> aurora::Result<()> {
    println!("\n=== Transactions ===");
    db.new_collection("accounts", Schema::schemaless())?;
    db.write(|tx| {
        tx.put("greeting", "hello", None)?;
        tx.collection("accounts")?
            .insert_fields([("owner", "ada")])?;
        for n in 0..10_000u32 {
            tx.tree("by number")?
                .put(n.to_be_bytes(), format!("Number {n}"))?;
        }
        Ok(())
    })?;
    timer.took("10,000 entries, a key and a document in one commit");

    let mut tx = db.begin_write()?;
    let savepoint = tx.savepoint()?;
    tx.drop_tree("by number")?;
    tx.roll_back_to(&savepoint)?;
    tx.commit()?;
    assert_eq!(db.tree("by number")?.len()?, 10_000);
    timer.took("A savepoint, and back to it");

    let before = db.begin_read()?;
    db.tree("by number")?.delete_range::<&[u8]>(..)?;
    assert_eq!(before.tree("by number")?.len(), 10_000);
    timer.took("Everything removed, while a snapshot still sees it");

    let mut tx = db.begin_write()?;
    tx.set_durability(Durability::Buffered);
    tx.put("later", "on the disk soon", None)?;
    tx.commit()?;
    db.flush()?;
    timer.took("A buffered commit, and a flush");
    Ok(())
}

/// Plans of queries on a filled collection.
fn indexes(db: &Aurora, timer: &mut Timer) -> aurora::Result<()> {
    println!("\n=== Indexes ===");
    let schema = Schema::new()
        .field(Field::new("n", FieldType::Int).indexed())
        .field(Field::new("kind", FieldType::String))
        .field(Field::new("tags", FieldType::String).indexed());
    db.new_collection("things", schema)?;
    let things = (0..20_000).map(|n| {
        let tags = [n % 10, 10 + n % 7].map(|tag| Value::from(format!("tag {tag}")));
        aurora::Object::from([
            ("n", Value::from(n)),
            ("kind", ["a", "b", "c"][n as usize % 3].into()),
            ("tags", Value::Array(tags.to_vec())),
        ])
    });
    let things = db.collection("things")?.insert_many(things)?;
    timer.took("20,000 documents");
    db.create_index("things", Index::on(["kind", "n"])).wait()?;
    timer.took("One more index");

    let query = || {
        db.query("things")
            .filter(|f| f.eq("kind", "b") && (f.lt("n", 300) || f.contains("tags", "tag 3")))
            .order_by("n", false)
            .limit(3)
    };
    println!("{}", query().explain().wait()?);
    timer.took("Explain");
    println!("{:?}", query().collect().wait()?);
    timer.took("Query");
    let visited = Patch::new().inc("visits", 1);
    let refused = db.collection("things")?.update(&things[0], visited);
    println!("Refused, as the schema says: {}", refused.unwrap_err());
    Ok(())
}
