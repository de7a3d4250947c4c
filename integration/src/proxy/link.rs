//! One connection through the proxy: two pumps, each a reader that asks the rules about a message and a writer that lets
//! it pass when it may. Between them is a queue, so that a delay holds up messages but not their reading.

use super::Shared;
use super::frame::{self, Request};
use super::rules::{Answered, Asked, Awaited, Direction};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Messages between a reader and its writer; a client has few more in flight.
const QUEUE: usize = 256;

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Link {
    pub place: usize,
    /// From its first request on.
    client_id: Mutex<String>,
    /// Correlation ids of requests whose answers are of interest.
    awaited: Mutex<HashMap<i32, Awaited>>,
    cut: watch::Sender<bool>,
}

/// A message on its way, and what to do when it is through.
struct Parcel {
    at: Instant,
    frame: Vec<u8>,
    then_freeze: Option<String>,
}

impl Link {
    pub fn new(place: usize) -> Self {
        Link { place, client_id: Mutex::default(), awaited: Mutex::default(), cut: watch::Sender::new(false) }
    }

    pub fn client_id(&self) -> String {
        self.client_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    fn learn(&self, name: &str) {
        let mut known = self.client_id.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != name {
            name.clone_into(&mut known);
        }
    }
}

/// Carries a connection until one side closes it or it is cut.
pub(super) async fn carry(shared: Arc<Shared>, link: Arc<Link>, client: TcpStream, broker: TcpStream) {
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let (requests, requests_out) = mpsc::channel(QUEUE);
    let (responses, responses_out) = mpsc::channel(QUEUE);
    let mut cut = link.cut.subscribe();
    let asking = async {
        // What a client had sent before it closed still arrives, so its end is not the end of this pump.
        let (_, written) = tokio::join!(
            read_requests(&shared, &link, from_client, requests),
            write(&shared, &link, Direction::ToBroker, to_broker, requests_out)
        );
        written
    };
    let answering = async {
        let (_, written) = tokio::join!(
            read_responses(&shared, &link, from_broker, responses),
            write(&shared, &link, Direction::ToClient, to_client, responses_out)
        );
        written
    };
    tokio::select! {
        _ = asking => {}
        _ = answering => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

async fn read_requests(
    shared: &Arc<Shared>,
    link: &Link,
    mut from: OwnedReadHalf,
    to: mpsc::Sender<Parcel>,
) -> io::Result<()> {
    while let Some(bytes) = frame::read(&mut from).await? {
        let mut delay = Duration::ZERO;
        let mut asked = Asked::Pass;
        if let Some(request) = Request::parse(&bytes) {
            link.learn(request.client_id);
            let mut rules = shared.rules();
            let (verdict, awaited) = rules.asked(link.place, &request, &bytes);
            delay = rules.delay(link.place, request.client_id);
            drop(rules);
            asked = verdict;
            if let Some(awaited) = awaited {
                link.awaited.lock().unwrap_or_else(PoisonError::into_inner).insert(request.correlation, awaited);
            }
        }
        match asked {
            Asked::Pass => {
                let parcel = Parcel { at: Instant::now() + delay, frame: bytes, then_freeze: None };
                if to.send(parcel).await.is_err() {
                    break;
                }
            }
            Asked::Swallow => shared.changed(),
            Asked::SwallowAndCut => {
                shared.count_cut();
                link.cut();
                shared.release_in_the_end();
            }
        }
    }
    Ok(())
}

async fn read_responses(
    shared: &Arc<Shared>,
    link: &Link,
    mut from: OwnedReadHalf,
    to: mpsc::Sender<Parcel>,
) -> io::Result<()> {
    while let Some(bytes) = frame::read(&mut from).await? {
        let awaited = frame::correlation(&bytes)
            .and_then(|id| link.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
        let client_id = link.client_id();
        let mut answered = Answered::Pass;
        if let Some(awaited) = awaited {
            let (verdict, begun) = shared.rules().answered(&client_id, &awaited, &bytes);
            answered = verdict;
            if let Some(held) = begun {
                shared.deliver(held, true);
            }
        }
        let delay = shared.rules().delay(link.place, &client_id);
        let then_freeze = match answered {
            Answered::Pass => None,
            Answered::PassThenFreeze(transactional_id) => Some(transactional_id),
            Answered::Swallow => {
                shared.changed();
                continue;
            }
            Answered::SwallowAndCut => {
                shared.count_cut();
                link.cut();
                continue;
            }
        };
        if to.send(Parcel { at: Instant::now() + delay, frame: bytes, then_freeze }).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn write(
    shared: &Shared,
    link: &Link,
    direction: Direction,
    mut to: OwnedWriteHalf,
    mut parcels: mpsc::Receiver<Parcel>,
) -> io::Result<()> {
    while let Some(parcel) = parcels.recv().await {
        tokio::time::sleep_until(parcel.at).await;
        let mut changes = shared.changes();
        loop {
            changes.borrow_and_update();
            if !shared.rules().stalled(link.place, &link.client_id(), direction) {
                break;
            }
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
        // A rule may have been lifted because the connection was cut before: then nothing passes any more.
        if link.is_cut() {
            return Ok(());
        }
        let throttle = shared.rules().throttle(link.place, &link.client_id());
        if let Some(bytes_a_second) = throttle {
            let pause = parcel.frame.len() as f64 / f64::from(bytes_a_second.max(1));
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        }
        to.write_all(&parcel.frame).await?;
        if let Some(transactional_id) = parcel.then_freeze {
            shared.rules().freeze(&link.client_id(), &transactional_id);
            shared.changed();
        }
    }
    Ok(())
}
