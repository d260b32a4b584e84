//! Documents as rows of cells.
//!
//! A cell is empty where the document does not have the field. Text is itself, unless that would
//! be read as something else: then it is written as JSON, in quotation marks. Everything else is
//! JSON. What text could be read as follows from the column:
//!
//! - where the schema says `String`, `Uuid`, `DateTime` or `Bytes`: nothing (an empty cell), `null`,
//!   and what begins with `"` or `[`,
//! - elsewhere: nothing, and all that is JSON as a whole, such as `5` or `true`.

use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Write};

use csv::{ByteRecord, ReaderBuilder, Writer};

use super::Source;
use super::file::Fault;
use super::json;
use super::plain::{self, ByName};
use crate::Result;
use crate::collection::Schema;
use crate::value::{FieldType, Object, Value};

/// What is in the cells below a name.
struct Column {
    /// The name of a field, or the path of a nested one.
    path: String,
    is_path: bool,
    kind: Option<FieldType>,
}

impl Column {
    fn new(schema: &Schema, path: String, is_path: bool) -> Self {
        let declared = schema.fields.iter().find(|field| field.path == path);
        let kind = declared.map(|field| field.kind);
        Column {
            path,
            is_path,
            kind,
        }
    }

    /// Whether text in it is text, whatever it looks like.
    fn is_text(&self) -> bool {
        use FieldType as T;
        matches!(
            self.kind,
            Some(T::String | T::Uuid | T::DateTime | T::Bytes)
        )
    }

    /// Its name in the first row. With dots it is a path if the schema has it, and else a name.
    fn header(&self, schema: &Schema) -> Result<String, Fault> {
        let is_plain = self.is_path || !is_declared_path(schema, &self.path);
        if is_plain && !self.path.starts_with('"') {
            return Ok(self.path.clone());
        }
        json::text(&self.path.as_str().into())
    }

    fn of_header(schema: &Schema, header: &str) -> Self {
        if header.starts_with('"')
            && let Ok(Value::String(name)) = json::parse(header.as_bytes())
        {
            return Column::new(schema, name, false);
        }
        let is_path = is_declared_path(schema, header);
        Column::new(schema, header.to_string(), is_path)
    }

    fn cell(&self, document: &ByName<'_>) -> Result<String, Fault> {
        let value = match self.path.as_str() {
            "id" => Some(document.id.clone()),
            path if self.is_path => document.at_path(path),
            name => document.field(name),
        };
        match value {
            None => Ok(String::new()),
            Some(Value::String(text)) if self.read_text(&text).is_none() => Ok(text),
            Some(value) => json::text(&value),
        }
    }

    /// The value that the text stands for if it is not just text.
    fn read_text(&self, text: &str) -> Option<Value> {
        if text.is_empty() {
            return Some(Value::Null);
        }
        if !self.is_text() {
            return json::parse(text.as_bytes()).ok();
        }
        if text == "null" {
            return Some(Value::Null);
        }
        let begins = match self.path.as_str() {
            "id" => text.starts_with(['"', '[', '{']),
            _ => text.starts_with(['"', '[']),
        };
        let value = begins.then(|| json::parse(text.as_bytes()).ok())?;
        value.filter(|value| match value {
            Value::String(_) => true,
            Value::Array(values) => values.iter().all(|value| value.as_str().is_some()),
            value => plain::content(value, plain::ID).is_some(),
        })
    }

    /// The value of a cell; `None` if the document does not have the field.
    fn value(&self, cell: &str) -> Option<Value> {
        if cell.is_empty() {
            return None;
        }
        let value = self.read_text(cell);
        Some(value.unwrap_or_else(|| lenient(self.kind, cell)))
    }
}

/// Text that is not JSON, as other programs write values of some types.
fn lenient(kind: Option<FieldType>, cell: &str) -> Value {
    let text = cell.trim();
    let value = match kind {
        Some(FieldType::Int) => text.parse::<i64>().ok().map(Value::Int),
        Some(FieldType::Float) => text.parse::<f64>().ok().map(Value::Float),
        Some(FieldType::Bool) if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        Some(FieldType::Bool) if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        _ => None,
    };
    value.unwrap_or_else(|| cell.into())
}

fn is_declared_path(schema: &Schema, path: &str) -> bool {
    path.contains('.') && schema.fields.iter().any(|field| field.path == path)
}

/// The columns: those that were chosen, or the id, the schema's fields, and what else there is.
fn columns(source: &Source<'_>) -> Result<Vec<Column>, Fault> {
    let schema = &source.meta.schema;
    if let Some(fields) = &source.fields {
        let columns = fields.iter().cloned();
        let columns = columns.map(|path| Column::new(schema, path, true));
        return Ok(columns.collect());
    }
    let mut names = vec!["id".to_string()];
    for field in &schema.fields {
        let first = field.path.split('.').next().unwrap_or(&field.path);
        if !names.iter().any(|name| name == first) {
            names.push(first.to_string());
        }
    }
    let mut others = BTreeSet::new();
    // A path may be a name with dots in it in some documents.
    let has_paths = schema.fields.iter().any(|field| field.path.contains('.'));
    if !schema.strict || has_paths {
        for document in source.documents()? {
            for name in document?.names() {
                if !others.contains(name) && !names.iter().any(|known| known == name) {
                    others.insert(name.to_string());
                }
            }
        }
    }
    let all = names.into_iter().chain(others);
    Ok(all.map(|name| Column::new(schema, name, false)).collect())
}

pub(super) fn write(source: &Source<'_>, to: impl Write) -> Result<u64, Fault> {
    let columns = columns(source)?;
    let mut writer = Writer::from_writer(to);
    let mut header = Vec::with_capacity(columns.len());
    for column in &columns {
        header.push(column.header(&source.meta.schema)?);
    }
    writer.write_record(&header)?;
    let mut documents = 0;
    for document in source.documents()? {
        let document = document?;
        let by_name = document.by_name();
        for column in &columns {
            writer.write_field(column.cell(&by_name)?)?;
        }
        writer.write_record(None::<&[u8]>)?;
        documents += 1;
    }
    writer.flush()?;
    Ok(documents)
}

/// Takes the fields of each row below the first, or what is wrong with it.
pub(super) type TakeFields<'t> =
    dyn FnMut(u64, usize, Result<Object, String>) -> Result<(), Fault> + 't;

pub(super) fn read(
    schema: &Schema,
    separator: u8,
    from: impl Read,
    take: &mut TakeFields<'_>,
) -> Result<(), Fault> {
    let mut builder = ReaderBuilder::new();
    let from = from.chain(END_ROW);
    builder.has_headers(false).flexible(true);
    let mut reader = builder.delimiter(separator).from_reader(from);
    let (mut record, mut next) = (ByteRecord::new(), ByteRecord::new());
    let mut read = |record: &mut ByteRecord| reader.read_byte_record(record);
    if !read(&mut record)? {
        return Ok(());
    }
    let mut columns = None;
    let mut number = 0;
    // A row is taken once it is known that another one comes behind it.
    while read(&mut next)? {
        match &columns {
            None => columns = Some(Header::new(schema, separator, &record)?),
            Some(Header { columns, lacks }) => {
                number += 1;
                let fields = match lacks {
                    Some(reason) => Err(reason.clone()),
                    None => row(columns, &record),
                };
                take(number, record.as_slice().len(), fields)?;
            }
        }
        std::mem::swap(&mut record, &mut next);
    }
    match record.len() == 1 && record.get(0) == Some(END_ROW.trim_ascii()) {
        true => Ok(()),
        false => Err(Fault::Content(
            "a quotation mark is opened in this row and never closed".to_string(),
        )),
    }
}

/// A row that is put behind the last one. Where a quotation mark is left open, all that follows belongs to one cell, and so
/// does this: that is how it is noticed. (No text has these bytes, and what is between cells is none of them.)
const END_ROW: &[u8] = b"\n\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\n";

/// The first row.
struct Header {
    columns: Vec<Column>,
    /// Why no row below it can be a document: there is no column for a field that each must have.
    lacks: Option<String>,
}

impl Header {
    fn new(schema: &Schema, separator: u8, record: &ByteRecord) -> Result<Self, Fault> {
        let columns = columns_of(schema, record)?;
        let lacks = lacking(schema, separator, &columns);
        Ok(Header { columns, lacks })
    }
}

/// So many names of columns are told.
const NAMES_TOLD: usize = 20;

/// The first field that every document must have and no column has, with what the columns are.
fn lacking(schema: &Schema, separator: u8, columns: &[Column]) -> Option<String> {
    let has = |whole: &str, path: &str| {
        let rest = path.strip_prefix(whole);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // What a document gets by itself.
    let is_given = |path: &str| {
        let mut fields = schema.fields.iter();
        path == "id" || fields.any(|field| field.default.is_some() && has(&field.path, path))
    };
    let mut required = { schema.fields.iter() }
        .filter(|field| field.required && !is_given(&field.path))
        .filter(|field| !columns.iter().any(|column| has(&column.path, &field.path)));
    let field = required.next()?;
    let names = columns.iter().map(|column| format!("{:?}", column.path));
    let mut names: Vec<String> = names.take(NAMES_TOLD + 1).collect();
    if names.len() > NAMES_TOLD {
        names.truncate(NAMES_TOLD);
        names.push("…".to_string());
    }
    let advice = match columns {
        [one] if one.path.contains([';', '\t', '|']) => {
            format!(
                "if something other than {:?} is between them, say so with `separator`",
                char::from(separator)
            )
        }
        _ => {
            let mut columns = columns.iter();
            match columns.find(|column| column.path.eq_ignore_ascii_case(&field.path)) {
                Some(column) => format!("{:?} is another name: name it as the field", column.path),
                None => "name the one that it is in as the field".to_string(),
            }
        }
    };
    Some(format!(
        "no column is named {:?}, which is required; the columns are {}; {advice}",
        field.path,
        names.join(", ")
    ))
}

fn columns_of(schema: &Schema, record: &ByteRecord) -> Result<Vec<Column>, Fault> {
    let mut columns: Vec<Column> = Vec::new();
    let mut known = HashSet::new();
    for cell in record {
        let cell = std::str::from_utf8(cell);
        let cell = cell.map_err(|error| Fault::Content(format!("the first row: {error}")))?;
        let column = Column::of_header(schema, cell);
        if !known.insert((column.path.clone(), column.is_path)) {
            return Err(Fault::Content(format!(
                "two columns are named {:?}",
                column.path
            )));
        }
        columns.push(column);
    }
    Ok(columns)
}

fn row(columns: &[Column], record: &ByteRecord) -> Result<Object, String> {
    if record.len() != columns.len() {
        let (cells, names) = (record.len(), columns.len());
        return Err(format!("it has {cells} cells below {names} names"));
    }
    let cells = columns.iter().zip(record);
    let names = { cells.clone() }.filter(|(column, _)| !column.is_path);
    let names = names.filter_map(|(column, cell)| {
        let value = value(column, cell).transpose()?;
        Some(value.map(|value| (column.path.as_str(), value)))
    });
    // All names at once, as they may be many. Then a path goes into the object that one of them may have.
    let mut fields = names.collect::<Result<Object, String>>()?;
    for (column, cell) in cells.filter(|(column, _)| column.is_path) {
        let Some(value) = value(column, cell)? else {
            continue;
        };
        if !fields.set_path(&column.path, value) {
            return Err(format!(
                "the column {:?} is inside of another that is not an object",
                column.path
            ));
        }
    }
    Ok(fields)
}

/// The value of a cell; `None` if the document does not have the field.
fn value(column: &Column, cell: &[u8]) -> Result<Option<Value>, String> {
    let cell = std::str::from_utf8(cell);
    let cell = cell.map_err(|error| format!("the column {:?}: {error}", column.path))?;
    Ok(column.value(cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Field;

    fn column(kind: FieldType) -> Column {
        let schema = Schema::new().field(Field::new("f", kind));
        Column::new(&schema, "f".to_string(), false)
    }

    #[test]
    fn cells_of_other_programs_are_read_by_type() {
        use FieldType as T;
        for (kind, cell, value) in [
            (T::String, "007", Value::from("007")),
            (
                T::String,
                "\"quoted\" and more",
                "\"quoted\" and more".into(),
            ),
            (T::String, "[1, 2]", "[1, 2]".into()),
            (T::String, "{\"a\": 1}", "{\"a\": 1}".into()),
            (T::Int, "007", 7.into()),
            (T::Int, " 7 ", 7.into()),
            (T::Int, "seven", "seven".into()),
            (T::Float, "2", 2.into()),
            (T::Float, "-inf", f64::NEG_INFINITY.into()),
            (T::Float, ".5", 0.5.into()),
            (T::Bool, "TRUE", true.into()),
            (T::Any, "007", "007".into()),
            (T::Any, "7", 7.into()),
        ] {
            let read = column(kind).value(cell).unwrap();
            assert_eq!(read, value, "{cell}");
            assert_eq!(read.type_name(), value.type_name(), "{cell}");
        }
        assert_eq!(column(T::Any).value(""), None);
    }
}
