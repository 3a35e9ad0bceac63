//! `recordings export`: a recording in forms that other programs read.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::{self, BufWriter, Cursor, Write as _},
    path::{Path, PathBuf},
};

use tickwire_recording::{ExportError, ExportPart, Recording, Selection, export, export_csv, export_mcap};
use tickwire_shared::PlayerId;

use super::{
    CliError,
    new_file::{self, NewFile},
    output,
    ticks::AskedTicks,
};

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// json: an object per line, with what changed. csv: a table. mcap: channels of plain fields, for Foxglove
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,
    /// What is exported [default: all; as csv, whose tables have one of them: fields]
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Entities of this kind only; it narrows fields
    #[arg(long = "kind", value_name = "NAME", value_delimiter = ',')]
    kinds: Vec<String>,
    /// This field only, of entities, inputs and events; it narrows whichever of them are exported
    #[arg(long = "field", value_name = "NAME", value_delimiter = ',')]
    fields: Vec<String>,
    /// Inputs, seats, own events and chat of this player only; it does not narrow fields
    #[arg(long = "player", value_name = "NUMBER", value_delimiter = ',')]
    players: Vec<u32>,
    /// The first tick [default: the recording's first]
    #[arg(long, value_name = "TICK")]
    from: Option<u64>,
    /// The last tick [default: the recording's last, and no further where it ends before]
    #[arg(long, value_name = "TICK")]
    to: Option<u64>,
    /// Where it goes [default: standard output]; a file that is there is left alone, and one that cannot be written whole is not
    /// there
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Json,
    Csv,
    Mcap,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Part {
    Fields,
    Inputs,
    Events,
    Chat,
}

impl Part {
    const fn of_recording(self) -> ExportPart {
        match self {
            Self::Fields => ExportPart::Fields,
            Self::Inputs => ExportPart::Inputs,
            Self::Events => ExportPart::Events,
            Self::Chat => ExportPart::Chat,
        }
    }
}

/// Exports a recording. What is readable of a damaged one comes on standard output, before the error.
pub(super) fn run(arguments: &ExportArgs) -> Result<(), CliError> {
    let asked = AskedTicks::new(arguments.from, arguments.to)?;
    let mut selection = selection(arguments);
    let parts: Vec<ExportPart> = selection.parts.iter().copied().collect();
    let csv_part = match (arguments.format, arguments.only.as_slice(), parts.as_slice()) {
        (Format::Csv, [], _) => ExportPart::Fields,
        (Format::Csv, _, [part]) => *part,
        (Format::Csv, ..) => return Err(CliError::TwoTables),
        // It is left out unless somebody asks for it, who then is to know.
        (Format::Mcap, [_, ..], parts) if parts.contains(&ExportPart::Chat) => {
            return Err(CliError::Selection { path: arguments.file.clone(), source: ExportError::ChatInMcap });
        }
        // It has no use for one.
        _ => ExportPart::Fields,
    };
    let file = &arguments.file;
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    selection.ticks = asked.of(file, &recording)?;
    let name = arguments.output.as_deref();
    match arguments.format {
        Format::Json => to(name, |out| export(&recording, &selection, out).map_err(failed(file))),
        Format::Csv => to(name, |out| export_csv(&recording, csv_part, &selection, out).map_err(failed(file))),
        // It is not written from its beginning to its end, as standard output is.
        Format::Mcap => to(name, |out| {
            let bytes = export_mcap(&recording, &selection, Cursor::new(Vec::new())).map_err(failed(file))?;
            Ok(out.write_all(bytes.get_ref())?)
        }),
    }
}

/// What of it was asked for is told apart from what is wrong with it.
fn failed(path: &Path) -> impl Fn(ExportError) -> CliError + '_ {
    move |source| match source {
        ExportError::Unknown { .. } | ExportError::Idle { .. } | ExportError::ChatInMcap => {
            CliError::Selection { path: path.to_owned(), source }
        }
        ExportError::Recording(source) => CliError::of_recording(path)(source),
        source => CliError::at(path)(source),
    }
}

/// Of all ticks.
fn selection(arguments: &ExportArgs) -> Selection {
    let ExportArgs { only, kinds, fields, players, .. } = arguments;
    let all = Selection::default();
    let parts: BTreeSet<ExportPart> = only.iter().copied().map(Part::of_recording).collect();
    Selection {
        ticks: all.ticks,
        parts: if parts.is_empty() { all.parts } else { parts },
        kinds: kinds.clone(),
        fields: fields.clone(),
        players: players.iter().copied().map(PlayerId).collect(),
    }
}

/// Writes to a new file of this name, which is there once all of it is; or to a pipe, or to standard output.
fn to(name: Option<&Path>, write: impl FnOnce(&mut dyn io::Write) -> Result<(), CliError>) -> Result<(), CliError> {
    match name {
        Some(name) if new_file::is_stream(name) => {
            let stream = OpenOptions::new().write(true).open(name).map_err(CliError::at(name))?;
            to_stream(stream, write)
        }
        Some(name) => {
            let mut new = NewFile::create(name)?;
            let mut out = BufWriter::new(new.file());
            write(&mut out)?;
            out.flush().map_err(CliError::at(name))?;
            drop(out);
            new.keep()
        }
        None => to_stream(output::pipe(), write),
    }
}

fn to_stream(
    stream: impl io::Write,
    write: impl FnOnce(&mut dyn io::Write) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut out = BufWriter::new(stream);
    write(&mut out)?;
    Ok(out.flush()?)
}
