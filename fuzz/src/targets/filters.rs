//! The parameters of a client in the log: never what stands under the name of a secret, all else as it is, and
//! not much in all.

use adsum_channels::{Json, ParamFilter, Payload};
use serde_json::{Value, json};

const HIDDEN: &str = "hunter2";

/// Input: parameters.
pub(crate) fn run(data: &[u8]) {
    let filter = ParamFilter::default();
    let shown = filter.show(&Payload::Json(Json::from_encoded(data.to_vec())));
    assert!(shown.len() <= 1024 + "…".len());
    let Ok(mut value) = serde_json::from_slice::<Value>(data) else { return };
    hide(&mut value, &json!([{"in": HIDDEN}]));
    let said = value.to_string();
    let told = filter.show(&Payload::Json(Json::from_encoded(said.clone())));
    // Read again, since the last digit of a long number may change each time.
    let mut value = serde_json::from_str::<Value>(&said).expect("it was JSON");
    hide(&mut value, &"[FILTERED]".into());
    let whole = value.to_string();
    assert!(!told.contains(HIDDEN) || whole.contains(HIDDEN), "{told}");
    match whole.len() {
        ..=1024 => assert_eq!(told, whole),
        _ => assert_eq!(told, format!("{}…", &whole[..whole.floor_char_boundary(1024)])),
    }
}

/// Puts something in place of all that is secret.
fn hide(value: &mut Value, with: &Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| hide(value, with)),
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.to_lowercase();
                if ["password", "token", "secret"].iter().any(|part| name.contains(part)) {
                    *value = with.clone();
                } else {
                    hide(value, with);
                }
            }
        }
        _ => {}
    }
}
