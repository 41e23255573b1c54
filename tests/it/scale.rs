trials![nothing];
fn nothing() {}
