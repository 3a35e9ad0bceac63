//! Headless players: what they do, where recorded input comes from, and a swarm of them with its report.

mod behaviour;
mod controls;
mod report;
mod swarm;
mod trace;

pub use self::{
    behaviour::{Behaviour, BehaviourChoice, BehaviourChoiceError, Moment, Role, assign},
    controls::Controls,
    report::Report,
    swarm::{Failures, SwarmConfig, SwarmError, SwarmHandle, run},
    trace::{Trace, TraceError, TraceFileError, TraceSample},
};
