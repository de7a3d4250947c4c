//! Does the faults of a schedule to an arena, one at a time, and undoes each: it holds as long as the step says, is healed,
//! and the next one comes when every input partition has come through again. Never hurts a second broker before all
//! replicas of the first are back.

use super::arena::Arena;
use super::findings::Kind;
use super::fleet::Version;
use super::progress::Watch;
use super::record::{Ask, Outlet};
use super::schedule::{Fault, Step};
use crate::cluster::STARTS_WITHIN;
use crate::kafka;
use crate::proxy::{Direction, Effect, Process, Scope, Trap};
use anyhow::{Context, Result, bail};
use rdkafka::producer::{BaseProducer, Producer};
use std::sync::Arc;
use std::time::Duration;

/// Until outputs come again after the heal; beyond, something hangs.
const PROGRESS_WITHIN: Duration = Duration::from_secs(90);
/// Until a process commits once.
const COMMIT_WITHIN: Duration = Duration::from_secs(15);
const BROKER_STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How a version of the transform is taken up.
const VERSIONS: [Version; 4] = [Version::AtOnce, Version::Canary, Version::Shadow, Version::Topic];

/// A fault that was done, and how things went on.
#[derive(Clone, Debug)]
pub struct Inflicted {
    pub fault: Fault,
    /// Was the victim a static member of the group? `None` where that is not the point.
    pub static_member: Option<bool>,
    /// What was done to whom.
    pub what: String,
    /// From the fault until the worst input partition was through.
    pub from_fault: Option<Duration>,
    /// From the end of the fault, likewise.
    pub from_heal: Option<Duration>,
    /// From the fault until the worst input partition took records again: brokers were not there for the generator either.
    pub input_silence: Option<Duration>,
}

/// The moments of a fault.
struct Moments {
    what: String,
    static_member: Option<bool>,
    fault: Arc<Watch>,
    heal: Arc<Watch>,
}

#[derive(Debug)]
pub struct Nemesis<'a, 'c> {
    arena: &'a mut Arena<'c>,
}

impl<'a, 'c> Nemesis<'a, 'c> {
    pub fn new(arena: &'a mut Arena<'c>) -> Self {
        Nemesis { arena }
    }

    /// Does it, heals it, waits for progress. `None`: it did not come to the fault, because what it waits for did not
    /// happen (a process that has nothing to commit).
    pub fn inflict(&mut self, step: &Step) -> Result<Option<Inflicted>> {
        self.arena.calm.set(false);
        let moments = self.perform(step).with_context(|| format!("fault {}", step.fault.name()))?;
        let inflicted = match moments {
            Some(moments) => Some(self.recover(step, &moments)?),
            None => None,
        };
        self.settle(step.fault)?;
        self.arena.calm.set(true);
        Ok(inflicted)
    }

    fn recover(&mut self, step: &Step, moments: &Moments) -> Result<Inflicted> {
        if !self.arena.wait_through(&moments.heal, PROGRESS_WITHIN)? {
            let (behind, name) = (moments.heal.behind(), step.fault.name());
            self.arena.findings.add(Kind::Stuck, || {
                format!("{PROGRESS_WITHIN:?} after #{} {name} partitions {behind:?} have not come through", step.number)
            });
            self.restart_all()?;
        }
        Ok(Inflicted {
            fault: step.fault,
            static_member: moments.static_member,
            what: moments.what.clone(),
            from_fault: moments.fault.visible(),
            from_heal: moments.heal.visible(),
            input_silence: moments.fault.acknowledged(),
        })
    }

    /// So that the rest of the run still says something. The finding stays.
    fn restart_all(&mut self) -> Result<()> {
        for place in self.arena.fleet.running() {
            self.arena.fleet.kill(place);
            self.arena.fleet.start(place)?;
        }
        let watch = self.arena.watch();
        if !self.arena.wait_through(&watch, PROGRESS_WITHIN)? {
            bail!("not even processes started anew come through: partitions {:?}", watch.behind());
        }
        Ok(())
    }

    /// Back to how it was, with everything in place for the next fault.
    fn settle(&mut self, fault: Fault) -> Result<()> {
        let arena = &mut *self.arena;
        let mut changed = false;
        for place in 0..arena.plan.static_members.len() {
            let runs = arena.fleet.running().contains(&place);
            if place < arena.plan.processes && !runs {
                arena.fleet.start(place)?;
                changed = true;
            } else if place >= arena.plan.processes && runs {
                arena.fleet.terminate(place);
                changed = true;
            }
        }
        if changed {
            (0..arena.plan.processes).for_each(|place| {
                arena.fleet.wait_running(place);
            });
            let watch = arena.watch();
            if !arena.wait_through(&watch, PROGRESS_WITHIN)? {
                let behind = watch.behind();
                arena.findings.add(Kind::Stuck, || {
                    format!("{PROGRESS_WITHIN:?} after the processes were put in order again after {}, partitions {behind:?} have not come through", fault.name())
                });
                self.restart_all()?;
            }
        }
        let arena = &mut *self.arena;
        arena.cluster.wait_in_sync(&arena.topics(), STARTS_WITHIN)
    }

    fn perform(&mut self, step: &Step) -> Result<Option<Moments>> {
        match step.fault {
            Fault::Kill => self.kill(step),
            Fault::KillForGood => self.kill_for_good(step),
            Fault::Terminate => self.terminate(step),
            Fault::PauseShort | Fault::PauseLong => self.pause(step),
            Fault::ScaleDown => self.scale_down(),
            Fault::ScaleUp => self.scale_up(),
            Fault::BrokerKill => self.kill_broker(step, step.victim as usize % self.arena.cluster.nodes.len()),
            Fault::BrokerPause => self.pause_broker(step),
            Fault::BrokerRoll => self.roll_broker(step),
            Fault::KillTransactionCoordinator => {
                let victim = self.victim(step);
                let lane = format!("{}/{}/{}", self.instance(victim), step.force % 2, step.force / 2 % 2);
                let id = format!("{}/{lane}", self.arena.fleet.application());
                let place = self.arena.cluster.transaction_coordinator(&id)?;
                self.kill_broker(step, place)
            }
            Fault::KillGroupCoordinator => {
                let place = self.arena.cluster.group_coordinator(self.arena.fleet.application())?;
                self.kill_broker(step, place)
            }
            Fault::KillOutputLeader => {
                let place = self.arena.cluster.leader(&self.arena.output_topic(Outlet::Left), step.force as i32 % 5)?;
                self.kill_broker(step, place)
            }
            Fault::Delay => {
                let by = Duration::from_millis(50 + u64::from(step.force) * 10);
                self.network(step, &[Effect::Delay(by)])
            }
            Fault::StallToBroker => self.network(step, &[Effect::Stall(Direction::ToBroker)]),
            Fault::StallToClient => self.network(step, &[Effect::Stall(Direction::ToClient)]),
            Fault::Throttle => self.network(step, &[Effect::Throttle(10_000 + step.force * 1_000)]),
            Fault::Cut => self.cut(step),
            Fault::LateEndTxn => self.late_end_txn(step),
            Fault::KillBeforeDelivery => self.kill_inside_a_commit(step, Trap::BeforeDelivery),
            Fault::KillBeforeAnswer => self.kill_inside_a_commit(step, Trap::BeforeAnswer),
            Fault::KillAfterAnswer => self.kill_inside_a_commit(step, Trap::AfterAnswer),
            Fault::LostAnswer => self.lose_answers(step),
            Fault::Hijack => self.hijack(step),
            Fault::GuestTrap => self.misbehave(step, Ask::Trap),
            Fault::GuestSpin => self.misbehave(step, Ask::Spin),
            Fault::Oversize => self.misbehave(step, Ask::Big),
            Fault::Unwritable => self.unwritable(step),
            Fault::Reload => self.reload(step),
        }
    }

    // Processes.

    fn kill(&mut self, step: &Step) -> Result<Option<Moments>> {
        let victim = self.victim(step);
        let fault = self.arena.watch();
        self.arena.fleet.kill(victim);
        self.arena.fleet.start(victim)?;
        Ok(self.at_once(fault, self.instance(victim)).map(|m| self.member(m, victim)))
    }

    fn kill_for_good(&mut self, step: &Step) -> Result<Option<Moments>> {
        if self.arena.fleet.running().len() < 2 {
            return Ok(None);
        }
        let victim = self.victim(step);
        let fault = self.arena.watch();
        self.arena.fleet.kill(victim);
        Ok(self.at_once(fault, self.instance(victim)).map(|m| self.member(m, victim)))
    }

    fn terminate(&mut self, step: &Step) -> Result<Option<Moments>> {
        let victim = self.victim(step);
        let fault = self.arena.watch();
        self.arena.fleet.terminate(victim);
        self.arena.fleet.start(victim)?;
        Ok(self.at_once(fault, self.instance(victim)).map(|m| self.member(m, victim)))
    }

    fn reload(&mut self, step: &Step) -> Result<Option<Moments>> {
        let victim = self.victim(step);
        let version = VERSIONS[step.force as usize % VERSIONS.len()];
        let killed = step.force >= 80;
        self.arena.fleet.wait_running(victim);
        let before = self.arena.fleet.reloads(victim);
        let fault = self.arena.watch();
        self.arena.fleet.reload(victim, step.number, version)?;
        if killed {
            self.arena.fleet.kill(victim);
            self.arena.fleet.start(victim)?;
        } else {
            self.arena.fleet.wait_reloaded(victim, before);
        }
        let what = format!("{} to {version:?}{}", self.instance(victim), if killed { ", killed over it" } else { "" });
        Ok(self.at_once(fault, what).map(|m| self.member(m, victim)))
    }

    fn pause(&mut self, step: &Step) -> Result<Option<Moments>> {
        let victim = self.victim(step);
        let fault = self.arena.watch();
        self.arena.fleet.signal(victim, libc::SIGSTOP);
        self.hold(step)?;
        self.arena.fleet.signal(victim, libc::SIGCONT);
        let moments = self.healed(fault, format!("{} for {:?}", self.instance(victim), step.lasts));
        Ok(moments.map(|m| self.member(m, victim)))
    }

    fn scale_down(&mut self) -> Result<Option<Moments>> {
        let running = self.arena.fleet.running();
        if running.len() < 2 {
            return Ok(None);
        }
        let fault = self.arena.watch();
        for place in &running[1..] {
            self.arena.fleet.terminate(*place);
        }
        Ok(self.healed(fault, format!("{} to 1", running.len())))
    }

    fn scale_up(&mut self) -> Result<Option<Moments>> {
        let most = self.arena.plan.static_members.len();
        let before = self.arena.fleet.running().len();
        if before >= most {
            return Ok(None);
        }
        let fault = self.arena.watch();
        for place in 0..most {
            self.arena.fleet.start(place)?;
        }
        for place in 0..most {
            self.arena.fleet.wait_running(place);
        }
        Ok(self.healed(fault, format!("{before} to {most}")))
    }

    /// The last outputs of a process end with its process, at one of three points of a commit.
    fn kill_inside_a_commit(&mut self, step: &Step, trap: Trap) -> Result<Option<Moments>> {
        let victim = self.victim(step);
        let process = self.process(victim);
        let (handle, sprung) = self.arena.proxy.arm(process.clone(), trap, 1);
        let caught = sprung.recv_timeout(COMMIT_WITHIN);
        let moments = match caught {
            Ok(sprung) => {
                let fault = self.arena.watch();
                self.arena.fleet.kill(victim);
                // What was on its way when it froze never arrives.
                self.arena.proxy.cut(&Scope::Process(process));
                self.arena.proxy.lift(handle);
                self.arena.fleet.start(victim)?;
                self.at_once(fault, sprung.transactional_id).map(|m| self.member(m, victim))
            }
            Err(_) => None,
        };
        self.arena.proxy.lift(handle);
        Ok(moments)
    }

    // Brokers.

    fn kill_broker(&mut self, step: &Step, place: usize) -> Result<Option<Moments>> {
        let fault = self.arena.watch();
        self.arena.cluster.nodes[place].kill();
        self.hold(step)?;
        self.arena.cluster.nodes[place].start()?;
        self.arena.cluster.wait_registered(STARTS_WITHIN)?;
        Ok(self.healed(fault, format!("broker {}, started again after {:?}", place + 1, step.lasts)))
    }

    fn pause_broker(&mut self, step: &Step) -> Result<Option<Moments>> {
        let place = step.victim as usize % self.arena.cluster.nodes.len();
        let fault = self.arena.watch();
        self.arena.cluster.nodes[place].pause();
        let held = self.hold(step);
        self.arena.cluster.nodes[place].resume();
        held?;
        Ok(self.healed(fault, format!("broker {} for {:?}", place + 1, step.lasts)))
    }

    fn roll_broker(&mut self, step: &Step) -> Result<Option<Moments>> {
        let place = step.victim as usize % self.arena.cluster.nodes.len();
        let fault = self.arena.watch();
        let clean = self.arena.cluster.nodes[place].stop(BROKER_STOPS_WITHIN);
        self.arena.cluster.nodes[place].start()?;
        self.arena.cluster.wait_registered(STARTS_WITHIN)?;
        let how = if clean { "" } else { ", which had to be killed" };
        Ok(self.healed(fault, format!("broker {}{how}", place + 1)))
    }

    /// With one of three replicas gone, a topic that wants three takes nothing.
    fn unwritable(&mut self, step: &Step) -> Result<Option<Moments>> {
        let place = step.victim as usize % self.arena.cluster.nodes.len();
        let topic = self.arena.output_topic(Outlet::Left);
        self.arena.cluster.configure_topic(&topic, &[("min.insync.replicas", "3")])?;
        let fault = self.arena.watch();
        self.arena.cluster.nodes[place].stop(BROKER_STOPS_WITHIN);
        self.hold(step)?;
        self.arena.cluster.configure_topic(&topic, &[("min.insync.replicas", "2")])?;
        let moments = self.healed(fault, format!("{topic} for {:?}", step.lasts));
        self.arena.cluster.nodes[place].start()?;
        self.arena.cluster.wait_registered(STARTS_WITHIN)?;
        Ok(moments)
    }

    // The network.

    fn scope(&self, step: &Step) -> Scope {
        match step.victim % 3 {
            0 => Scope::All,
            1 => Scope::Broker(step.victim as usize / 3 % self.arena.cluster.nodes.len()),
            _ => Scope::Process(self.process(self.victim(step))),
        }
    }

    fn network(&mut self, step: &Step, effects: &[Effect]) -> Result<Option<Moments>> {
        let scope = self.scope(step);
        let fault = self.arena.watch();
        let handles: Vec<_> = effects.iter().map(|effect| self.arena.proxy.rule(scope.clone(), *effect)).collect();
        let held = self.hold(step);
        handles.into_iter().for_each(|handle| self.arena.proxy.lift(handle));
        held?;
        Ok(self.healed(fault, format!("{effects:?} {} for {:?}", describe(&scope), step.lasts)))
    }

    fn cut(&mut self, step: &Step) -> Result<Option<Moments>> {
        let scope = self.scope(step);
        let fault = self.arena.watch();
        let cut = self.arena.proxy.cut(&scope);
        Ok(self.at_once(fault, format!("{} ({cut} connections)", describe(&scope))))
    }

    fn late_end_txn(&mut self, step: &Step) -> Result<Option<Moments>> {
        let victim = self.victim(step);
        let fault = self.arena.watch();
        let (handle, sprung) = self.arena.proxy.arm(self.process(victim), Trap::Late, 1 + step.force % 4);
        let held = self.hold(step);
        self.arena.proxy.lift(handle);
        held?;
        let caught = sprung.try_iter().count();
        self.arena.wait(COMMIT_WITHIN, |arena| arena.proxy.held() == 0)?;
        let moments = self.healed(fault, format!("{caught} of {}", self.instance(victim)));
        Ok(moments.filter(|_| caught > 0))
    }

    fn lose_answers(&mut self, step: &Step) -> Result<Option<Moments>> {
        let victim = self.victim(step);
        let (handle, sprung) = self.arena.proxy.arm(self.process(victim), Trap::LostAnswer, 1);
        let caught = sprung.recv_timeout(COMMIT_WITHIN);
        let fault = self.arena.watch();
        self.arena.proxy.lift(handle);
        Ok(caught.ok().and_then(|sprung| self.at_once(fault, sprung.transactional_id)))
    }

    // Others.

    /// Another producer takes over one of our transactional ids.
    fn hijack(&mut self, step: &Step) -> Result<Option<Moments>> {
        let instance = self.instance(self.victim(step));
        let lane = format!("{}/{}", step.force as usize % self.arena.plan.workers, step.force / 2 % 2);
        let id = format!("{}/{instance}/{lane}", self.arena.fleet.application());
        let producer: BaseProducer =
            kafka::client(&self.arena.cluster.direct()).set("transactional.id", &id).create()?;
        let fault = self.arena.watch();
        producer.init_transactions(Duration::from_secs(30)).context("the hijacker cannot begin")?;
        Ok(self.at_once(fault, id))
    }

    fn misbehave(&mut self, step: &Step, ask: Ask) -> Result<Option<Moments>> {
        let times = 1 + step.force % 5;
        let fault = self.arena.watch();
        (0..times).for_each(|_| self.arena.generator.ask(ask));
        Ok(self.at_once(fault, format!("{times} records")))
    }

    // Helpers.

    fn victim(&self, step: &Step) -> usize {
        let running = self.arena.fleet.running();
        running[step.victim as usize % running.len()]
    }

    fn instance(&self, place: usize) -> String {
        self.arena.fleet.instance(place)
    }

    fn process(&self, place: usize) -> Process {
        Process { application: self.arena.fleet.application().into(), instance: self.instance(place) }
    }

    fn member(&self, moments: Moments, place: usize) -> Moments {
        Moments { static_member: Some(self.arena.fleet.is_static(place)), ..moments }
    }

    fn hold(&mut self, step: &Step) -> Result<()> {
        self.arena.wait(step.lasts, |_| false)?;
        Ok(())
    }

    fn at_once(&self, fault: Arc<Watch>, what: String) -> Option<Moments> {
        Some(Moments { what, static_member: None, heal: Arc::clone(&fault), fault })
    }

    fn healed(&self, fault: Arc<Watch>, what: String) -> Option<Moments> {
        Some(Moments { what, static_member: None, fault, heal: self.arena.watch() })
    }
}

fn describe(scope: &Scope) -> String {
    match scope {
        Scope::All => "for all".into(),
        Scope::Broker(place) => format!("at broker {}", place + 1),
        Scope::Process(process) => format!("for {}", process.instance),
    }
}
