//! [`Reports`]: on which interfaces each speaker can announce addresses, as it reports to all others.
//!
//! A speaker sends its report to each member when the member joins and when the interfaces change. It repeats
//! the report until the member acknowledges it, at growing intervals, because datagrams can be lost and
//! speakers of older versions do not answer. At rest, nothing is sent.
//!
//! A report has the generation of its speaker and a version that grows with each change. The highest pair
//! counts, so that reordered and repeated datagrams change nothing.
//!
//! ```text
//! 0 (1 octet) | kind (1) | length of the name (1) | name of the node | generation (8) | version (8)
//! report only: number of interfaces (1), and for each: families (1) | length of the name (1) | name
//! ```
//!
//! No payload of foca begins with 0: it begins with the length of the name of the sender.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_l2::{MAX_SERVED_INTERFACES, ServedFamilies, ServedInterfaces};

/// First octet of the payloads of this module.
const MARK: u8 = 0;
/// Kinds of payloads. Speakers that know only payloads of foca cannot decode these values as the kind of an
/// address, and drop the datagram.
const REPORT: u8 = 2;
const ACKNOWLEDGMENT: u8 = 3;

/// Maximum length of the name of a Node: a DNS subdomain.
const MAX_NODE_NAME: usize = 253;
/// Maximum length of the name of an interface: IFNAMSIZ less the final zero.
const MAX_INTERFACE_NAME: usize = 15;

const FAMILY_V4: u8 = 1;
const FAMILY_V6: u8 = 2;

/// Time between two changes that are sent: an interface that flaps must not flood the network.
const CHANGE_INTERVAL: Duration = Duration::from_millis(20);
/// Time until a report is repeated for the first time; it doubles with each repetition.
const FIRST_REPETITION: Duration = Duration::from_millis(40);
/// Longest time between two repetitions.
const MAX_REPETITION: Duration = Duration::from_secs(10);

/// The report of this speaker, who has acknowledged it, and the reports of the others.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// `None` until the interfaces are known: nothing is sent.
    own: Option<ServedInterfaces>,
    version: u64,
    /// When a report was last sent.
    sent: Option<Instant>,
    /// The generation with which this version was last sent.
    sent_generation: u64,
    /// Members that have not acknowledged this version.
    pending: BTreeMap<String, Pending>,
    /// The reports of other nodes.
    known: BTreeMap<String, Report>,
    /// Grows with each change of `known`.
    known_version: u64,
}

#[derive(Debug)]
struct Pending {
    due: Instant,
    /// Time from the next transmission to the one after it.
    interval: Duration,
}

#[derive(Debug)]
struct Report {
    /// Generation and version.
    age: (u64, u64),
    interfaces: Arc<ServedInterfaces>,
}

/// A payload of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Payload {
    Report { node: String, age: (u64, u64), interfaces: ServedInterfaces },
    Acknowledgment { node: String, age: (u64, u64) },
}

impl Reports {
    /// Returns whether a payload is one of this module and not of foca.
    pub(crate) fn owns(payload: &[u8]) -> bool {
        payload.first() == Some(&MARK)
    }

    /// Replaces the interfaces of this node. They are sent to the members at once.
    pub(crate) fn set_own<'a>(
        &mut self,
        now: Instant,
        mut interfaces: ServedInterfaces,
        members: impl Iterator<Item = &'a String>,
    ) {
        interfaces.retain(|name, _| (1..=MAX_INTERFACE_NAME).contains(&name.len()));
        while interfaces.len() > MAX_SERVED_INTERFACES {
            interfaces.pop_last();
        }
        if self.own.as_ref() == Some(&interfaces) {
            return;
        }
        self.own = Some(interfaces);
        self.version += 1;
        let due = self.sent.map_or(now, |sent| now.max(sent + CHANGE_INTERVAL));
        self.pending =
            members.map(|node| (node.clone(), Pending { due, interval: FIRST_REPETITION })).collect();
    }

    /// Sends the report to a member that may not have it.
    pub(crate) fn send_to(&mut self, now: Instant, node: &str) {
        if self.own.is_some() {
            self.pending.insert(node.to_owned(), Pending { due: now, interval: FIRST_REPETITION });
        }
    }

    /// Sends the report no longer to a node that is not a member any more.
    pub(crate) fn stop_sending_to(&mut self, node: &str) {
        self.pending.remove(node);
    }

    /// Forgets the reports of nodes that are neither listed nor members.
    pub(crate) fn retain(&mut self, known: impl Fn(&str) -> bool) {
        let before = self.known.len();
        self.known.retain(|node, _| known(node));
        self.known_version += u64::from(self.known.len() != before);
    }

    /// Returns the payload of the report and the members to which it is sent now, or `None` if it is sent to
    /// nobody.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        node: &str,
        generation: u64,
    ) -> Option<(Vec<u8>, BTreeSet<String>)> {
        let mut due = BTreeSet::new();
        for (member, pending) in self.pending.iter_mut().filter(|(_, pending)| pending.due <= now) {
            pending.due = now + pending.interval;
            pending.interval = (2 * pending.interval).min(MAX_REPETITION);
            due.insert(member.clone());
        }
        let interfaces = self.own.as_ref().filter(|_| !due.is_empty())?;
        self.sent_generation = generation;
        self.sent = Some(now);
        let age = (generation, self.version);
        let payload = Payload::Report { node: node.to_owned(), age, interfaces: interfaces.clone() };
        Some((payload.encode(), due))
    }

    /// Handles a payload of this module. Returns the acknowledgment to send to its sender, or an error if the
    /// payload cannot be decoded or its sender is not known.
    pub(crate) fn handle(
        &mut self,
        payload: &[u8],
        own_node: &str,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<u8>>, Malformed> {
        match Payload::decode(payload).ok_or(Malformed)? {
            Payload::Report { node, age, interfaces } => {
                if node == own_node || !is_known(&node) {
                    return Err(Malformed);
                }
                let known = self.known.get(&node).map(|report| report.age);
                if known.is_some_and(|known| known > age) {
                    return Ok(None);
                }
                if known != Some(age) {
                    self.store(node, age, interfaces);
                }
                let acknowledgment = Payload::Acknowledgment { node: own_node.to_owned(), age };
                Ok(Some(acknowledgment.encode()))
            }
            Payload::Acknowledgment { node, age } => {
                if age == (self.sent_generation, self.version) {
                    self.pending.remove(&node);
                }
                Ok(None)
            }
        }
    }

    fn store(&mut self, node: String, age: (u64, u64), interfaces: ServedInterfaces) {
        let unchanged = self.known.get(&node).filter(|report| *report.interfaces == interfaces);
        let interfaces = match unchanged {
            Some(report) => report.interfaces.clone(),
            None => {
                self.known_version += 1;
                Arc::new(interfaces)
            }
        };
        self.known.insert(node, Report { age, interfaces });
    }

    /// Returns when to call [`Self::take_due`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Returns the interfaces of the other nodes that reported them.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&String, &Arc<ServedInterfaces>)> {
        self.known.iter().map(|(node, report)| (node, &report.interfaces))
    }

    /// Returns a number that grows with each change of [`Self::known`].
    pub(crate) fn known_version(&self) -> u64 {
        self.known_version
    }
}

/// A payload that cannot be decoded, or of an unknown sender.
#[derive(Debug)]
pub(crate) struct Malformed;

// ===== impl Payload =====

impl Payload {
    fn encode(&self) -> Vec<u8> {
        let (kind, node, age) = match self {
            Self::Report { node, age, .. } => (REPORT, node, age),
            Self::Acknowledgment { node, age } => (ACKNOWLEDGMENT, node, age),
        };
        let mut octets = vec![MARK, kind];
        push_text(&mut octets, node);
        octets.extend(age.0.to_be_bytes());
        octets.extend(age.1.to_be_bytes());
        if let Self::Report { interfaces, .. } = self {
            octets.push(u8::try_from(interfaces.len()).unwrap_or(u8::MAX));
            for (name, families) in interfaces.iter().take(usize::from(u8::MAX)) {
                octets.push((u8::from(families.v4) * FAMILY_V4) | (u8::from(families.v6) * FAMILY_V6));
                push_text(&mut octets, name);
            }
        }
        octets
    }

    /// Returns `None` if the payload is not exactly one of this form.
    fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        if reader.octet()? != MARK {
            return None;
        }
        let kind = reader.octet()?;
        let node = reader.text(MAX_NODE_NAME)?;
        let age = (reader.number()?, reader.number()?);
        let payload = match kind {
            REPORT => {
                let count = usize::from(reader.octet()?);
                if count > MAX_SERVED_INTERFACES {
                    return None;
                }
                let mut interfaces = ServedInterfaces::new();
                for _ in 0..count {
                    let families = reader.octet()?;
                    let served =
                        ServedFamilies { v4: families & FAMILY_V4 != 0, v6: families & FAMILY_V6 != 0 };
                    interfaces.insert(reader.text(MAX_INTERFACE_NAME)?, served);
                }
                Self::Report { node, age, interfaces }
            }
            ACKNOWLEDGMENT => Self::Acknowledgment { node, age },
            _ => return None,
        };
        reader.0.is_empty().then_some(payload)
    }
}

/// Appends the length of a text and the text. Texts are shorter than 256 octets.
fn push_text(octets: &mut Vec<u8>, text: &str) {
    octets.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    octets.extend(text.bytes().take(usize::from(u8::MAX)));
}

/// The rest of a payload.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let (octets, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*octets))
    }

    /// Reads a text of 1 to `max` octets.
    fn text(&mut self, max: usize) -> Option<String> {
        let length = usize::from(self.octet()?);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let text = std::str::from_utf8(text).ok()?;
        (1..=max).contains(&length).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use foca::{Codec, Header, PostcardCodec};
    use proptest::prelude::*;

    use super::*;
    use crate::Identity;
    use crate::authentication::MAX_PAYLOAD;

    fn interfaces() -> impl Strategy<Value = ServedInterfaces> {
        let families = (any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| ServedFamilies { v4, v6 });
        prop::collection::btree_map("[a-z0-9@.é]{1,7}", families, 0..=MAX_SERVED_INTERFACES)
    }

    proptest! {
        #[test]
        fn payload_decodes_only_whole(
            node in "[a-z0-9.-]{1,253}",
            age in any::<(u64, u64)>(),
            interfaces in interfaces(),
        ) {
            let acknowledgment = Payload::Acknowledgment { node: node.clone(), age };
            for payload in [Payload::Report { node, age, interfaces }, acknowledgment] {
                let octets = payload.encode();
                for length in 0..octets.len() {
                    prop_assert_eq!(Payload::decode(&octets[..length]), None);
                }
                prop_assert_eq!(Payload::decode(&[&octets[..], &[0]].concat()), None);
                prop_assert_eq!(Payload::decode(&octets), Some(payload));
            }
        }

        #[test]
        fn any_payload_is_decoded_or_refused(mut octets in prop::collection::vec(any::<u8>(), 2..1_300)) {
            (octets[0], octets[1]) = (MARK, REPORT + octets[1] % 2);
            if let Some(payload) = Payload::decode(&octets) {
                prop_assert_eq!(Payload::decode(&payload.encode()), Some(payload));
            }
        }

        /// Speakers of older versions drop the datagram.
        #[test]
        fn payload_is_none_of_foca(node in "[a-z]{1,20}", age in any::<(u64, u64)>(), list in interfaces()) {
            let octets = Payload::Report { node, age, interfaces: list }.encode();
            let header: Result<Header<Identity>, _> = PostcardCodec.decode_header(&mut octets.as_slice());
            prop_assert!(Reports::owns(&octets) && header.is_err());
        }
    }

    #[test]
    fn largest_report_fits_a_datagram() {
        let node = "n".repeat(MAX_NODE_NAME);
        let interface = |n: usize| (format!("{n:0MAX_INTERFACE_NAME$}"), ServedFamilies::BOTH);
        let mut reports = Reports::default();
        let now = Instant::now();
        reports.set_own(now, (0..4_000).map(interface).collect(), [node.clone()].iter());
        let (payload, _) = reports.take_due(now, &node, u64::MAX).unwrap();
        assert!(payload.len() <= MAX_PAYLOAD, "{}", payload.len());
        let mut receiver = Reports::default();
        receiver.handle(&payload, "other", |_| true).unwrap();
        let (_, interfaces) = receiver.known().next().unwrap();
        assert_eq!(*interfaces.keys().next_back().unwrap(), format!("{:015}", MAX_SERVED_INTERFACES - 1));
    }

    /// Given reports in the order of their arrival, as generation, version and interface: what counts then.
    #[test]
    fn newest_report_counts_in_any_order() {
        for (arrivals, expected) in [
            (vec![(1, 1, "a")], "a"),
            (vec![(1, 1, "a"), (1, 2, "b")], "b"),
            (vec![(1, 2, "b"), (1, 1, "a")], "b"),
            (vec![(1, 9, "a"), (2, 1, "b")], "b"),
            (vec![(2, 1, "b"), (1, 9, "a")], "b"),
            (vec![(1, 1, "a"), (1, 1, "b")], "a"),
        ] {
            let mut reports = Reports::default();
            for (generation, version, interface) in &arrivals {
                let interfaces = [((*interface).to_owned(), ServedFamilies::BOTH)].into();
                let age = (*generation, *version);
                let report = Payload::Report { node: "n2".to_owned(), age, interfaces };
                reports.handle(&report.encode(), "n1", |_| true).unwrap();
            }
            let known: Vec<&String> = reports.known().flat_map(|(_, interfaces)| interfaces.keys()).collect();
            assert_eq!(known, [expected], "{arrivals:?}");
        }
    }

    #[test]
    fn report_of_unknown_node_or_in_the_own_name_is_refused() {
        for node in ["n1", "n9"] {
            let report = Payload::Report { node: node.to_owned(), age: (1, 1), interfaces: [].into() };
            let mut reports = Reports::default();
            assert!(reports.handle(&report.encode(), "n1", |node| node == "n2").is_err(), "{node}");
            assert_eq!(reports.known().count(), 0, "{node}");
        }
    }

    #[test]
    fn report_is_repeated_until_it_is_acknowledged() {
        let start = Instant::now();
        let mut reports = Reports::default();
        reports.send_to(start, "n2");
        assert_eq!(reports.poll_timeout(), None, "the own interfaces are not known yet");
        reports.set_own(start, [("eth0".to_owned(), ServedFamilies::BOTH)].into(), ["n2".to_owned()].iter());
        let mut times = Vec::new();
        for _ in 0..12 {
            let now = reports.poll_timeout().unwrap();
            times.push((now - start).as_millis());
            reports.take_due(now, "n1", 7).unwrap();
        }
        assert_eq!(&times[..5], [0, 40, 120, 280, 600]);
        assert_eq!(times[11] - times[10], 10_000, "the longest interval");
        let acknowledge = |reports: &mut Reports, age| {
            let payload = Payload::Acknowledgment { node: "n2".to_owned(), age };
            reports.handle(&payload.encode(), "n1", |_| true).unwrap();
            reports.poll_timeout().is_none()
        };
        for other in [(7, 0), (6, 1), (8, 1), (7, 2)] {
            assert!(!acknowledge(&mut reports, other), "{other:?}");
        }
        assert!(acknowledge(&mut reports, (7, 1)));
        assert!(reports.take_due(start + Duration::from_secs(3_600), "n1", 7).is_none());
    }

    #[test]
    fn flapping_interface_is_reported_at_intervals() {
        let start = Instant::now();
        let mut reports = Reports::default();
        let mut sent = 0;
        for ms in 0..1_000 {
            let now = start + Duration::from_millis(ms);
            let interfaces = [("eth0".to_owned(), ServedFamilies { v4: ms % 2 == 0, v6: false })].into();
            reports.set_own(now, interfaces, ["n2".to_owned()].iter());
            sent += usize::from(reports.take_due(now, "n1", 7).is_some());
        }
        assert!((40..=51).contains(&sent), "{sent}");
    }
}
