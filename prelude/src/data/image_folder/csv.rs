//! Comma-separated values: text → rows of fields. Fields in quotation marks may hold commas, line ends and doubled marks.

/// The rows of a file that have any field; a mark that is never closed takes all that follows.
pub(super) fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let (mut row, mut field) = (Vec::new(), String::new());
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    let mut begun = false;
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => {
                quoted = true;
                begun = true;
            }
            ',' if !quoted => {
                row.push(std::mem::take(&mut field));
                begun = true;
            }
            '\r' if !quoted && letters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                if begun || !field.is_empty() {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                begun = false;
            }
            letter => field.push(letter),
        }
    }
    if begun || !field.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_hold_commas_and_line_ends() {
        let text = "file_name,text\r\n1.png,\"a, \"\"b\"\"\nc\"\n\n2.png,\n,x\n\"3.png\",d";
        let wanted = [
            vec!["file_name", "text"],
            vec!["1.png", "a, \"b\"\nc"],
            vec!["2.png", ""],
            vec!["", "x"],
            vec!["3.png", "d"],
        ];
        assert_eq!(rows(text), wanted);
        assert_eq!(rows(""), Vec::<Vec<String>>::new());
        assert_eq!(rows("\"never closed,\n"), [["never closed,\n"]]);
    }
}
