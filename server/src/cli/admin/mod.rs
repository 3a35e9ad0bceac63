//! `admin`: looks after a running server, by its `AdminService`.

mod connect;
mod words;

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;
use serde_json::json;
use tickwire_proto::v1::GetServerInfoRequest;
use tokio::runtime::Builder;
use tonic::{Code, Status};

use super::{CliError, USAGE, output};
use connect::AdminClient;

/// What all of the commands take.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: AdminCommand,
}

/// Which server.
#[derive(Debug, clap::Args)]
struct Target {
    /// Where the server keeps its files [default: ./tickwire-data]
    #[arg(long, value_name = "DIR", env = "TICKWIRE_DATA_DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Where it listens for admins [default: what admin.address in the data directory says]
    #[arg(long, value_name = "ADDR", global = true)]
    address: Option<String>,
    /// The file of the token [default: admin.token in the data directory]
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum AdminCommand {
    /// Say what runs, and how it does
    Info,
}

/// Why an admin's command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminCliError {
    #[error(
        "{}: there is no server that was started with this data directory, or it listens for no admins: name the data \
         directory with --data-dir, or the server with --address and --token-file",
        .0.display()
    )]
    NoServer(PathBuf),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {problem}", .path.display())]
    Token { path: PathBuf, problem: &'static str },
    #[error("{address:?} is no address: write it as IP:PORT, such as 127.0.0.1:7778")]
    Address { address: String },
    #[error("nobody answers at {address}: {reason}{hint}")]
    Connect { address: String, reason: String, hint: &'static str },
    #[error("{}", words::status(.0))]
    Refused(Box<Status>),
}

impl From<Status> for AdminCliError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl AdminCliError {
    /// 2: what was asked for makes no sense, as elsewhere; 3: there is nobody to ask; 4: not with this token; 1: all else.
    pub(super) fn exit_code(&self) -> ExitCode {
        const NOBODY: u8 = 3;
        const NOT_ALLOWED: u8 = 4;
        match self {
            Self::NoServer(_) | Self::Connect { .. } => ExitCode::from(NOBODY),
            Self::Address { .. } => ExitCode::from(USAGE),
            Self::File { .. } | Self::Token { .. } => ExitCode::FAILURE,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument => ExitCode::from(USAGE),
                Code::Unauthenticated | Code::PermissionDenied => ExitCode::from(NOT_ALLOWED),
                _ => ExitCode::FAILURE,
            },
        }
    }
}

/// Runs one of them.
pub(super) fn run(arguments: &AdminArgs) -> Result<(), CliError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = AdminClient::connect(&arguments.target).await?;
        run_with(&mut client, arguments).await
    })
}

async fn run_with(client: &mut AdminClient, arguments: &AdminArgs) -> Result<(), CliError> {
    match &arguments.command {
        AdminCommand::Info => {
            let info = client.service.get_server_info(GetServerInfoRequest {}).await.map_err(AdminCliError::from)?;
            let info = info.into_inner();
            if arguments.json { print_json(&words::info_json(&info)) } else { print(words::info(&info)) }
        }
    }
}

fn print(text: impl std::fmt::Display) -> Result<(), CliError> {
    Ok(output::line(text)?)
}

fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    print(json!(value))
}
