fn main() {
    let file = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let mut w = stratalog_index::TextIndexWriter::new(&["m".to_owned()], 4 << 30).unwrap();
    let mut n = 0usize; let mut next = 8 << 20;
    for l in text.lines() { w.add_row(&mut [(0, l)].into_iter()).unwrap(); n += l.len();
        if n > next { println!("{} MB text, {} MB used", n >> 20, w.used_bytes() >> 20); next *= 2; if n > 64 << 20 { break } } }
    println!("{} MB text, {} MB used", n >> 20, w.used_bytes() >> 20);
}
