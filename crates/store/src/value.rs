//! Values that go into statements and rows that come out.
//!
//! Owns the three storage types that both engines share (64-bit integer, text, bytes) and the compact form in which a
//! result set is kept: one allocation for all its text and one for its cells, however many rows it has.
//! Deliberately not here: any domain type. Other crates convert into [`Value`] and out of [`Row`].

use std::fmt;
use std::sync::Arc;

use crate::error::StoreError;
use crate::sql::Sql;

/// One parameter of a statement. The engines store nothing else than these.
///
/// Text must not contain a zero byte (PostgreSQL has no such text); binding one is refused on both engines.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// A `BIGINT`. Truth values are 0 and 1, times are microseconds since 1970.
    Int(i64),
    /// A `TEXT`, compared byte by byte on both engines.
    Text(String),
    /// A `BLOB` (`BYTEA` on PostgreSQL).
    Blob(Vec<u8>),
}

impl Value {
    /// The storage type's name, as error texts use it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Int(_) => "BIGINT",
            Value::Text(_) => "TEXT",
            Value::Blob(_) => "BLOB",
        }
    }
}

/// Shows the type and size but never the content: parameters hold secrets, and this form reaches logs.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("Null"),
            Value::Int(value) => write!(f, "Int({value})"),
            Value::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Value::Blob(bytes) => write!(f, "Blob({} bytes)", bytes.len()),
        }
    }
}

macro_rules! value_from {
    ($($source:ty => |$name:ident| $value:expr;)*) => {$(
        impl From<$source> for Value {
            fn from($name: $source) -> Self {
                $value
            }
        }
    )*};
}

value_from! {
    i64 => |value| Value::Int(value);
    i32 => |value| Value::Int(i64::from(value));
    u32 => |value| Value::Int(i64::from(value));
    u16 => |value| Value::Int(i64::from(value));
    u8 => |value| Value::Int(i64::from(value));
    bool => |value| Value::Int(i64::from(value));
    String => |value| Value::Text(value);
    &str => |value| Value::Text(value.to_owned());
    &String => |value| Value::Text(value.clone());
    Vec<u8> => |value| Value::Blob(value);
    &[u8] => |value| Value::Blob(value.to_vec());
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Value::Blob(value.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// One cell as the row holds it; text and bytes are borrowed from the result set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
    /// A type outside the shared three; the name goes into the error.
    Foreign(&'static str),
}

impl Cell<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Cell::Null => "NULL",
            Cell::Int(_) => "BIGINT",
            Cell::Text(_) => "TEXT",
            Cell::Blob(_) => "BLOB",
            Cell::Foreign(name) => name,
        }
    }
}

/// Where a cell's content lies in its [`Block`].
#[derive(Clone, Copy)]
enum Place {
    Null,
    Int(i64),
    Text { start: u32, len: u32 },
    Blob { start: u32, len: u32 },
    Foreign(&'static str),
}

/// A whole result set: cells in row order, all text in one string, all bytes in one vector.
pub(crate) struct Block {
    places: Vec<Place>,
    text: String,
    blob: Vec<u8>,
}

impl Block {
    fn cell(&self, index: usize) -> Option<Cell<'_>> {
        Some(match *self.places.get(index)? {
            Place::Null => Cell::Null,
            Place::Int(value) => Cell::Int(value),
            Place::Text { start, len } => Cell::Text(self.text.get(start as usize..start as usize + len as usize)?),
            Place::Blob { start, len } => Cell::Blob(self.blob.get(start as usize..start as usize + len as usize)?),
            Place::Foreign(name) => Cell::Foreign(name),
        })
    }
}

/// Rows for which room is made in advance: most answers are one row or a short page.
const ROWS_EXPECTED: usize = 8;
/// Bytes of text for which room is made in advance.
const TEXT_BYTES_EXPECTED: usize = 512;

/// Builds a [`Block`] row by row.
pub(crate) struct BlockBuilder {
    sql: &'static Sql,
    columns: usize,
    block: Block,
}

impl BlockBuilder {
    pub(crate) fn new(sql: &'static Sql, columns: usize) -> Self {
        let places = Vec::with_capacity(columns * ROWS_EXPECTED);
        let block = Block { places, text: String::with_capacity(TEXT_BYTES_EXPECTED), blob: Vec::new() };
        Self { sql, columns, block }
    }

    /// Appends one cell; every row must append `columns` of them.
    pub(crate) fn push(&mut self, cell: Cell<'_>) -> Result<(), StoreError> {
        let place = match cell {
            Cell::Null => Place::Null,
            Cell::Int(value) => Place::Int(value),
            Cell::Text(text) => {
                let (start, len) = self.extent(self.block.text.len(), text.len())?;
                self.block.text.push_str(text);
                Place::Text { start, len }
            }
            Cell::Blob(bytes) => {
                let (start, len) = self.extent(self.block.blob.len(), bytes.len())?;
                self.block.blob.extend_from_slice(bytes);
                Place::Blob { start, len }
            }
            Cell::Foreign(name) => Place::Foreign(name),
        };
        self.block.places.push(place);
        Ok(())
    }

    /// Places are 32-bit, so a result set holds at most 4 GiB of text and as much of bytes.
    fn extent(&self, start: usize, len: usize) -> Result<(u32, u32), StoreError> {
        match (u32::try_from(start + len), u32::try_from(start), u32::try_from(len)) {
            (Ok(_), Ok(start), Ok(len)) => Ok((start, len)),
            _ => {
                Err(StoreError::Decode { statement: self.sql.name, column: 0, wanted: "at most 4 GiB", found: "more" })
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<Row> {
        let Self { sql, columns, block } = self;
        let count = block.places.len().checked_div(columns).unwrap_or(0);
        let block = Arc::new(block);
        (0..count)
            .map(|row| Row { sql, cells: Cells::Block { block: Arc::clone(&block), first: row * columns, columns } })
            .collect()
    }
}

enum Cells {
    Block { block: Arc<Block>, first: usize, columns: usize },
    Postgres(tokio_postgres::Row),
}

/// One row of an answer. Columns are read by their place in the statement's list, starting at 0.
///
/// Reading the wrong type or a missing column is [`StoreError::Decode`], which names statement and column.
pub struct Row {
    sql: &'static Sql,
    cells: Cells,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("statement", &self.sql.name)
            .field("columns", &self.columns())
            .finish_non_exhaustive()
    }
}

impl Row {
    pub(crate) fn from_postgres(sql: &'static Sql, row: tokio_postgres::Row) -> Self {
        Self { sql, cells: Cells::Postgres(row) }
    }

    /// How many columns the row has.
    pub fn columns(&self) -> usize {
        match &self.cells {
            Cells::Block { columns, .. } => *columns,
            Cells::Postgres(row) => row.len(),
        }
    }

    fn cell(&self, column: usize) -> Cell<'_> {
        const MISSING: Cell<'_> = Cell::Foreign("no such column");
        match &self.cells {
            Cells::Block { block, first, columns } if column < *columns => {
                block.cell(first + column).unwrap_or(MISSING)
            }
            Cells::Block { .. } => MISSING,
            Cells::Postgres(row) => crate::engine::postgres::cell(row, column).unwrap_or(MISSING),
        }
    }

    fn mismatch(&self, column: usize, wanted: &'static str) -> StoreError {
        StoreError::Decode { statement: self.sql.name, column, wanted, found: self.cell(column).kind() }
    }

    /// The error for a value in `column` that has the right type and no meaning.
    pub(crate) fn unexpected(&self, column: usize, wanted: &'static str) -> StoreError {
        self.mismatch(column, wanted)
    }

    /// The integer in `column`.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        match self.cell(column) {
            Cell::Int(value) => Ok(value),
            _ => Err(self.mismatch(column, "BIGINT")),
        }
    }

    /// The integer in `column`, read as a truth value: only 0 and 1 are accepted.
    pub fn flag(&self, column: usize) -> Result<bool, StoreError> {
        match self.cell(column) {
            Cell::Int(0) => Ok(false),
            Cell::Int(1) => Ok(true),
            _ => Err(self.mismatch(column, "BIGINT 0 or 1")),
        }
    }

    /// The text in `column`.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.cell(column) {
            Cell::Text(text) => Ok(text),
            _ => Err(self.mismatch(column, "TEXT")),
        }
    }

    /// The bytes in `column`.
    pub fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        match self.cell(column) {
            Cell::Blob(bytes) => Ok(bytes),
            _ => Err(self.mismatch(column, "BLOB")),
        }
    }

    /// The integer in `column`, or `None` for `NULL`.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.cell(column) {
            Cell::Int(value) => Ok(Some(value)),
            Cell::Null => Ok(None),
            _ => Err(self.mismatch(column, "BIGINT or NULL")),
        }
    }

    /// The text in `column`, or `None` for `NULL`.
    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.cell(column) {
            Cell::Text(text) => Ok(Some(text)),
            Cell::Null => Ok(None),
            _ => Err(self.mismatch(column, "TEXT or NULL")),
        }
    }

    /// The bytes in `column`, or `None` for `NULL`.
    pub fn opt_blob(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.cell(column) {
            Cell::Blob(bytes) => Ok(Some(bytes)),
            Cell::Null => Ok(None),
            _ => Err(self.mismatch(column, "BLOB or NULL")),
        }
    }
}
