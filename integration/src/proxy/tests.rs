//! The proxy between a client made of bytes and a broker that answers everything.

use super::frame::tests::{add_partitions_answer, end_txn, end_txn_answer, request};
use super::*;
use crate::broker::free_port_list;
use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::Instant;

const SOON: Duration = Duration::from_secs(20);
/// Long enough to notice what arrives though it must not.
const A_WHILE: Duration = Duration::from_millis(150);

fn read_frame(stream: &mut std::net::TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0u8; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0u8; 4 + u32::from_be_bytes(length) as usize];
    frame[..4].copy_from_slice(&length);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// A broker that says yes to everything, and tells what arrived.
fn broker(port: u16) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    let listener = std::net::TcpListener::bind(loopback(port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, send): (_, Sender<Vec<u8>>) = (stream.unwrap(), send.clone());
            std::thread::spawn(move || {
                while let Ok(bytes) = read_frame(&mut stream) {
                    let asked = frame::Request::parse(&bytes).unwrap();
                    let answer = match asked.api {
                        frame::ADD_PARTITIONS_TO_TXN => add_partitions_answer(asked.correlation, 0),
                        _ => end_txn_answer(asked.correlation, 0),
                    };
                    let _ = send.send(bytes.clone());
                    let _ = stream.write_all(&answer);
                }
            });
        }
    });
    receive
}

struct Scene {
    proxy: Proxy,
    arrived: Receiver<Vec<u8>>,
    port: u16,
}

impl Scene {
    fn new() -> Self {
        let ports = free_port_list(2).unwrap();
        let arrived = broker(ports[1]);
        let proxy = Proxy::start(&[Route { listen: ports[0], broker: ports[1] }]).unwrap();
        Scene { proxy, arrived, port: ports[0] }
    }

    fn connect(&self) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(loopback(self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    fn next(&self) -> Vec<u8> {
        self.arrived.recv_timeout(SOON).unwrap()
    }

    fn nothing_arrives(&self) {
        assert_eq!(self.arrived.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
    }
}

fn process() -> Process {
    Process { application: "app".into(), instance: "p0".into() }
}

fn correlation_of(frame: &[u8]) -> i32 {
    frame::Request::parse(frame).unwrap().correlation
}

const ID: &str = "app/p0/0/0";
const CLIENT: &str = "pelton-app/p0/0/0";

#[test]
fn a_process_is_known_by_all_of_its_client_ids_and_by_no_other() {
    for mine in ["pelton-app/p0/1/0", "pelton-app-p0-1"] {
        assert!(Scope::Process(process()).covers(0, mine), "{mine}");
    }
    for other in ["pelton-app/p01/1/0", "pelton-app2/p0/1/0", "pelton-app", "pelton-app/p0", "rdkafka", ""] {
        assert!(!Scope::Process(process()).covers(0, other), "{other}");
    }
}

#[test]
fn without_rules_bytes_pass_both_ways() {
    let scene = Scene::new();
    let mut client = scene.connect();
    let asked = end_txn(1, ID, true);
    client.write_all(&asked).unwrap();
    assert_eq!(scene.next(), asked);
    assert_eq!(read_frame(&mut client).unwrap(), end_txn_answer(1, 0));
}

#[test]
fn a_late_end_txn_arrives_when_the_next_transaction_has_begun() {
    let scene = Scene::new();
    let (_, sprung) = scene.proxy.arm(process(), Trap::Late, 1);
    let mut client = scene.connect();
    client.write_all(&end_txn(1, ID, true)).unwrap();
    assert_eq!(sprung.recv_timeout(SOON).unwrap().transactional_id, ID);
    assert!(read_frame(&mut client).is_err(), "the connection is cut");
    scene.nothing_arrives();
    // The client asks again and goes on.
    let mut client = scene.connect();
    client.write_all(&end_txn(2, ID, true)).unwrap();
    assert_eq!(correlation_of(&scene.next()), 2);
    scene.nothing_arrives();
    client.write_all(&request(frame::ADD_PARTITIONS_TO_TXN, 3, CLIENT, &[])).unwrap();
    assert_eq!(correlation_of(&scene.next()), 3);
    assert_eq!(correlation_of(&scene.next()), 1, "the late one");
    crate::eventually("it is counted", SOON, || (scene.proxy.counts().late.accepted == 1).then_some(()));
    assert_eq!(scene.proxy.counts().late.delivered, 1);
}

#[test]
fn frozen_before_delivery_nothing_of_the_process_arrives_until_it_is_cut_and_lifted() {
    let scene = Scene::new();
    let (handle, sprung) = scene.proxy.arm(process(), Trap::BeforeDelivery, 1);
    let mut client = scene.connect();
    client.write_all(&end_txn(1, ID, true)).unwrap();
    sprung.recv_timeout(SOON).unwrap();
    client.write_all(&request(0, 2, CLIENT, &[])).unwrap();
    scene.nothing_arrives();
    scene.proxy.cut(&Scope::Process(process()));
    scene.proxy.lift(handle);
    scene.nothing_arrives();
    let mut client = scene.connect();
    client.write_all(&request(0, 3, CLIENT, &[])).unwrap();
    assert_eq!(correlation_of(&scene.next()), 3);
}

#[test]
fn frozen_before_the_answer_the_request_is_done_and_the_client_hears_nothing() {
    let scene = Scene::new();
    let (_, sprung) = scene.proxy.arm(process(), Trap::BeforeAnswer, 1);
    let mut client = scene.connect();
    client.write_all(&end_txn(1, ID, true)).unwrap();
    assert_eq!(correlation_of(&scene.next()), 1);
    sprung.recv_timeout(SOON).unwrap();
    client.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(read_frame(&mut client).is_err());
}

#[test]
fn frozen_after_the_answer_the_client_hears_it_and_is_heard_no_more() {
    let scene = Scene::new();
    let (_, sprung) = scene.proxy.arm(process(), Trap::AfterAnswer, 1);
    let mut client = scene.connect();
    client.write_all(&end_txn(1, ID, true)).unwrap();
    assert_eq!(correlation_of(&scene.next()), 1);
    assert_eq!(read_frame(&mut client).unwrap(), end_txn_answer(1, 0));
    sprung.recv_timeout(SOON).unwrap();
    client.write_all(&request(0, 2, CLIENT, &[])).unwrap();
    scene.nothing_arrives();
}

#[test]
fn a_lost_answer_costs_the_connection_and_no_more() {
    let scene = Scene::new();
    let (_, sprung) = scene.proxy.arm(process(), Trap::LostAnswer, 1);
    let mut client = scene.connect();
    client.write_all(&end_txn(1, ID, true)).unwrap();
    assert_eq!(correlation_of(&scene.next()), 1);
    assert!(read_frame(&mut client).is_err());
    sprung.recv_timeout(SOON).unwrap();
    let mut client = scene.connect();
    client.write_all(&end_txn(2, ID, true)).unwrap();
    assert_eq!(read_frame(&mut client).unwrap(), end_txn_answer(2, 0));
}

#[test]
fn what_was_stalled_arrives_when_the_stall_is_lifted_even_if_the_client_has_gone() {
    let scene = Scene::new();
    let handle = scene.proxy.rule(Scope::All, Effect::Stall(Direction::ToBroker));
    let mut client = scene.connect();
    client.write_all(&request(0, 1, CLIENT, &[])).unwrap();
    scene.nothing_arrives();
    drop(client);
    scene.proxy.lift(handle);
    assert_eq!(correlation_of(&scene.next()), 1);
}

#[test]
fn a_delay_is_for_whom_it_is_made_and_keeps_the_order() {
    let scene = Scene::new();
    let delay = Duration::from_secs(1);
    let (mut slow, mut other) = (scene.connect(), scene.connect());
    // Both are through to the broker before anything is delayed.
    for (client, id) in [(&mut slow, CLIENT), (&mut other, "pelton-app/p1/0/0")] {
        client.write_all(&request(0, 0, id, &[])).unwrap();
        assert_eq!(correlation_of(&scene.next()), 0);
        read_frame(client).unwrap();
    }
    scene.proxy.rule(Scope::Process(process()), Effect::Delay(delay));
    let start = Instant::now();
    slow.write_all(&request(0, 1, CLIENT, &[])).unwrap();
    slow.write_all(&request(0, 2, CLIENT, &[])).unwrap();
    other.write_all(&request(0, 3, "pelton-app/p1/0/0", &[])).unwrap();
    let order: Vec<i32> = (0..3).map(|_| correlation_of(&scene.next())).collect();
    assert_eq!(order, [3, 1, 2]);
    read_frame(&mut slow).unwrap();
    assert!(start.elapsed() >= 2 * delay, "there and back");
}

#[test]
fn a_cut_hits_those_it_is_for() {
    let scene = Scene::new();
    let (mut mine, mut other) = (scene.connect(), scene.connect());
    mine.write_all(&request(0, 1, CLIENT, &[])).unwrap();
    read_frame(&mut mine).unwrap();
    other.write_all(&request(0, 2, "pelton-app/p1/0/0", &[])).unwrap();
    read_frame(&mut other).unwrap();
    assert_eq!(scene.proxy.cut(&Scope::Process(process())), 1);
    assert!(read_frame(&mut mine).is_err());
    other.write_all(&request(0, 3, "pelton-app/p1/0/0", &[])).unwrap();
    assert_eq!(read_frame(&mut other).unwrap(), end_txn_answer(3, 0));
}
