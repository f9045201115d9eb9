//! The tables of every report: a header with a line under it, and numbers aligned to the right.

pub use comfy_table::{Cell, Table};
use comfy_table::{CellAlignment, LineStyle, TableStyle};

const LINE_UNDER_HEADER: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table without rows.
#[must_use]
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(LINE_UNDER_HEADER);
    table.set_header(header);
    table
}

/// A cell for a number.
#[must_use]
pub fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}
