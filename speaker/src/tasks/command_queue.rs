//! A queue of commands between two tasks that holds at most one command per key.
//!
//! A new command replaces the pending command with the same key. [`CommandSender::send`] puts it into the
//! last place, so that the receiver gets the latest command of each key in the order in which they were sent.
//! [`CommandSender::send_in_place`] puts it into the place of the command that it replaces. The memory of the
//! queue is bounded by the number of keys (addresses, prefixes), not by the number of commands: a flapping
//! address cannot fill it, and the sender never waits for a slow receiver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Creates a queue.
pub(crate) fn command_queue<K: Clone + Ord, C>() -> (CommandSender<K, C>, CommandReceiver<K, C>) {
    let shared = Arc::new(Shared { queue: Mutex::new(Queue::default()), changed: Notify::new() });
    (CommandSender(shared.clone()), CommandReceiver(shared))
}

/// The sending end. Dropping it closes the queue.
#[derive(Debug)]
pub(crate) struct CommandSender<K: Clone + Ord, C>(Arc<Shared<K, C>>);

/// The receiving end.
#[derive(Debug)]
pub(crate) struct CommandReceiver<K: Clone + Ord, C>(Arc<Shared<K, C>>);

#[derive(Debug)]
struct Shared<K, C> {
    /// Locked for single operations only, never while a task waits.
    queue: Mutex<Queue<K, C>>,
    changed: Notify,
}

#[derive(Debug)]
struct Queue<K, C> {
    by_sequence: BTreeMap<u64, (K, C)>,
    sequences: BTreeMap<K, u64>,
    next_sequence: u64,
    closed: bool,
}

impl<K: Clone + Ord, C> CommandSender<K, C> {
    /// Adds a command, in place of the pending one with this key.
    pub(crate) fn send(&self, key: K, command: C) {
        self.0.lock().push(key, command);
        self.0.changed.notify_one();
    }

    /// Adds a command. If one with this key is pending, replaces it in its place, because later commands may
    /// depend on it.
    pub(crate) fn send_in_place(&self, key: K, command: C) {
        self.0.lock().replace(key, command);
        self.0.changed.notify_one();
    }

    /// Removes the pending command with this key.
    pub(crate) fn cancel(&self, key: &K) {
        self.0.lock().remove(key);
    }
}

impl<K: Clone + Ord, C> Drop for CommandSender<K, C> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl<K: Clone + Ord, C> CommandReceiver<K, C> {
    /// Waits for the next command. Returns `None` if the queue is empty and closed. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<C> {
        loop {
            {
                let mut queue = self.0.lock();
                match queue.pop() {
                    Some(command) => return Some(command),
                    None if queue.closed => return None,
                    None => {}
                }
            }
            // A notification since the lock was released is stored, so none is missed.
            self.0.changed.notified().await;
        }
    }

    /// Returns the next command if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<C> {
        self.0.lock().pop()
    }
}

impl<K, C> Shared<K, C> {
    fn lock(&self) -> MutexGuard<'_, Queue<K, C>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, C> Default for Queue<K, C> {
    fn default() -> Self {
        Self { by_sequence: BTreeMap::new(), sequences: BTreeMap::new(), next_sequence: 0, closed: false }
    }
}

impl<K: Clone + Ord, C> Queue<K, C> {
    fn push(&mut self, key: K, command: C) {
        self.remove(&key);
        self.sequences.insert(key.clone(), self.next_sequence);
        self.by_sequence.insert(self.next_sequence, (key, command));
        self.next_sequence += 1;
    }

    fn replace(&mut self, key: K, command: C) {
        let pending = self.sequences.get(&key).and_then(|sequence| self.by_sequence.get_mut(sequence));
        match pending {
            Some(pending) => pending.1 = command,
            None => self.push(key, command),
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(sequence) = self.sequences.remove(key) {
            self.by_sequence.remove(&sequence);
        }
    }

    fn pop(&mut self) -> Option<C> {
        let (_, (key, command)) = self.by_sequence.pop_first()?;
        self.sequences.remove(&key);
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &mut CommandReceiver<char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| receiver.try_recv()).collect()
    }

    #[test]
    fn latest_command_of_each_key_arrives_in_order_of_sending() {
        let (sender, mut receiver) = command_queue();
        for (key, command) in [('a', 1), ('b', 2), ('c', 3), ('a', 4), ('b', 5)] {
            sender.send(key, command);
        }
        assert_eq!(received(&mut receiver), [3, 4, 5]);
        sender.send('a', 6);
        sender.send('b', 7);
        sender.cancel(&'a');
        sender.cancel(&'c');
        assert_eq!(received(&mut receiver), [7]);
    }

    #[test]
    fn command_in_place_keeps_the_place_of_the_pending_one() {
        let (sender, mut receiver) = command_queue();
        sender.send('a', 1);
        sender.send('b', 2);
        sender.send_in_place('a', 3);
        sender.send_in_place('c', 4);
        assert_eq!(received(&mut receiver), [3, 2, 4]);
    }

    #[test]
    fn flapping_key_keeps_queue_bounded() {
        let (sender, mut receiver) = command_queue();
        for command in 0..10_000 {
            sender.send(if command % 2 == 0 { 'a' } else { 'b' }, command);
        }
        assert_eq!(sender.0.lock().by_sequence.len(), 2);
        assert_eq!(sender.0.lock().sequences.len(), 2);
        assert_eq!(received(&mut receiver), [9_998, 9_999]);
    }

    #[tokio::test]
    async fn receiver_wakes_up_and_drains_before_close() {
        let (sender, mut receiver) = command_queue();
        let task = tokio::spawn(async move {
            let mut commands = Vec::new();
            while let Some(command) = receiver.recv().await {
                commands.push(command);
            }
            commands
        });
        tokio::task::yield_now().await;
        sender.send('a', 1);
        tokio::task::yield_now().await;
        sender.send('b', 2);
        drop(sender);
        assert_eq!(task.await.unwrap(), [1, 2]);
    }
}
