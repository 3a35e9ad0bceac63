//! An entity as a client shows it.

use tickwire_shared::{CellId, KindId, NetId, Tick};

use crate::{Mirror, rows::Row};

/// An entity as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub(crate) mirror: &'a Mirror,
    pub(crate) id: NetId,
    pub(crate) kind: KindId,
    pub(crate) cell: CellId,
    pub(crate) tick: Tick,
    pub(crate) row: Row<'a>,
    pub(crate) is_ghost: bool,
}

impl Shown<'_> {
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

    /// Whether it is on its way to a cell that has not caught up with its leaving: its last instance.
    #[must_use]
    pub const fn is_ghost(&self) -> bool {
        self.is_ghost
    }

    /// A public field, by its place in the kind's fields, at `at`: fields with a predictor are predicted to it. In quanta.
    #[must_use]
    pub fn value(&self, field: usize, at: Tick) -> Option<i32> {
        Some(self.row.value(self.mirror.column(self.kind, field)?, self.tick, at))
    }

    /// A public field by name, at `at`, in its unit.
    #[must_use]
    pub fn quantity(&self, name: &str, at: Tick) -> Option<f64> {
        let fields = &self.mirror.schema().kinds[self.kind.index()].fields;
        let field = fields.iter().position(|field| field.name == name)?;
        Some(fields[field].quantity.dequantize(self.value(field, at)?))
    }
}
