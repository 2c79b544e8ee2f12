use super::ZoneView;

fn send<T: Send>(_: T) {}
#[test]
fn x() {
    fn y(v: &ZoneView, id: &caracal_core::id::SessionId) {
        send(v.session(id));
        send(v.signing_keys());
    }
    let _ = y;
}
