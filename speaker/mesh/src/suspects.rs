//! [`Suspects`]: nodes whose kernel or speaker does not answer, until it is certain that they are dead.
//!
//! SWIM gives a slow process time to answer. Two observations need less time, because kernels answer at once:
//! - The kernel of a node does not answer echo requests (the crate `fairlead-probe`): the node is not there.
//! - The kernel of a node refuses a datagram (ICMP port unreachable): no speaker runs there.
//!
//! Neither is believed alone, because a firewall may drop echo requests, and a host may forge a refusal. The
//! speaker of the node is asked directly, and the node is dead only if no authentic datagram of it arrives.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_probe::Silence;

/// Time without an authentic datagram after which a silent node is dead. The speaker is asked twice in this
/// time.
const QUIET_TIME: Duration = Duration::from_millis(120);
/// Time that the speaker has to answer after it was asked for the first time.
const ANSWER_TIME: Duration = Duration::from_millis(60);
/// Time that a speaker has to prove that a refusal is forged or old.
const REFUSAL_TIME: Duration = Duration::from_millis(100);
/// Time between two questions to a suspect. At 5 % loss, one of the questions before a verdict is answered
/// with a probability of 0.999999.
const QUESTION_INTERVAL: Duration = Duration::from_millis(20);
/// Most questions to a suspect.
const MAX_QUESTIONS: u32 = 10;
/// A decision that is later than this is postponed once: answers may wait unread in the socket.
const LATE: Duration = Duration::from_millis(20);
const POSTPONEMENT: Duration = Duration::from_millis(50);

/// What to do about a suspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Ask the speaker directly.
    Ask(String),
    /// The node or its speaker is dead. `witnessed` is false if this node may be cut off instead.
    Dead { node: String, witnessed: bool },
    /// The speaker answers although the kernel of its node does not: it drops echo requests.
    Refuted(String),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects {
    by_node: BTreeMap<String, Suspect>,
    /// When an authentic datagram of each node last arrived.
    heard: BTreeMap<String, Instant>,
    /// When each node last answered a datagram of this one.
    answered: BTreeMap<String, Instant>,
}

#[derive(Clone, Debug, Default)]
struct Suspect {
    silence: Option<Silence>,
    refused: Option<Instant>,
    /// When the speaker was first and last asked.
    asked: Option<(Instant, Instant)>,
    questions: u32,
    /// When the verdict was first seen.
    condemned: Option<Instant>,
    postponed: Option<Instant>,
}

impl Suspects {
    /// Notes an authentic datagram of a node.
    pub(crate) fn handle_datagram(&mut self, now: Instant, node: &str, is_answer: bool) {
        set(&mut self.heard, node, now);
        if is_answer {
            set(&mut self.answered, node, now);
        }
        if let Some(suspect) = self.by_node.get_mut(node) {
            suspect.refused = None;
        }
    }

    /// Forgets nodes that are neither members nor listed.
    pub(crate) fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.heard.retain(|node, _| known(node));
        self.answered.retain(|node, _| known(node));
    }

    /// Replaces the silent kernels. `silences` is for members that are not doubted.
    pub(crate) fn set_silences(&mut self, silences: BTreeMap<String, Silence>) {
        for suspect in self.by_node.values_mut() {
            suspect.silence = None;
        }
        for (node, silence) in silences {
            let suspect = self.by_node.entry(node).or_default();
            suspect.silence = Some(silence);
        }
        self.by_node.retain(|_, suspect| suspect.silence.is_some() || suspect.refused.is_some());
    }

    /// Notes that the kernel of a member's node refused a datagram.
    pub(crate) fn handle_refusal(&mut self, now: Instant, node: &str) {
        self.by_node.entry(node.to_owned()).or_default().refused.get_or_insert(now);
    }

    /// Removes a node that is dead, doubted or back.
    pub(crate) fn remove(&mut self, node: &str) {
        self.by_node.remove(node);
    }

    /// Returns whether the kernel of a node does not answer at present.
    pub(crate) fn is_silent(&self, node: &str) -> bool {
        self.by_node.get(node).is_some_and(|suspect| suspect.silence.is_some())
    }

    /// Returns true if there is no suspect.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// Decides what is due. The suspects whose fate is decided are removed.
    pub(crate) fn decide(&mut self, now: Instant) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let (heard, answered) = (&self.heard, &self.answered);
        self.by_node.retain(|node, suspect| {
            suspect.ask(now, node, &mut decisions);
            let decision = suspect.decide(now, heard.get(node).copied(), answered.get(node).copied());
            let Some(decision) = decision else {
                return suspect.silence.is_some() || suspect.refused.is_some();
            };
            decisions.push(match decision {
                Fate::Dead { witnessed } => Decision::Dead { node: node.clone(), witnessed },
                Fate::Refuted => Decision::Refuted(node.clone()),
            });
            false
        });
        decisions
    }

    /// Returns when to call [`Self::decide`] next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = |(node, suspect): (&String, &Suspect)| suspect.next(self.heard.get(node).copied());
        self.by_node.iter().filter_map(due).min()
    }
}

enum Fate {
    Dead { witnessed: bool },
    Refuted,
}

impl Suspect {
    fn ask(&mut self, now: Instant, node: &str, decisions: &mut Vec<Decision>) {
        if self.next_question().is_none_or(|due| now < due) && self.asked.is_some() {
            return;
        }
        self.questions += 1;
        self.asked = Some((self.asked.map_or(now, |(first, _)| first), now));
        decisions.push(Decision::Ask(node.to_owned()));
    }

    fn next_question(&self) -> Option<Instant> {
        let (_, last) = self.asked.filter(|_| self.questions < MAX_QUESTIONS)?;
        Some(last + QUESTION_INTERVAL)
    }

    fn decide(&mut self, now: Instant, heard: Option<Instant>, answered: Option<Instant>) -> Option<Fate> {
        if let Some(silence) = self.silence.filter(|silence| silence.verdict) {
            self.condemned.get_or_insert(now);
            if answered.is_some_and(|answered| answered > silence.since) {
                return Some(Fate::Refuted);
            }
        } else {
            self.condemned = None;
        }
        let due = self.due(heard)?;
        if now < due {
            return None;
        }
        if now > due + LATE && self.postponed.is_none() && heard.is_some() {
            self.postponed = Some(now + POSTPONEMENT);
            return None;
        }
        // A kernel that refuses datagrams is reachable: this node is not cut off.
        let witnessed = self.silence.is_none_or(|silence| silence.witnessed);
        Some(Fate::Dead { witnessed: witnessed || self.refused.is_some() })
    }

    /// Returns when the suspect is dead unless something arrives.
    fn due(&self, heard: Option<Instant>) -> Option<Instant> {
        let (asked, _) = self.asked?;
        let verdict = self.condemned.map(|condemned| condemned.max(asked + ANSWER_TIME));
        let refusal = self.refused.map(|refused| refused + REFUSAL_TIME);
        let decided = [verdict, refusal].into_iter().flatten().min()?;
        let quiet = heard.filter(|_| refusal != Some(decided)).map(|heard| heard + QUIET_TIME);
        [Some(decided), quiet, self.postponed].into_iter().flatten().max()
    }

    fn next(&self, heard: Option<Instant>) -> Option<Instant> {
        [self.due(heard), self.next_question()].into_iter().flatten().min()
    }
}

fn set(times: &mut BTreeMap<String, Instant>, node: &str, now: Instant) {
    match times.get_mut(node) {
        Some(last) => *last = now,
        None => drop(times.insert(node.to_owned(), now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// What arrives, in milliseconds after the first missed request was sent.
    #[derive(Clone, Copy)]
    enum Arrival {
        Datagram(u64),
        Answer(u64),
    }

    /// Runs for 500 ms. The first missed request is noticed after 30 ms, the verdict comes after 130 ms; the
    /// refusal after 30 ms. Returns what was decided, and when.
    fn run(
        silent: bool,
        refused: bool,
        witnessed: bool,
        arrivals: &[Arrival],
    ) -> (Option<Decision>, u64, usize) {
        let start = Instant::now() + Duration::from_secs(10);
        let mut suspects = Suspects::default();
        suspects.handle_datagram(start - ms(1), "n2", true);
        let mut questions = 0;
        for at in 0..500 {
            let now = start + ms(at);
            for arrival in arrivals {
                match arrival {
                    Arrival::Datagram(when) if *when == at => suspects.handle_datagram(now, "n2", false),
                    Arrival::Answer(when) if *when == at => suspects.handle_datagram(now, "n2", true),
                    _ => {}
                }
            }
            if silent && [30, 80, 130].contains(&at) {
                let silence = Silence {
                    since: start,
                    missed: (at as u32 - 30) / 50 + 1,
                    verdict: at == 130,
                    witnessed: witnessed && at == 130,
                };
                suspects.set_silences([("n2".to_owned(), silence)].into());
            }
            if refused && at == 30 {
                suspects.handle_refusal(now, "n2");
            }
            for decision in suspects.decide(now) {
                match decision {
                    Decision::Ask(_) => questions += 1,
                    decision => return (Some(decision), at, questions),
                }
            }
        }
        (None, 500, questions)
    }

    #[test]
    fn silence_is_death_only_without_a_datagram() {
        use Arrival::{Answer, Datagram};
        let dead = |witnessed| Some(Decision::Dead { node: "n2".into(), witnessed });
        let refuted = Some(Decision::Refuted("n2".into()));
        for (name, arrivals, witnessed, expected, at) in [
            ("nothing arrives", vec![], true, dead(true), 130),
            ("nothing arrives, no witness", vec![], false, dead(false), 130),
            ("the speaker answers", vec![Answer(50)], true, refuted, 130),
            ("a datagram of a node that hears nothing", vec![Datagram(60)], true, dead(true), 180),
            (
                "datagrams of a node that hears nothing",
                vec![Datagram(60), Datagram(150)],
                true,
                dead(true),
                270,
            ),
            ("an answer before the first missed request", vec![Answer(0)], true, dead(true), 130),
        ] {
            let (decision, when, questions) = run(true, false, witnessed, &arrivals);
            assert_eq!((decision, when), (expected, at), "{name}");
            assert!(questions >= 5, "{name}: {questions} questions");
        }
    }

    #[test]
    fn refusal_is_death_only_without_a_datagram() {
        use Arrival::{Answer, Datagram};
        let dead = Some(Decision::Dead { node: "n2".into(), witnessed: true });
        for (name, arrivals, expected) in [
            ("nothing arrives", vec![], (dead, 130)),
            ("the speaker answers: the refusal is forged", vec![Answer(80)], (None, 500)),
            ("another datagram", vec![Datagram(129)], (None, 500)),
        ] {
            let (decision, when, _) = run(false, true, false, &arrivals);
            assert_eq!((decision, when), expected, "{name}");
        }
    }

    #[test]
    fn late_decision_is_postponed_once() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut suspects = Suspects::default();
        suspects.handle_datagram(start, "n2", true);
        suspects.handle_refusal(start, "n2");
        assert_eq!(suspects.decide(start), [Decision::Ask("n2".into())]);
        let dead = |suspects: &mut Suspects, at| {
            suspects.decide(start + ms(at)).iter().any(|decision| matches!(decision, Decision::Dead { .. }))
        };
        // The process did not run for a second.
        assert!(!dead(&mut suspects, 1_000));
        assert!(!dead(&mut suspects, 1_049));
        assert!(dead(&mut suspects, 1_050));
    }
}
