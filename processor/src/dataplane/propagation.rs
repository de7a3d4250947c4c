//! How an output's headers carry on its input's trace.
//!
//! | `traceparent` of the output | traced | not traced |
//! |---|---|---|
//! | none | that of the record's processing, and the input's `tracestate` | the input's, and its `tracestate` |
//! | the input's | that of the record's processing, in its place | as it is |
//! | another: the guest's own | as it is | as it is |
//!
//! A record's outcome never depends on it: an output that the added bytes would make too large goes without them.

use crate::telemetry::traces::context::{LENGTH, TRACEPARENT, TRACESTATE};
use pelton_kafka::Header;

/// Of one input record.
#[derive(Clone, Copy, Debug)]
pub struct Propagation<'t> {
    /// `traceparent` of its processing, where it is followed.
    pub ours: Option<[u8; LENGTH]>,
    /// `traceparent` as it came.
    pub given: Option<&'t [u8]>,
    /// `tracestate` that belongs to it.
    pub state: Option<&'t [u8]>,
}

/// Adds to the headers of an output what `propagation` carries on, if anything. `fits`: may the output be so
/// large?
#[inline]
pub fn carry<'h>(
    propagation: Option<&'h Propagation<'_>>,
    headers: &mut Vec<Header<'h>>,
    fits: impl FnOnce(&[Header<'_>]) -> bool,
) {
    if let Some(propagation) = propagation {
        propagation.carry(headers, fits);
    }
}

impl Propagation<'_> {
    fn carry<'h>(&'h self, headers: &mut Vec<Header<'h>>, fits: impl FnOnce(&[Header<'_>]) -> bool) {
        let ours = self.ours.as_ref().map(<[u8; LENGTH]>::as_slice);
        match headers.iter().rposition(|header| header.key == TRACEPARENT) {
            Some(place) => {
                // Else it is the guest's own, which goes on with another trace, or the input's, which is not followed.
                if let (Some(ours), Some(given)) = (ours, self.given)
                    && headers[place].value == Some(given)
                {
                    headers[place].value = Some(ours);
                    // The usual case: as long as it was.
                    if ours.len() > given.len() && !fits(headers) {
                        headers[place].value = Some(given);
                    }
                }
            }
            None => {
                let Some(next) = ours.or(self.given) else { return };
                let (before, has_state) = (headers.len(), headers.iter().any(|header| header.key == TRACESTATE));
                headers.push(Header { key: TRACEPARENT, value: Some(next) });
                if let Some(state) = self.state.filter(|_| !has_state) {
                    headers.push(Header { key: TRACESTATE, value: Some(state) });
                }
                if !fits(headers) {
                    headers.truncate(before);
                }
            }
        }
    }
}

/// Room for the headers of one record after the other; its memory is used again.
#[derive(Debug, Default)]
pub struct Room(Vec<Header<'static>>);

impl Room {
    /// Lends it, empty.
    pub fn lend<'h>(&mut self) -> Vec<Header<'h>> {
        std::mem::take(&mut self.0)
    }

    /// Takes it back: the memory, not the headers.
    #[inline]
    pub fn take_back(&mut self, mut headers: Vec<Header<'_>>) {
        if headers.capacity() > 0 {
            headers.clear();
            // Of nothing, into the same memory: what was borrowed is not borrowed any more.
            self.0 = headers.into_iter().map_while(|_| None).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: [u8; LENGTH] = *b"00-0af7651916cd43dd8448eb211c80319c-00000000000000ff-01";
    const GIVEN: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &[u8] = b"00-11111111111111111111111111111111-b7ad6b7169203331-01";

    fn written(propagation: Option<Propagation<'_>>, headers: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        let mut carried: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| Header { key: key.as_bytes(), value: Some(value) }).collect();
        carry(propagation.as_ref(), &mut carried, |_| true);
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        carried.iter().map(|h| (text(h.key), h.value.unwrap().to_vec())).collect()
    }

    fn headers(all: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        all.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn an_output_goes_on_with_its_input_s_trace_unless_the_guest_says_otherwise() {
        let followed = Propagation { ours: Some(OURS), given: Some(GIVEN), state: Some(b"a=1") };
        assert_eq!(written(None, &[("x", b"1")]), headers(&[("x", b"1")]));
        assert_eq!(
            written(Some(followed), &[("x", b"1")]),
            headers(&[("x", b"1"), ("traceparent", &OURS), ("tracestate", b"a=1")])
        );
        assert_eq!(
            written(Some(followed), &[("traceparent", GIVEN), ("tracestate", b"b=2"), ("x", b"1")]),
            headers(&[("traceparent", &OURS), ("tracestate", b"b=2"), ("x", b"1")]),
            "in its place"
        );
        let own = [("traceparent", OTHER), ("tracestate", b"b=2")];
        assert_eq!(written(Some(followed), &own), headers(&own), "the guest's own");
        let twice = [("traceparent", GIVEN), ("traceparent", OTHER)];
        assert_eq!(written(Some(followed), &twice), headers(&twice), "the last one counts");
        assert_eq!(
            written(Some(followed), &[("traceparent", OTHER), ("traceparent", GIVEN)]),
            headers(&[("traceparent", OTHER), ("traceparent", &OURS)])
        );
    }

    #[test]
    fn what_is_not_followed_goes_on_as_it_came() {
        let unfollowed = Propagation { ours: None, given: Some(GIVEN), state: Some(b"a=1") };
        assert_eq!(written(Some(unfollowed), &[("traceparent", GIVEN)]), headers(&[("traceparent", GIVEN)]));
        assert_eq!(written(Some(unfollowed), &[]), headers(&[("traceparent", GIVEN), ("tracestate", b"a=1")]));
        assert_eq!(written(Some(unfollowed), &[("traceparent", OTHER)]), headers(&[("traceparent", OTHER)]));
    }

    #[test]
    fn a_trace_that_begins_here_does_not_take_the_place_of_a_guest_s() {
        let begun = Propagation { ours: Some(OURS), given: None, state: None };
        assert_eq!(written(Some(begun), &[]), headers(&[("traceparent", &OURS)]));
        assert_eq!(written(Some(begun), &[("traceparent", OTHER)]), headers(&[("traceparent", OTHER)]));
        let instead = Propagation { given: Some(b"rubbish"), ..begun };
        assert_eq!(written(Some(instead), &[("traceparent", b"rubbish")]), headers(&[("traceparent", &OURS)]));
    }

    #[test]
    fn an_output_that_would_be_too_large_goes_without() {
        let followed = Propagation { ours: Some(OURS), given: Some(GIVEN), state: None };
        let plain = vec![Header { key: b"x", value: None }];
        let mut headers = plain.clone();
        carry(Some(&followed), &mut headers, |more| more.len() < 2);
        assert_eq!(headers, plain);
        let mut copied = vec![Header { key: TRACEPARENT, value: Some(GIVEN) }];
        carry(Some(&followed), &mut copied, |_| panic!("it is not larger"));
        assert_eq!(copied[0].value, Some(OURS.as_slice()));
        let short = Propagation { given: Some(b"short"), ..followed };
        let mut longer = vec![Header { key: TRACEPARENT, value: Some(b"short") }];
        carry(Some(&short), &mut longer, |_| false);
        assert_eq!(longer[0].value, Some(b"short".as_slice()));
    }

    #[test]
    fn room_that_was_lent_comes_back_with_its_memory() {
        let mut room = Room::default();
        let name = b"name".to_vec();
        let mut headers = room.lend();
        headers.extend((0..9).map(|_| Header { key: &name, value: None }));
        let (memory, capacity) = (headers.as_ptr().addr(), headers.capacity());
        room.take_back(headers);
        drop(name);
        let again: Vec<Header<'_>> = room.lend();
        assert_eq!((again.as_ptr().addr(), again.capacity(), again.len()), (memory, capacity, 0));
    }

    proptest! {
        /// Whatever a guest writes: all other headers stay as they are, in their order.
        #[test]
        fn other_headers_are_left_alone(
            keys in prop::collection::vec("traceparent|tracestate|a|b", 0..6),
            given in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
            copied in any::<bool>(),
        ) {
            let own = b"own".to_vec();
            let value = if copied { given.as_ref().unwrap_or(&own) } else { &own };
            let before: Vec<Header<'_>> =
                keys.iter().map(|key| Header { key: key.as_bytes(), value: Some(value) }).collect();
            let propagation = Propagation { ours: Some(OURS), given: given.as_deref(), state: None };
            let mut after = before.clone();
            carry(Some(&propagation), &mut after, |_| true);
            let others = |headers: &[Header<'_>]| -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
                let others = headers.iter().filter(|header| header.key != TRACEPARENT);
                others.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect()
            };
            prop_assert_eq!(others(&before), others(&after));
            prop_assert!(after.len() <= before.len() + 1);
        }
    }
}
