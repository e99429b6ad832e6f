//! Patterns of topics. A `*` stands for the rest of a name, at the end only.

use adsum_pubsub::Pattern;

/// Input: a pattern and a topic, a line each.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((pattern, topic)) = text.split_once('\n') else { return };
    let misplaced = pattern.find('*').is_some_and(|at| at + 1 != pattern.len());
    let Ok(read) = Pattern::new(pattern) else { return assert!(misplaced) };
    assert!(!misplaced);
    match (read.rest_of(topic), pattern.strip_suffix('*')) {
        (Some(rest), Some(prefix)) => assert_eq!(format!("{prefix}{rest}"), topic),
        (Some(rest), None) => assert_eq!((rest, topic), ("", pattern)),
        (None, Some(prefix)) => assert!(!topic.starts_with(prefix)),
        (None, None) => assert_ne!(topic, pattern),
    }
    assert_eq!(read.matches(topic), read.rest_of(topic).is_some());
}
