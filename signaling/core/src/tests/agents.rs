use livekit_protocol::{JobStatus, JobType, WorkerStatus, server_message::Message as Told, worker_message::Message as Said};
use signaling_api::{AgentConfig, ErrorCode, ParticipantKind, RoomConfig};

use super::*;
use crate::{AdminResponse, WorkerInput, limits};

impl World {
    fn worker(&mut self, number: u64, input: WorkerInput) {
        self.input(Input::Worker { worker: WorkerId(number), input });
    }

    fn say(&mut self, number: u64, said: Said) {
        self.worker(number, WorkerInput::Message(Box::new(proto::WorkerMessage { message: Some(said) })));
    }

    fn told(&mut self, number: u64) -> Vec<Told> {
        self.errands.remove(&WorkerId(number)).unwrap_or_default()
    }

    /// Registers a worker; nothing of that stays among what it was told.
    fn hire(&mut self, number: u64, agent_name: &str, kind: JobType) {
        self.worker(number, WorkerInput::Connect);
        let request = proto::RegisterWorkerRequest { r#type: kind.into(), agent_name: agent_name.to_owned(), ..Default::default() };
        self.say(number, Said::Register(request));
        let told = self.told(number);
        assert!(matches!(&told[0], Told::Register(response) if response.worker_id.starts_with("AW_")), "{told:?}");
        if told.len() > 1 {
            self.errands.insert(WorkerId(number), told[1..].to_vec());
        }
    }

    /// The one job that a worker was asked to do.
    fn asked(&mut self, number: u64) -> proto::Job {
        match self.told(number).as_slice() {
            [Told::Availability(request)] => request.job.clone().unwrap(),
            other => panic!("not one question: {other:?}"),
        }
    }

    fn accept(&mut self, number: u64, job: &proto::Job, identity: &str) {
        let answer = proto::AvailabilityResponse {
            job_id: job.id.clone(),
            available: true,
            participant_identity: identity.to_owned(),
            participant_name: "Robot".to_owned(),
            ..Default::default()
        };
        self.say(number, Said::Availability(answer));
    }

    fn decline(&mut self, number: u64, job: &proto::Job) {
        self.say(number, Said::Availability(proto::AvailabilityResponse { job_id: job.id.clone(), ..Default::default() }));
    }

    fn dispatch(&mut self, agent_name: &str) -> proto::AgentDispatch {
        let request = proto::CreateAgentDispatchRequest {
            agent_name: agent_name.to_owned(),
            room: ROOM.to_owned(),
            metadata: "m".to_owned(),
            ..Default::default()
        };
        dispatch(self.administer(AdminRequest::CreateDispatch(request)))
    }

    fn statuses(&mut self, dispatch_id: &str) -> Vec<JobStatus> {
        let request = proto::ListAgentDispatchRequest { room: ROOM.to_owned(), dispatch_id: dispatch_id.to_owned() };
        let Ok(AdminResponse::Dispatches(all)) = self.administer(AdminRequest::ListDispatch(request)) else { panic!("no list") };
        assert_eq!(all.len(), 1);
        all[0].state.as_ref().unwrap().jobs.iter().map(|job| job.state.as_ref().unwrap().status()).collect()
    }
}

fn dispatch(result: AdminResult) -> proto::AgentDispatch {
    match result.unwrap() {
        AdminResponse::Dispatch(dispatch) => *dispatch,
        other => panic!("no dispatch: {other:?}"),
    }
}

fn agent(name: &str) -> AgentConfig {
    AgentConfig { agent_name: name.to_owned(), metadata: "from the room".to_owned(), ..AgentConfig::default() }
}

#[test]
fn an_agent_is_called_accepts_and_gets_a_token_for_the_room() {
    let mut world = World::new();
    world.join("alice");
    world.hire(1, "echo", JobType::JtRoom);
    let created = world.dispatch("echo");
    let job = world.asked(1);
    assert_eq!((job.dispatch_id.as_str(), job.agent_name.as_str(), job.metadata.as_str()), (created.id.as_str(), "echo", "m"));
    assert_eq!((job.room.as_ref().unwrap().name.as_str(), job.r#type()), (ROOM, JobType::JtRoom));
    world.accept(1, &job, "robot");
    let told = world.told(1);
    assert!(matches!(told.as_slice(), [Told::Assignment(assignment)] if assignment.job.as_ref().unwrap().id == job.id));
    let grants = world.agents.pop().unwrap();
    assert_eq!(
        (grants.identity.as_str(), grants.name.as_str(), grants.room.as_str(), grants.kind),
        ("robot", "Robot", ROOM, ParticipantKind::Agent)
    );
    assert!(grants.room_join && grants.agent && grants.can_publish && grants.can_subscribe && grants.can_update_own_metadata);
    assert_eq!(grants.attributes["lk.agent_name"], "echo");
    assert_eq!(world.statuses(&created.id), [JobStatus::JsRunning]);

    let robot = world.join_as(grants, JoinParams::default());
    world.send(robot.conn, Request::Leave(proto::LeaveRequest::default()));
    assert!(matches!(world.told(1).as_slice(), [Told::Termination(termination)] if termination.job_id == job.id));
    assert_eq!(world.statuses(&created.id), [JobStatus::JsSuccess]);
}

#[test]
fn a_dispatch_opens_its_room_and_waits_for_a_worker_of_that_name() {
    let mut world = World::new();
    world.hire(1, "other", JobType::JtRoom);
    let created = world.dispatch("echo");
    assert_eq!(world.told(1), []);
    assert_eq!(world.signaling.census().rooms, 1);
    assert_eq!(world.statuses(&created.id), []);
    world.hire(2, "echo", JobType::JtRoom);
    assert_eq!(world.asked(2).dispatch_id, created.id);
    world.hire(3, "echo", JobType::JtRoom);
    assert_eq!(world.told(3), [], "one job is enough");
}

#[test]
fn who_declines_does_not_answer_or_goes_is_followed_by_another() {
    let mut world = World::new();
    for number in 1..=3 {
        world.hire(number, "echo", JobType::JtRoom);
    }
    let created = world.dispatch("echo");
    let next = |world: &World| *world.errands.keys().next().unwrap();
    let WorkerId(first) = next(&world);
    let job = world.asked(first);
    world.decline(first, &job);
    let WorkerId(second) = next(&world);
    assert_eq!(world.asked(second).id, job.id);
    world.advance(limits::AVAILABILITY_TIME);
    let WorkerId(third) = next(&world);
    assert_eq!(world.asked(third).id, job.id);
    world.accept(second, &job, "late");
    assert_eq!(world.agents, [], "its time is over");
    world.worker(third, WorkerInput::Closed);
    assert_eq!([first, second, third].iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "nobody is asked twice");
    assert!(world.errands.is_empty());
    assert_eq!(world.statuses(&created.id), []);
    world.hire(4, "echo", JobType::JtRoom);
    let job = world.asked(4);
    world.accept(4, &job, "robot");
    assert_eq!(world.agents.len(), 1);
}

#[test]
fn workers_that_are_full_or_draining_are_not_asked_and_the_idle_are_asked_most() {
    let mut world = World::new();
    for number in 1..=4 {
        world.hire(number, "echo", JobType::JtRoom);
    }
    let update = |status: WorkerStatus, load: f32, draining: bool| {
        Said::UpdateWorker(proto::UpdateWorkerStatus { status: Some(status.into()), load, draining, ..Default::default() })
    };
    world.say(1, update(WorkerStatus::WsFull, 0.0, false));
    world.say(2, update(WorkerStatus::WsAvailable, 0.0, true));
    world.say(3, update(WorkerStatus::WsAvailable, 0.9, false));
    world.say(4, update(WorkerStatus::WsAvailable, 0.1, false));
    let mut asked = HashMap::<u64, usize>::new();
    for _ in 0..limits::DISPATCHES_PER_ROOM - 1 {
        world.dispatch("echo");
        let WorkerId(number) = *world.errands.keys().next().unwrap();
        world.told(number);
        *asked.entry(number).or_default() += 1;
    }
    assert!(!asked.contains_key(&1) && !asked.contains_key(&2));
    assert!(asked[&4] > 2 * asked.get(&3).copied().unwrap_or(0), "{asked:?}");
}

#[test]
fn a_worker_that_is_fully_loaded_is_asked_only_if_there_is_no_other() {
    let mut world = World::new();
    for number in 1..=2 {
        world.hire(number, "echo", JobType::JtRoom);
    }
    let load = |load: f32| {
        Said::UpdateWorker(proto::UpdateWorkerStatus { status: Some(WorkerStatus::WsAvailable.into()), load, ..Default::default() })
    };
    world.say(1, load(1.0));
    world.say(2, load(0.99));
    for _ in 0..8 {
        world.dispatch("echo");
        assert_eq!(world.told(1), []);
        world.asked(2);
    }
    world.say(2, Said::UpdateWorker(proto::UpdateWorkerStatus { status: Some(WorkerStatus::WsFull.into()), ..Default::default() }));
    let created = world.dispatch("echo");
    assert_eq!(world.asked(1).dispatch_id, created.id);
}

#[test]
fn an_agent_that_is_asked_to_join_anew_keeps_its_job() {
    let mut world = World::new();
    world.hire(1, "echo", JobType::JtRoom);
    let created = world.dispatch("echo");
    let job = world.asked(1);
    world.accept(1, &job, "robot");
    world.told(1);
    let token = world.agents.pop().unwrap();
    let robot = world.join_as(token.clone(), JoinParams::default());
    let unknown = proto::TrackPublishedResponse { cid: "cam".to_owned(), ..Default::default() };
    world.send(robot.conn, Request::SyncState(proto::SyncState { publish_tracks: vec![unknown], ..Default::default() }));
    assert_eq!(leave(&world.take(robot.conn)).unwrap().reason(), proto::DisconnectReason::StateMismatch);
    assert_eq!(world.told(1), []);
    assert_eq!(world.statuses(&created.id), [JobStatus::JsRunning]);

    let robot = world.join_as(token, JoinParams::default());
    world.send(robot.conn, Request::Leave(proto::LeaveRequest::default()));
    assert!(matches!(world.told(1).as_slice(), [Told::Termination(_)]));
    assert_eq!(world.statuses(&created.id), [JobStatus::JsSuccess]);
}

#[test]
fn a_worker_is_not_told_to_stop_an_agent_that_is_moved() {
    let mut world = World::new();
    world.join("alice");
    world.hire(1, "echo", JobType::JtRoom);
    let created = world.dispatch("echo");
    let job = world.asked(1);
    world.accept(1, &job, "robot");
    world.told(1);
    let token = world.agents.pop().unwrap();
    world.join_as(token, JoinParams::default());
    let request =
        proto::MoveParticipantRequest { room: ROOM.to_owned(), identity: "robot".to_owned(), destination_room: "elsewhere".to_owned() };
    world.administer(AdminRequest::MoveParticipant(request)).unwrap();
    assert_eq!(world.told(1), []);
    assert_eq!(world.statuses(&created.id), [JobStatus::JsSuccess]);
}

#[test]
fn a_room_calls_the_agents_of_its_settings_or_those_without_a_name() {
    let mut world = World::new();
    world.hire(1, "", JobType::JtRoom);
    world.hire(2, "echo", JobType::JtRoom);
    world.join("alice");
    assert_eq!(world.asked(1).room.unwrap().name, ROOM);
    assert_eq!(world.told(2), []);

    let room_config = Box::new(RoomConfig { agents: vec![agent("echo")], ..RoomConfig::default() });
    world.join_as(Grants { room: "b".to_owned(), room_config, ..grants("alice") }, JoinParams::default());
    assert_eq!(world.asked(2).metadata, "from the room");
    assert_eq!(world.told(1), []);

    let agents = vec![proto::RoomAgentDispatch { agent_name: "echo".to_owned(), ..Default::default() }];
    let request = proto::CreateRoomRequest { name: "c".to_owned(), agents, ..Default::default() };
    world.administer(AdminRequest::CreateRoom(Box::new(request))).unwrap();
    assert_eq!(world.asked(2).room.unwrap().name, "c");
}

#[test]
fn agents_of_participants_and_publishers_come_once_for_each() {
    let mut world = World::new();
    world.hire(1, "", JobType::JtParticipant);
    world.hire(2, "", JobType::JtPublisher);
    let alice = world.active("alice");
    assert_eq!(world.asked(1).participant.unwrap().identity, "alice");
    assert_eq!(world.told(2), []);
    world.publish(&alice);
    let (second, _) = world.add_track(&alice, microphone("mic"));
    world.ready(&alice, second);
    assert_eq!(world.asked(2).participant.unwrap().identity, "alice");
    world.join_as(Grants { kind: ParticipantKind::Agent, ..grants("robot") }, JoinParams::default());
    assert_eq!(world.told(1), [], "an agent needs no agent");

    let bob = world.active("bob");
    world.told(1);
    world.publish(&bob);
    world.told(2);
    world.hire(3, "late", JobType::JtPublisher);
    world.dispatch("late");
    let mut wanted: Vec<_> = world
        .told(3)
        .into_iter()
        .map(|told| match told {
            Told::Availability(request) => request.job.unwrap().participant.unwrap().identity,
            other => panic!("{other:?}"),
        })
        .collect();
    wanted.sort();
    assert_eq!(wanted, ["alice", "bob"]);
}

#[test]
fn a_dispatch_that_is_deleted_sends_its_agent_away() {
    let mut world = World::new();
    world.hire(1, "echo", JobType::JtRoom);
    world.join("alice");
    let created = world.dispatch("echo");
    let job = world.asked(1);
    world.accept(1, &job, "robot");
    world.told(1);
    let agent = world.agents.pop().unwrap();
    let robot = world.join_as(agent, JoinParams::default());
    let delete =
        || AdminRequest::DeleteDispatch(proto::DeleteAgentDispatchRequest { dispatch_id: created.id.clone(), room: ROOM.to_owned() });
    let deleted = dispatch(world.administer(delete()));
    assert!(deleted.state.unwrap().deleted_at > 0);
    assert!(matches!(world.told(1).as_slice(), [Told::Termination(_)]));
    assert_eq!(world.present(), ["alice", "robot"]);
    world.advance(limits::AGENT_LEAVE_TIME);
    assert_eq!(world.present(), ["alice"], "it did not leave by itself");
    assert!(leave(&world.take(robot.conn)).is_some());
    assert_eq!(world.administer(delete()).unwrap_err().code, ErrorCode::DispatchNotFound);
}

#[test]
fn a_worker_that_reconnects_goes_on_with_its_jobs() {
    let mut world = World::new();
    world.hire(1, "echo", JobType::JtRoom);
    let created = world.dispatch("echo");
    let job = world.asked(1);
    world.accept(1, &job, "robot");
    world.told(1);
    world.worker(1, WorkerInput::Closed);
    assert_eq!(world.statuses(&created.id), [JobStatus::JsRunning]);
    world.hire(2, "echo", JobType::JtRoom);
    assert_eq!(world.told(2), [], "the job is not lost, so nobody else gets it");
    let update = |status: JobStatus| {
        Said::UpdateJob(proto::UpdateJobStatus { job_id: job.id.clone(), status: status.into(), error: "e".to_owned() })
    };
    world.say(2, update(JobStatus::JsRunning));
    world.say(2, update(JobStatus::JsFailed));
    assert_eq!(world.statuses(&created.id), [JobStatus::JsFailed]);
}

#[test]
fn jobs_end_with_their_room() {
    let mut world = World::new();
    world.hire(1, "echo", JobType::JtRoom);
    world.dispatch("echo");
    let job = world.asked(1);
    world.accept(1, &job, "robot");
    world.told(1);
    world.administer(AdminRequest::DeleteRoom(proto::DeleteRoomRequest { room: ROOM.to_owned() })).unwrap();
    assert!(matches!(world.told(1).as_slice(), [Told::Termination(termination)] if termination.job_id == job.id));
    assert_eq!(world.signaling.next_timeout(), None);
    let list = AdminRequest::ListDispatch(proto::ListAgentDispatchRequest { room: ROOM.to_owned(), ..Default::default() });
    assert_eq!(world.administer(list).unwrap_err().code, ErrorCode::RoomNotFound);
}

#[test]
fn a_worker_registers_in_time_and_is_heard_only_then() {
    let mut world = World::new();
    world.worker(1, WorkerInput::Connect);
    world.say(1, Said::Ping(proto::WorkerPing { timestamp: 7 }));
    assert!(matches!(world.told(1).as_slice(), [Told::Pong(pong)] if pong.last_timestamp == 7));
    world.say(1, Said::SimulateJob(proto::SimulateJobRequest { room: Some(proto::Room::default()), ..Default::default() }));
    assert_eq!(world.told(1), []);
    world.advance(limits::REGISTER_TIME);
    assert_eq!(world.closed_workers[&WorkerId(1)], CloseReason::Silent);

    world.worker(2, WorkerInput::Connect);
    let nonsense = proto::RegisterWorkerRequest { r#type: 99, ..Default::default() };
    world.say(2, Said::Register(nonsense));
    assert_eq!(world.closed_workers[&WorkerId(2)], CloseReason::Refused(ErrorCode::BadRequest));
    assert_eq!(world.signaling.next_timeout(), None);
}

#[test]
fn a_worker_may_try_a_job_of_its_own() {
    let mut world = World::new();
    world.hire(1, "echo", JobType::JtRoom);
    let room = proto::Room { name: "trial".to_owned(), ..Default::default() };
    world.say(1, Said::SimulateJob(proto::SimulateJobRequest { room: Some(room), ..Default::default() }));
    let job = world.asked(1);
    world.accept(1, &job, "");
    assert!(matches!(world.told(1).as_slice(), [Told::Assignment(_)]));
    let grants = world.agents.pop().unwrap();
    assert_eq!((grants.room.as_str(), grants.identity), ("trial", format!("agent-{}", job.id)));
    world.worker(1, WorkerInput::Closed);
    assert_eq!(world.signaling.next_timeout(), None);
}

#[test]
fn nonsense_of_workers_changes_nothing() {
    let mut world = World::new();
    world.hire(1, "echo", JobType::JtRoom);
    world.dispatch("echo");
    let job = world.asked(1);
    world.hire(2, "echo", JobType::JtRoom);
    world.accept(2, &job, "thief");
    for job_id in ["", "AJ_", "AJ_222222222222", "nonsense"] {
        world.say(1, Said::Availability(proto::AvailabilityResponse { job_id: job_id.to_owned(), available: true, ..Default::default() }));
        world.say(1, Said::UpdateJob(proto::UpdateJobStatus { job_id: job_id.to_owned(), status: 77, error: String::new() }));
    }
    world.say(1, Said::UpdateWorker(proto::UpdateWorkerStatus { load: f32::NAN, ..Default::default() }));
    world.say(9, Said::Ping(proto::WorkerPing::default()));
    assert_eq!(world.agents, []);
    let long = proto::AvailabilityResponse {
        job_id: job.id.clone(),
        available: true,
        participant_identity: "x".repeat(300),
        ..Default::default()
    };
    world.say(1, Said::Availability(long));
    assert_eq!(world.agents, [], "such a name could not join");
    assert_eq!(world.asked(2).id, job.id);
}
