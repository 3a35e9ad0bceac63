//! An entity as a client shows it.

use tickwire_shared::{CellId, Columns, KindId, NetId, Reading, Tick};

use crate::Mirror;

/// An entity as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub(crate) mirror: &'a Mirror,
    pub(crate) id: NetId,
    pub(crate) kind: KindId,
    pub(crate) cell: CellId,
    pub(crate) tick: Tick,
    pub(crate) columns: &'a Columns,
    pub(crate) row: usize,
}

impl<'a> Shown<'a> {
    /// The entity.
    #[must_use]
    pub const fn net_id(&self) -> NetId {
        self.id
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> KindId {
        self.kind
    }

    /// The cell that it is shown from.
    #[must_use]
    pub const fn cell(&self) -> CellId {
        self.cell
    }

    /// The tick at which that cell stands.
    #[must_use]
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// The entity's columns, and its row in them.
    #[must_use]
    pub const fn columns(&self) -> (&'a Columns, usize) {
        (self.columns, self.row)
    }

    /// A public field, by its place in the kind's fields, at `at`: fields with a predictor are predicted to it. In quanta.
    #[must_use]
    pub fn value(&self, field: usize, at: Tick) -> Option<i32> {
        let column = self.mirror.column(self.kind, field)?;
        let reading = Reading::of(&self.mirror.schema().kinds[self.kind.index()].fields[field]);
        Some(self.columns.read(self.row, column, reading, at))
    }

    /// A public field by name, at `at`, in its unit.
    #[must_use]
    pub fn quantity(&self, name: &str, at: Tick) -> Option<f64> {
        let fields = &self.mirror.schema().kinds[self.kind.index()].fields;
        let field = fields.iter().position(|field| field.name == name)?;
        Some(fields[field].quantity.dequantize(self.value(field, at)?))
    }
}
