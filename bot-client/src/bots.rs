//! Headless players: what they do, where recorded input comes from, and a swarm of them with its report.

mod behaviour;
mod chatter;
mod controls;
mod page;
mod report;
mod roles;
mod swarm;
mod tickets;
mod timeline;
mod trace;

pub use self::{
    behaviour::{Behaviour, Moment},
    controls::Controls,
    report::Report,
    roles::{BehaviourChoice, BehaviourChoiceError, Role, assign},
    swarm::{Failures, SwarmConfig, SwarmError, SwarmHandle, run},
    tickets::{Tickets, TicketsError},
    timeline::Second,
    trace::{Trace, TraceError, TraceFileError, TraceSample},
};
