//! `recordings diff`: the first tick at which two recordings differ.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tickwire_recording::{DiffError, Difference, OutcomeDiff, Recording, RecordingDiff, TickDiff, diff};

use super::{CliError, output};

#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// The one recording
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The other recording
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Compares two recordings. As with diff(1), the exit code is 1 where they differ, and 2 where that cannot be told.
pub(super) fn run(arguments: &DiffArgs) -> Result<(), CliError> {
    compare(arguments).map_err(|error| match error {
        CliError::Differ { .. } | CliError::Diff(DiffError::Origins { .. }) => error,
        trouble => CliError::Trouble(Box::new(trouble)),
    })
}

fn compare(DiffArgs { a, b, json }: &DiffArgs) -> Result<(), CliError> {
    let open = |path: &Path| Recording::open(path).map_err(CliError::of_recording(path));
    let found = diff(&open(a)?, &open(b)?).map_err(CliError::Diff)?;
    if *json {
        output::line(in_json(&found))?;
    } else {
        print(&found)?;
    }
    match found.first {
        None => Ok(()),
        Some(first) => Err(CliError::Differ { tick: first.tick }),
    }
}

fn print(RecordingDiff { header, ticks_same, first }: &RecordingDiff) -> Result<(), CliError> {
    for line in header {
        output::line(format_args!("header: {line}"))?;
    }
    match first {
        None => output::line(format_args!("all {ticks_same} ticks are the same"))?,
        Some(first) => output::line(first)?,
    }
    Ok(())
}

fn in_json(RecordingDiff { header, ticks_same, first }: &RecordingDiff) -> Value {
    let mut object = json!({ "header": header, "ticks_same": ticks_same, "same": first.is_none() });
    let Some(TickDiff { tick, inputs, outcome, missing }) = first else { return object };
    object["tick"] = tick.0.into();
    object["inputs"] = json!(inputs);
    object["missing"] = json!(missing);
    let Some(outcome) = outcome else { return object };
    object["outcome"] = outcome.to_string().into();
    let OutcomeDiff { hashes, entities, difference } = outcome;
    object["state_hashes"] = json!(hashes.map(|hash| format!("{hash:016x}")));
    object["entities"] = json!(entities);
    match difference {
        Difference::Field { kind, net_id, field, recorded, replayed } => {
            object["kind"] = kind.as_str().into();
            object["net_id"] = net_id.0.into();
            object["field"] = field.as_str().into();
            object["unit"] = recorded.unit.as_str().into();
            object["a"] = recorded.quantity.into();
            object["b"] = replayed.quantity.into();
        }
        Difference::Entity { kind, net_id, recorded } => {
            object["kind"] = kind.as_str().into();
            object["net_id"] = net_id.0.into();
            object["only_in"] = if *recorded { "a" } else { "b" }.into();
        }
        // The outcome in words says all that there is to say.
        Difference::Event { .. } | Difference::Hidden => {}
    }
    object
}
